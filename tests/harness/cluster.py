"""Three servers on one PostgreSQL behind HAProxy or nginx as docs/scaling.rst describes them; each may be ended and started again."""

from __future__ import annotations

import re
import textwrap
from contextlib import ExitStack
from pathlib import Path

from tests.harness.postgresql import PostgreSQL
from tests.harness.proxies import Proxy
from tests.harness.serving import ROOT, Served, free_port

#: Only what a test on one machine cannot do without: all clients have one address, and the balancer is on it, too.
CONFIG = """\
trusted_proxies = ["127.0.0.1"]
[limits]
connections_per_address = 5000
send_per_second = 0
person_per_second = 0
query_per_second = 0
"""
COUNT = 3


class Cluster:
    """The servers; used as a context they end with it.

    :param postgres: with a new database for them.
    :ivar servers: in the order of their ports.
    """

    def __init__(self, directory: Path, postgres: PostgreSQL) -> None:
        self._directory = directory
        self._url = postgres.url(postgres.new_database())
        self._starts = 0
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "chat.toml").write_text(CONFIG)
        self.ports = [free_port() for _ in range(COUNT)]
        self.servers: list[Served] = []
        self._proxies = ExitStack()

    def __enter__(self) -> Cluster:
        for number in range(COUNT):
            self.servers.append(self.started(number))
            # The first one makes the schema; that the others may come at the same time is another test.
            self.servers[-1].wait_for("READY=1")
        return self

    def __exit__(self, *_: object) -> None:
        self._proxies.close()
        for server in self.servers:
            server.__exit__(None, None, None)

    def started(self, number: int) -> Served:
        """A new process at that port."""
        self._starts += 1
        return Served(
            self._directory / f"node-{number + 1}-{self._starts}",
            f"--listen=tcp:{self.ports[number]}:interface=127.0.0.1",
            f"--store={self._url}",
            f"--config={self._directory / 'chat.toml'}",
        )

    def behind_haproxy(self) -> str:
        """The URL of a balancer before them."""
        proxy = Proxy(self._made("haproxy"))
        return self._begun(proxy.haproxy_of(self._with_ports(documented("``haproxy.cfg``"), proxy.port)))

    def behind_nginx(self) -> str:
        """Likewise."""
        proxy = Proxy(self._made("nginx"))
        return self._begun(proxy.nginx_of(self._with_ports(documented("``http``"), proxy.port)))

    def _made(self, name: str) -> Path:
        directory = self._directory / name
        directory.mkdir()
        return directory

    def _begun(self, proxy: Proxy) -> str:
        self._proxies.enter_context(proxy)
        return f"ws://127.0.0.1:{proxy.port}"

    def _with_ports(self, text: str, port: int) -> str:
        """The documented configuration, for this machine."""
        for number, own in enumerate(self.ports, 1):
            text = text.replace(f"10.0.0.{number}:8080", f"127.0.0.1:{own}")
        return re.sub(r"\*:80\b|(?<=listen )80\b", f"127.0.0.1:{port}", text)


def documented(place: str) -> str:
    """The configuration in docs/scaling.rst that belongs there."""
    page = (ROOT / "docs/scaling.rst").read_text()
    found = re.search(rf"{place}::\n\n((?:    .*\n|\n)+)", page)
    assert found is not None, place
    return textwrap.dedent(found[1])
