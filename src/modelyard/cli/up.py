"""Both planes on this machine."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.output import Json, emit, err, out, reported_errors
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
    from modelyard.control.up import Running
    from modelyard.home import Home

app = typer.Typer()


@app.command()
def up(
    port: Annotated[int, typer.Option("--port", help="Where predictions are answered; 0: any free port.")] = 8080,
    control_port: Annotated[int, typer.Option("--control-port", help="The control API; 0: any free port.")] = 0,
    host: Annotated[str, typer.Option("--host", help="The address to answer predictions on.")] = "127.0.0.1",
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Let other machines in. There are no keys and no TLS yet.")
    ] = False,
    workers: Workers = None,
    grpc_port: GrpcPort = None,
    fsync: Durability = None,
    objective_ms: Objective = None,
    max_body: MaxBody = None,
    max_rows: MaxRows = None,
    drain_seconds: DrainSeconds = None,
    admin_token_file: AdminTokenFile = None,
    memory_budget_mb: MemoryBudget = None,
    as_json: Json = False,
) -> None:
    """Start both planes, the shipper of records and the monitor on this machine, until Ctrl-C.

    Example: modelyard up --port 8080
    """
    from modelyard.control.up import Options, supervise
    from modelyard.home import Home

    serving = words(
        workers, grpc_port, fsync, objective_ms, max_body, max_rows, drain_seconds, admin_token_file, memory_budget_mb
    )
    home, stop = Home.locate(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda *_: stop.set())
    with reported_errors(as_json):
        supervise(
            home,
            Options(host, port, control_port, allow_remote, serving),
            stop,
            tell=lambda line: err.print(line, markup=False),
            ready=lambda running: emit(running, as_json, lambda: _greet(running, home)),
        )


def _greet(running: Running, home: Home) -> None:
    data, control = running.data.url, running.control.url
    out.print(f"[bold green]Modelyard is up[/] (pid {running.pid}); Ctrl-C stops it")
    out.print(f"  predictions  {data}      POST {data}/predict/DEPLOYMENT")
    out.print(f"  control API  {control}/docs")
    out.print(f"  home         {home.path}", markup=False)
    out.print("next: modelyard deploy NAME@V --to DEPLOYMENT")
