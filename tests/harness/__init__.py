"""What the tests are built with; nothing here is a test.

In memory, without sockets and without waiting:

* ``chat``: the core with sessions on a clock, a store that holds its work, clients; for ``test_core_*``
* ``frames``: the frames in what a server has written; for ``chat`` and ``ws_memory``
* ``http_memory``: bytes of a request in, bytes of an answer out; for ``test_web_*``
* ``http_chat``: a test case with all of HTTP before a chat, on ``http_memory``; for ``test_web_*``
* ``ws_memory``: frames, and a WebSocket on Twisted's real transport over a socket that is an object; for ``test_websocket_*``
* ``sqlite_files``: a database file, and stores on it; for ``test_stores_sqlite*``
* ``counting``: how many instructions something takes; for tests that a cost does not grow with what there is
* ``hiding``: attributes of Twisted that are missing for the server; for ``test_internals_*``
* ``twisted_chat.testing.MemoryChat``: the whole server and the public client, with faults; for ``test_client_*``
* ``clients``: a test case with that and its clients
* ``network``: a network before a server that does something else with WebSockets; in memory, and for ``blocking``

With real sockets and processes, for ``test_live_*``:

* ``serving``: a server in a process of its own, with its ready line and its end; ``ServedCase``: one for all tests of a class
* ``servers``: the same to be killed, traced and started again, and a small blocking JSON client
* ``waiting``: waits with a deadline for a condition in another process
* ``postgresql``: a real PostgreSQL; ``cluster``: three servers on one behind HAProxy or nginx
* ``certificates``: a self-signed certificate
* ``programs``: WebSocket clients of Node and Bun, talked to by lines
* ``browser``: server, a proxy that can fail, and Chromium by playwright; for ``test_live_page*`` and ``docs/screenshots``
* ``listening``: connections to a port go to a function; for ``browser`` and ``injecting``
* ``injecting``: the way to the server by which a page gets a script of the test
* ``engines``: Firefox and WebKit by WebDriver
* ``proxies``: nginx and HAProxy
* ``blocking``: a proxy that lets HTTP through and no WebSocket
* ``chromium``: one page of Chromium by its DevTools protocol; for tests that need no playwright
* ``node_modules``: the packages of ``package-lock.json``, installed when they are wanted
* ``long``: runs that take a minute, begun when the tests begin
* ``echo``, ``fuzzing``, ``store_driver``: programs that tests start: a server that echoes, the Autobahn test-suite, a store
"""
