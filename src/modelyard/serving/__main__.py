"""``python -m modelyard.serving``: one data plane, from a bundle folder or from the address of a desired state."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from modelyard.domain.desired import Deployment
from modelyard.domain.names import check_name
from modelyard.errors import ModelyardError
from modelyard.home import Home
from modelyard.logs import configure
from modelyard.serving.rights import find_token
from modelyard.serving.server import DRAIN_SECONDS, MAX_BODY_BYTES, Options

_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m modelyard.serving", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--bundle", type=Path, metavar="DIR", help="serve this one bundle")
    what.add_argument("--desired", metavar="URL", help="serve what the desired state at this address says")
    parser.add_argument("--name", help="name of the deployment (with --bundle)")
    parser.add_argument("--model", help="name of the model (with --bundle); the deployment's name without it")
    parser.add_argument("--version", type=int, default=1, help="version number to answer with (with --bundle)")
    parser.add_argument("--digest", default="", help="digest that the bundle must have (with --bundle)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on; 0 picks a free one")
    parser.add_argument("--grpc-port", type=int, metavar="PORT", help="port for gRPC; 0 picks a free one")
    parser.add_argument("--fd", type=int, metavar="N", help="an inherited listening socket, in place of host and port")
    parser.add_argument("--allow-remote", action="store_true", help="allow an address that other machines can call")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that answer; one a core without")
    parser.add_argument(
        "--announce", type=Path, metavar="FILE", help="write address and process id here, once listening"
    )
    parser.add_argument(
        "--records", type=Path, metavar="DIR", help="folder for the prediction log; in the home otherwise"
    )
    parser.add_argument(
        "--fsync", choices=("never", "always"), default="never", help="whether records are to survive a loss of power"
    )
    parser.add_argument("--home", type=Path, metavar="DIR", help="Modelyard's home folder")
    parser.add_argument(
        "--admin-token-file", type=Path, metavar="FILE", help="holds the token of those who may load and unload"
    )
    parser.add_argument(
        "--memory-budget-mb",
        type=int,
        default=0,
        metavar="MB",
        help="unload what was not asked for longest when more memory is held, and load it again on request; 0: never",
    )
    parser.add_argument("--python", type=Path, metavar="PATH", help="interpreter for native forms; rebuilt otherwise")
    parser.add_argument("--max-body", type=int, default=MAX_BODY_BYTES, metavar="BYTES", help="largest request body")
    parser.add_argument("--max-rows", type=int, metavar="N", help="most rows a request may have")
    parser.add_argument("--objective-ms", type=float, metavar="MS", help="latency to keep where a deployment has none")
    parser.add_argument(
        "--drain-seconds", type=float, default=DRAIN_SECONDS, metavar="S", help="what open requests get at the end"
    )
    parser.add_argument(
        "--grace-seconds", type=float, default=0.0, metavar="S", help="how long it says it is not ready before the end"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser


def options(arguments: Sequence[str] | None = None) -> Options:
    """The command line as options."""
    return _options(_parser(), arguments)[0]


def _options(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> tuple[Options, str | None]:
    given = parser.parse_args(arguments)
    deployment = None
    if given.bundle is not None:
        if not given.name:
            parser.error("--bundle needs --name")
        check_name(given.name, "deployment")
        model = check_name(given.model or given.name)
        deployment = Deployment(given.name, model, given.version, given.digest, str(given.bundle.absolute()))
    if given.workers < 0:
        parser.error("--workers must be 1 or more, or 0 for one a core")
    if given.memory_budget_mb < 0:
        parser.error("--memory-budget-mb must be a number of megabytes, or 0 for no budget")
    return Options(
        home=Home.locate(given.home),
        deployment=deployment,
        desired=given.desired,
        host=given.host,
        port=given.port,
        fd=given.fd,
        grpc_port=given.grpc_port,
        workers=given.workers,
        admin=find_token(given.admin_token_file),
        memory_budget=given.memory_budget_mb * 1_000_000 or None,
        announce=given.announce,
        records=given.records,
        python=given.python,
        allow_remote=given.allow_remote,
        max_body=given.max_body,
        max_rows=given.max_rows,
        objective_ms=given.objective_ms,
        fsync=given.fsync,
        drain_seconds=given.drain_seconds,
        grace_seconds=given.grace_seconds,
    ), given.worker


def _as_worker(read: Options, where: str) -> int:
    """Be one worker of a supervisor that could not fork; `where` says which, with which descriptors and boards."""
    from modelyard.serving.slots import Slots
    from modelyard.serving.worker import Place, work

    numbers, _, folder = where.partition(":")
    index, listener, slots, *grpc = map(int, numbers.split(","))
    taken = socket.socket(fileno=listener)
    taken.setblocking(False)
    reserved = socket.socket(fileno=grpc[0]) if grpc else None
    return work(Place(read, taken, reserved, Slots.inherited(slots), index, os.getppid(), Path(folder)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until stopped; 2 when it cannot be started as asked."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        configure()
        read, worker = _options(_parser(), words)
        if worker is not None:
            return _as_worker(read, worker)
        from modelyard.serving.supervisor import serve

        import modelyard.runtime.onnx  # noqa: F401 - so that workers share it  # isort: skip

        return serve(read, words)
    except ModelyardError as error:
        logging.getLogger("modelyard.serving").critical("%s", error)
        return 2


if __name__ == "__main__":
    # Read when numpy is imported, which is later: workers share the cores, none of them may spread over all.
    os.environ.update(dict.fromkeys(_POOLS, "1"))
    sys.exit(main())
