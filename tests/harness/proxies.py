"""nginx and HAProxy in front of a server, each in a process of its own with its own files."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType

from twisted.trial.unittest import SkipTest

from tests.harness.serving import free_port
from tests.harness.waiting import PATIENCE, wait_until

NGINX = """
daemon off;
user root;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{servers}
}}
"""
NGINX_SERVER = """
    server {{
        listen 127.0.0.1:{port}{tls};
{rules}
    }}
"""
HAPROXY = """
defaults
    mode {mode}
    timeout connect 5s
    timeout client {idle}
    timeout server {idle}
    timeout tunnel {idle}
frontend front
    bind 127.0.0.1:{port}
    default_backend chat
backend chat
{rules}
"""


class Proxy:
    """A proxy that listens on a port of the loopback; ends with the context.

    :ivar port: where it listens.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._command: list[str] = []

    def nginx(self, rules: str, tls: tuple[Path, Path] | None = None) -> Proxy:
        """nginx with these rules in its ``server``.

        :param tls: key and certificate, if it speaks TLS.
        """
        if tls is not None:
            rules += f"\nssl_certificate_key {tls[0]};\nssl_certificate {tls[1]};"
        return self.nginx_of(NGINX_SERVER.format(port=self.port, rules=rules, tls="" if tls is None else " ssl"))

    def nginx_of(self, servers: str) -> Proxy:
        """nginx with this in its ``http``; something in it listens at :attr:`port`."""
        text = NGINX.format(directory=self.directory, servers=servers)
        return self._begin("nginx", text, "-p", str(self.directory), "-e", f"{self.directory}/error.log", "-c")

    def haproxy(self, rules: str, *, mode: str = "http", idle: str = "60s") -> Proxy:
        """HAProxy with these rules in its ``backend``."""
        return self.haproxy_of(HAPROXY.format(port=self.port, rules=rules, mode=mode, idle=idle))

    def haproxy_of(self, config: str) -> Proxy:
        """HAProxy with this configuration; something in it listens at :attr:`port`."""
        return self._begin("haproxy", config, "-db", "-f")

    def _begin(self, program: str, text: str, *arguments: str) -> Proxy:
        path = shutil.which(program, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/bin")
        if path is None:
            raise SkipTest(f"{program} is not installed")
        config = self.directory / f"{program}.conf"
        config.write_text(text)
        self._command = [path, *arguments, str(config)]
        return self

    def __enter__(self) -> Proxy:
        with (self.directory / "proxy.log").open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        try:
            wait_until(self._listens, bool, PATIENCE)
        except AssertionError:
            self.__exit__(None, None, None)
            raise AssertionError((self.directory / "proxy.log").read_text()) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError((self.directory / "proxy.log").read_text())
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True
