"""Object servers that others wrote, where they are installed: SeaweedFS from its wheel, moto from its own
package, Azurite from npm. Each listens on loopback alone, and is ended by its process id."""

from __future__ import annotations

import base64
import contextlib
import hmac
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

from tests.support.object_server import ACCOUNT, AZURE_KEY, BUCKET

_BIN = Path(sys.executable).parent
SEAWEED = shutil.which("weed", path=str(_BIN))
MOTO = shutil.which("moto_server", path=str(_BIN))
AZURITE = shutil.which("azurite-blob")
_PORTS = ("s3", "master", "volume", "filer", "webdav", "admin")
_OFF = (
    *("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
    "-master.telemetry=false",
)
_PATIENCE = 60.0
"""Seconds to start. It takes one; a busy machine takes longer."""


@contextmanager
def seaweed() -> Iterator[str]:
    """The address of a server with an empty bucket, until the block ends. It lets everybody in."""
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    with _folder() as folder:
        (folder / "data").mkdir()
        command = [
            *(SEAWEED, "mini", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-{name}.port={port}" for name, port in ports.items()),
            *_OFF,
        ]
        with _running(command, folder) as process:
            endpoint = f"http://127.0.0.1:{ports['s3']}"
            _answered(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT"), process)
            yield endpoint


@contextmanager
def moto() -> Iterator[str]:
    """moto's S3 with an empty bucket."""
    (port,) = _free_ports(1)
    with _folder() as folder, _running([MOTO, "-H", "127.0.0.1", "-p", str(port)], folder) as ours:
        endpoint = f"http://127.0.0.1:{port}"
        _answered(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT"), ours)
        yield endpoint


@contextmanager
def azurite() -> Iterator[str]:
    """Azurite with an empty container, whose address does not name the account."""
    (port,) = _free_ports(1)
    options = ("--silent", "--skipApiVersionCheck", "--disableTelemetry", "--inMemoryPersistence")
    with _folder() as folder:
        command = [AZURITE, "--blobHost", "127.0.0.1", "--blobPort", str(port), *options]
        with _running(command, folder) as process:
            endpoint = f"http://127.0.0.1:{port}"
            _answered(_container(endpoint), process)
            yield endpoint


def _container(endpoint: str) -> urllib.request.Request:
    """The signed request that makes a container of Azure."""
    date = formatdate(usegmt=True)
    lines = ("PUT", *[""] * 11, f"x-ms-date:{date}", "x-ms-version:2021-08-06")
    text = "\n".join((*lines, f"/{ACCOUNT}/{ACCOUNT}/{BUCKET}", "restype:container"))
    digest = hmac.digest(base64.b64decode(AZURE_KEY), text.encode(), "sha256")
    headers = {
        "x-ms-date": date,
        "x-ms-version": "2021-08-06",
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
        "Content-Length": "0",
    }
    return urllib.request.Request(
        f"{endpoint}/{ACCOUNT}/{BUCKET}?restype=container", method="PUT", headers=headers
    )


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="objects-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(command: Sequence[str | None], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program, without the credentials of whoever runs the tests."""
    words = [word for word in command if word is not None]
    hidden = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            words, stdout=log, stderr=log, env=hidden | {"HOME": str(folder)}, cwd=folder
        )
        try:
            yield process
        finally:
            process.kill()  # a polite end takes SeaweedFS twelve seconds
            process.wait()


def _answered(request: urllib.request.Request, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.05)


def _free_ports(number: int) -> list[int]:
    """Ports that nobody has. The server adds 10,000 for a second one each, so they lie below 30,000."""
    ports: list[int] = []
    while len(ports) < number:
        port = random.randrange(15_000, 30_000)
        with contextlib.suppress(OSError):
            for each in (port, port + 10_000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", each))
            ports.append(port)
    return ports
