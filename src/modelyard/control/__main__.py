"""Run the control plane: ``python -m modelyard.control --home DIR --port 0 --announce FILE``."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import socket
import sys
from pathlib import Path

import uvicorn

from modelyard import logs
from modelyard.control import announce
from modelyard.control.api import create_app
from modelyard.control.closing import Closer
from modelyard.control.driving import Driving
from modelyard.errors import ModelyardError
from modelyard.monitoring.alerts.courier import Courier
from modelyard.registry import Registry

HOST = "127.0.0.1"
"""The control plane decides what runs; until it knows who asks, it answers this machine only."""


class AnnouncedServer(uvicorn.Server):
    """Writes its address to a file once it listens."""

    def __init__(self, config: uvicorn.Config, url: str, file: Path | None) -> None:
        super().__init__(config)
        self._url, self._file = url, file

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self._file is not None and self.started:
            announce.write(self._file, announce.Announcement(self._url, os.getpid()))


def parse() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m modelyard.control", description="The control plane's HTTP API.")
    parser.add_argument("--home", type=Path, default=None)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--port", type=int, default=0, help="0: any free one")
    where.add_argument("--fd", type=int, default=None, help="a listening socket inherited under this number")
    parser.add_argument("--announce", type=Path, default=None, help="where to write the address once listening")
    parser.add_argument(
        "--routes", action="append", default=[], metavar="MODULE", help="a module whose `add_routes` adds routes"
    )
    return parser.parse_args()


def listening(port: int, fd: int | None) -> socket.socket:
    """A listening socket: the inherited one, or a new one on loopback."""
    if fd is not None:
        return socket.socket(fileno=fd)
    return socket.create_server((HOST, port))


def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    logs.configure()
    for chatty in ("alembic", "httpx"):  # they tell every step of every migration, and every look at the data plane
        logging.getLogger(chatty).setLevel(logging.WARNING)
    with Registry.open(options.home) as registry, listening(options.port, options.fd) as listener:
        url = f"http://{HOST}:{listener.getsockname()[1]}"
        more = [importlib.import_module(name).add_routes for name in options.routes]
        config = uvicorn.Config(create_app(registry, more), log_level="warning", timeout_graceful_shutdown=5)
        courier = Courier(registry.database)
        courier.start()
        try:
            with Closer(registry), Driving(registry):
                AnnouncedServer(config, url, options.announce).run(sockets=[listener])
        finally:
            courier.stop()


def main() -> int:
    """Serve until told to stop; 2 when it cannot be started as asked."""
    try:
        serve(parse())
    except ModelyardError as error:
        sys.stderr.write(f"the control plane cannot start: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
