"""Servers for tests: one that runs already, else one of our own, else a failure that says why."""

from __future__ import annotations

import contextlib
import functools
import getpass
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 60.0
BUCKET = "rxstream-tests"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def missing(what: str, variable: str, remedy: str) -> None:
    pytest.fail(
        f"these tests need {what}, and none runs here nor is one installed: {remedy}, or name a "
        f"running one with {variable}=URL",
        pytrace=False,
    )


@contextlib.contextmanager
def running(
    *command: str, user: int | None = None, kill: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A server as a child process, ended with the block."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user
    )
    try:
        yield process
    finally:
        process.kill() if kill else process.terminate()
        process.wait(30)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until somebody listens."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    pytest.fail(f"{process.args} did not start", pytrace=False)


@contextlib.contextmanager
def redis_server(*options: str, folder: Path | None = None, kill: bool = False) -> Iterator[str]:
    """A Redis or Valkey of our own, by URL."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        missing("Redis or Valkey", "RXSTREAM_TEST_REDIS", "apt-get install redis-server")
        raise AssertionError
    port = free_port()
    with tempfile.TemporaryDirectory() as temporary:
        where = str(folder or temporary)
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", where]
        with running(*command, *(options or ("--save", "")), kill=kill) as process:
            wait_for(port, process)
            yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def redis_url() -> Iterator[str]:
    """A Redis to be used beside others."""
    named = os.environ.get("RXSTREAM_TEST_REDIS")
    if named is not None:
        yield named
    elif _answers(6379, b"PING\r\n", b"+PONG"):
        yield "redis://127.0.0.1:6379/0"
    else:
        with redis_server() as url:
            yield url


def _answers(port: int, question: bytes, answer: bytes) -> bool:
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), 1) as connection,
    ):
        connection.sendall(question)
        return connection.recv(len(answer)) == answer
    return False


@contextlib.contextmanager
def postgres_url() -> Iterator[str]:
    """A PostgreSQL database to be used beside others."""
    import psycopg

    named = os.environ.get("RXSTREAM_TEST_POSTGRES")
    user = getpass.getuser()
    tries = [
        f"postgresql://{u}@127.0.0.1:5432/{db}" for u in (user, "postgres") for db in ("test", u)
    ]
    for url in [named] if named is not None else tries:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.Error:
            if named is not None:
                raise
            continue
        yield url
        return
    with postgres_server() as url:
        yield url


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """A PostgreSQL of our own, by URL."""
    programs = _postgres_programs()
    if programs is None:
        missing("PostgreSQL", "RXSTREAM_TEST_POSTGRES", "apt-get install postgresql")
        raise AssertionError
    port, user = free_port(), _not_root()
    folder = Path(tempfile.mkdtemp())
    try:
        if user is not None:
            os.chown(folder, user, -1)
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "tests", "-A", "trust", "-N"],
            check=True,
            capture_output=True,
            user=user,
        )
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        options = [f"--{name}={value}" for name, value in settings.items()]
        with running(
            str(programs / "postgres"), "-D", str(folder / "data"), *options, user=user
        ) as p:
            wait_for(port, p)
            _wait_until_it_answers(url := f"postgresql://tests@127.0.0.1:{port}/postgres")
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_it_answers(url: str) -> None:
    import psycopg

    ends = time.monotonic() + PATIENCE
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)
        else:
            return


def _postgres_programs() -> Path | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("postgres")
    folders += [Path(found).resolve().parent] if found else []
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


def _not_root() -> int | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    return 65534


@contextlib.contextmanager
def s3_endpoint() -> Iterator[str]:
    """An S3 of our own with an empty bucket, in a process of its own."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-c", MOTO, str(port)]
    with running(*command) as process:
        wait_for(port, process)
        url = f"http://127.0.0.1:{port}"
        urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT")).close()
        yield url


MOTO = """
import sys
from moto.s3.responses import S3Response
from moto.server import main
from tests.adapters.services import one_at_a_time

S3Response.put_object = one_at_a_time(S3Response.put_object)
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""


def one_at_a_time(put: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What moto does to put an object, as S3 does it.

    Moto looks whether the condition holds, and then puts: another thread may come between, and of
    two that put on the same condition both win.
    """
    lock = threading.Lock()

    @functools.wraps(put)
    def put_object(response: Any) -> Any:
        with lock:
            return put(response)

    return put_object
