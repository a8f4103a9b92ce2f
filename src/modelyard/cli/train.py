"""A training program as a recorded run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.output import Json, emit, err, reported_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelyard.runs.program import Alongside, Done

app = typer.Typer()


@app.command()
def train(
    command: Annotated[list[str], typer.Argument(metavar="-- PROGRAM [ARGS]...", help="What to run.")],
    name: Annotated[str | None, typer.Option("--name", help="What the run is called.")] = None,
    data: Annotated[
        list[str] | None, typer.Option("--data", metavar="NAME@V", help="A dataset version that it is meant to read.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="A text to search by.")] = None,
    note: Annotated[str, typer.Option("--note", help="A line to keep with the run.")] = "",
    mlflow: Annotated[
        bool, typer.Option("--mlflow/--no-mlflow", help="Take in what the program logs with MLflow.")
    ] = True,
    vault: Annotated[
        bool, typer.Option("--vault", help="Keep the wheels of what it packs, as modelyard vault add does.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a training program and record it: code, data, environment, parameters, metrics, output, outcome.

    The exit code is the program's. With --json what it prints goes to standard error. A program that logs with MLflow
    has its run, parameters, metrics and models taken in as this run.

    Example: modelyard train -- python train.py --depth 6

    Example: modelyard train --name flights-delay --data flights@2 -- python train.py
    """
    from modelyard.runs.program import train as recorded

    with reported_errors(as_json):
        tags = tags_of(tag)
        out = sys.stderr.buffer if as_json else sys.stdout.buffer
        streams = (out, sys.stderr.buffer)
        also = _alongside() if mlflow else ()
        done = recorded(command, streams=streams, name=name, data=data or (), tags=tags, note=note, alongside=also)
        if vault and done.record is not None:
            _keep_wheels(done.record.versions)
        emit(_document(done), as_json, lambda: _tell(done))
    if done.exit_code:
        raise typer.Exit(done.exit_code)


def _alongside() -> Sequence[Alongside]:
    from modelyard.mlflow.alongside import MlflowAlongside

    return (MlflowAlongside(say=lambda words: err.print(words, style="dim", markup=False)),)


def _keep_wheels(refs: Sequence[str]) -> None:
    """Of all versions; those that cannot be had are told of, and change nothing about the run."""
    from modelyard.cli.vault import keep_wheels
    from modelyard.errors import EnvironmentFailed

    for ref in refs:
        try:
            left_out = keep_wheels(ref).vault.left_out
        except EnvironmentFailed as none_at_all:
            err.print(str(none_at_all), markup=False)
            continue
        for pin, why in left_out.items():
            err.print(f"{ref}: no wheel is kept of {pin}: {why}", markup=False)


def tags_of(texts: list[str] | None) -> dict[str, str]:
    """``NAME=VALUE``, one after the other."""
    if wrong := next((text for text in texts or () if "=" not in text), None):
        raise typer.BadParameter(f"{wrong!r}: write NAME=VALUE")
    return {name: value for name, _, value in (text.partition("=") for text in texts or ())}


def _document(done: Done) -> Any:
    return {"id": done.run_id, "exit_code": done.exit_code, "run": done.record}


def _tell(done: Done) -> None:
    """On standard error: standard output is the program's."""
    if done.record is None:
        return
    said = ", ".join(f"{name} {metric.last:g}" for name, metric in list(done.record.metrics.items())[:6])
    made = f"; made {', '.join(done.record.versions)}" if done.record.versions else ""
    err.print(f"run {done.run_id} {done.record.outcome.state}{f': {said}' if said else ''}{made}", markup=False)
