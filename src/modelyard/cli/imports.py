"""Taking in what was made elsewhere: bundles, and what MLflow has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from modelyard.cli.output import Json, emit, err, out, reported_errors
from modelyard.cli.registry import import_

if TYPE_CHECKING:
    from modelyard.mlflow.importing import ModelTaken, Options
    from modelyard.mlflow.taking import Taken
    from modelyard.mlflow.tracking import Chosen, TrackingStore


class _FileByDefault(TyperGroup):
    """``import mlflow …`` is a command of its own; any other first word is a file."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Put the name of the command for files in front, unless another command or help is asked for."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["bundle", *args]
        return super().parse_args(ctx, args)


app = typer.Typer()
imports_app = typer.Typer(cls=_FileByDefault, no_args_is_help=True)
app.add_typer(imports_app, name="import")


@imports_app.callback()
def _import() -> None:
    """Register a bundle from a file or folder (modelyard import FILE), or take in what MLflow has.

    Example: modelyard import flights-delay-3.zip

    Example: modelyard import mlflow mlruns/ --trust-code
    """


imports_app.command("bundle")(import_)


@imports_app.command("mlflow")
def mlflow(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A model directory, tracking folder or tracking database."),
    ],
    name: Annotated[str | None, typer.Option("--name", help="What the model is called here.")] = None,
    experiment: Annotated[list[str] | None, typer.Option("--experiment", help="Its runs and their models.")] = None,
    run: Annotated[list[str] | None, typer.Option("--run", help="This run, and all models that it logged.")] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="NAME[/V]", help="Registered versions, and their runs.")
    ] = None,
    artifacts: Annotated[
        Path | None, typer.Option("--artifacts", exists=True, file_okay=False, help="Where artefacts lie, besides.")
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option("--sample", exists=True, dir_okay=False, help="Rows in place of the model's input example."),
    ] = None,
    flavour: Annotated[
        str | None, typer.Option("--flavour", help="sklearn, xgboost, lightgbm, onnx or python_function.")
    ] = None,
    python: Annotated[str | None, typer.Option("--python", metavar="3.12", help="In place of the model's own.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("--with", metavar="NAME==V", help="In place of what its requirements say.")
    ] = None,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Install what the model asks for and run the code that it brings.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take in what MLflow has: a model directory, or the runs and registered models of a tracking folder or database.

    Models become versions that verify and serve like any other. They are loaded in a process of their own, in an
    environment made from their requirements. The same again takes in nothing twice.

    Example: modelyard import mlflow mlruns/1/models/m-4711/artifacts --name churn --trust-code

    Example: modelyard import mlflow sqlite:///mlflow.db --experiment churn

    Example: modelyard import mlflow mlruns --model churn/3 --trust-code
    """
    from modelyard.mlflow.importing import Options
    from modelyard.mlflow.tracking import Chosen

    chosen = Chosen(tuple(experiment or ()), tuple(run or ()), tuple(model or ()))
    with reported_errors(as_json):
        options = Options(name, sample, flavour, python, tuple(override or ()), None, {}, trust_code)
        opened = _opened(source, chosen, artifacts)
        if isinstance(opened, Path):
            _import_directory(opened, options, as_json)
            return
        try:
            whole = _import_tracking(opened, chosen, options, as_json)
        finally:
            opened.close()
    if not whole:
        raise typer.Exit(1)


def _opened(source: str, chosen: Chosen, artifacts: Path | None) -> Path | TrackingStore:
    """A model's directory, or the store that `source` names."""
    from modelyard.mlflow.sources import open_source

    return open_source(source, is_selected=not chosen.is_all, artifacts=artifacts)


def _import_directory(folder: Path, options: Options, as_json: bool) -> None:
    from modelyard.mlflow.importing import import_model
    from modelyard.registry import Registry

    with Registry.open() as registry:
        with err.status("reading", spinner="dots") as status:
            taken = import_model(folder, options, registry, status.update)
        emit(_document(taken), as_json, lambda: _tell(taken))


def _import_tracking(store: TrackingStore, chosen: Chosen, options: Options, as_json: bool) -> bool:
    from modelyard.home import Home
    from modelyard.mlflow.taking import Taker
    from modelyard.registry import Registry
    from modelyard.runs.yard import opened

    with Registry.open() as registry, opened(Home.locate()) as yard:
        with err.status("reading", spinner="dots") as status:
            taken = Taker(store, yard, registry, options, status.update).take(chosen)
        emit(taken, as_json, lambda: _tell_all(taken))
    return taken.is_whole


def _document(taken: ModelTaken) -> dict[str, Any]:
    version = taken.version
    return {
        "ref": version.ref,
        "digest": version.digest,
        "runtime": version.runtime,
        "flavour": taken.flavour,
        "is_new": taken.is_new,
        "notes": taken.notes,
    }


def _tell(taken: ModelTaken) -> None:
    ref = taken.version.ref
    if not taken.is_new:
        out.print(f"{ref} is this model already", markup=False)
        return
    for note in taken.notes:
        err.print(f"note: {note}", markup=False)
    out.print(f"{ref} is registered, from flavour {taken.flavour}; next: modelyard verify {ref}", markup=False)


def _tell_all(taken: Taken) -> None:
    new, known = ([one for one in taken.runs if one.became == became] for became in ("new", "known"))
    out.print(f"{len(new)} new runs, {len(known)} known already", markup=False)
    for run in taken.runs:
        if run.why:
            err.print(f"run {run.mlflow} ({run.name}): {run.became}: {run.why}", markup=False)
    for one in taken.versions:
        pointed = f", aliases: {', '.join(one.aliases)}" if one.aliases else ""
        if one.ref:
            out.print(f"{one.mlflow} is {one.ref} ({one.became}{pointed})", markup=False)
        else:
            err.print(f"{one.mlflow} was left: {one.why}", markup=False)
    for note in taken.notes:
        err.print(f"note: {note}", markup=False)
    if taken.logged:
        out.print(f"{taken.logged} models are logged and not registered; take in those of a run with --run ID")
