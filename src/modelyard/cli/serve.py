"""One version, served with nothing else running."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.output import Json, TrustCode, emit, err, out, reported_errors
from modelyard.cli.plane import (
    AdminTokenFile,
    DrainSeconds,
    Durability,
    GrpcPort,
    MaxBody,
    MaxRows,
    MemoryBudget,
    Objective,
    Workers,
    words,
)

if TYPE_CHECKING:
    from modelyard.home import Home

app = typer.Typer()


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What is to be served, and whether a parity report says that it may be."""

    model: str
    version: int
    digest: str
    bundle: Path
    proven: bool | None


@app.command()
def serve(
    ref: Annotated[str, typer.Argument(metavar="NAME@V|BUNDLE", help="A registered version, or a bundle's folder.")],
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0 picks a free one.")] = 8080,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    name: Annotated[
        str | None, typer.Option("--name", help="What clients call it; the model's name otherwise.")
    ] = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Allow an address that other machines can call.")
    ] = False,
    records: Annotated[
        Path | None, typer.Option("--records", metavar="DIR", help="Where records go, if not to the home's folder.")
    ] = None,
    workers: Workers = None,
    grpc_port: GrpcPort = None,
    fsync: Durability = None,
    objective_ms: Objective = None,
    max_body: MaxBody = None,
    max_rows: MaxRows = None,
    drain_seconds: DrainSeconds = None,
    admin_token_file: AdminTokenFile = None,
    memory_budget_mb: MemoryBudget = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Serve one version until Ctrl-C, with no control plane. It answers once it has reproduced its golden set.

    Example: modelyard serve flights-delay@3 --port 8080
    """
    with reported_errors(as_json):
        from modelyard.domain.names import check_name
        from modelyard.home import Home
        from modelyard.serving.server import check_host, listen, url_of

        more = words(
            workers,
            grpc_port,
            fsync,
            objective_ms,
            max_body,
            max_rows,
            drain_seconds,
            admin_token_file,
            memory_budget_mb,
        )
        home = Home.locate()
        chosen = _choose(ref, home, trust_code)
        called = check_name(name or chosen.model, "deployment")
        listener = listen(check_host(host, allow_remote), port)
        listener.set_inheritable(True)
    url = url_of(listener)
    document = {"url": url, "deployment": called, "model": chosen.model, "version": chosen.version, "pid": os.getpid()}
    emit(document, as_json, lambda: _tell(chosen, called, url))
    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", "modelyard.serving", "--fd", str(listener.fileno()), "--name", called]
    command += ["--bundle", str(chosen.bundle), "--model", chosen.model, "--version", str(chosen.version)]
    command += ["--digest", chosen.digest, "--home", str(home.path), *(["--allow-remote"] if allow_remote else [])]
    command += ["--records", str(records.absolute())] if records is not None else []
    command += more
    # The same process goes on as the server: signals and exit status are its own.
    os.execv(sys.executable, command)  # noqa: S606


def _choose(ref: str, home: Home, trust_code: bool) -> _Chosen:
    from modelyard.finding import find_bundle, names_folder

    if names_folder(ref):
        bundle = find_bundle(Path(ref), home, trust_code=trust_code)
        return _Chosen(bundle.manifest.name, 1, bundle.digest, bundle.path.absolute(), None)
    from modelyard.registry import Registry

    with Registry.open(home) as registry:
        version = registry.version(ref)
        bundle = registry.bundle(version)
        return _Chosen(version.model, version.number, bundle.digest, bundle.path, registry.proof(version) is not None)


def _tell(chosen: _Chosen, called: str, url: str) -> None:
    out.print(f"serving [bold]{chosen.model}@{chosen.version}[/] as {called} at {url}; Ctrl-C stops")
    out.print(f"""  curl {url}/predict/{called} -d '{{"rows": [{{...}}]}}'""", markup=False)
    if chosen.proven is False:
        err.print(f"not proven yet: `modelyard verify {chosen.model}@{chosen.version}`", markup=False)
