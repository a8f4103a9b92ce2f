"""``python -m modelyard.serving``: one data plane, from a bundle folder or from the address of a desired state."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from modelyard.domain.desired import Deployment
from modelyard.domain.names import check_name
from modelyard.errors import ModelyardError
from modelyard.home import Home
from modelyard.serving.app import MAX_BODY_BYTES
from modelyard.serving.server import Options, serve


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
    parser.add_argument(
        "--announce", type=Path, metavar="FILE", help="write address and process id here, once listening"
    )
    parser.add_argument(
        "--records", type=Path, metavar="DIR", help="folder for the prediction log; in the home otherwise"
    )
    parser.add_argument("--fd", type=int, metavar="N", help="an inherited listening socket, in place of host and port")
    parser.add_argument("--home", type=Path, metavar="DIR", help="Modelyard's home folder")
    parser.add_argument("--python", type=Path, metavar="PATH", help="interpreter for native forms; rebuilt otherwise")
    parser.add_argument("--max-body", type=int, default=MAX_BODY_BYTES, metavar="BYTES", help="largest request body")
    parser.add_argument("--allow-remote", action="store_true", help="allow an address that other machines can call")
    return parser


def options(arguments: Sequence[str] | None = None) -> Options:
    """The command line as options."""
    parser = _parser()
    given = parser.parse_args(arguments)
    deployment = None
    if given.bundle is not None:
        if not given.name:
            parser.error("--bundle needs --name")
        check_name(given.name, "deployment")
        model = check_name(given.model or given.name)
        deployment = Deployment(given.name, model, given.version, given.digest, str(given.bundle.absolute()))
    return Options(
        home=Home.locate(given.home),
        deployment=deployment,
        desired=given.desired,
        host=given.host,
        port=given.port,
        fd=given.fd,
        announce=given.announce,
        records=given.records,
        python=given.python,
        allow_remote=given.allow_remote,
        max_body=given.max_body,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until stopped; 2 when it cannot be started as asked."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        serve(options(arguments))
    except ModelyardError as error:
        logging.getLogger("modelyard.serving").critical("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
