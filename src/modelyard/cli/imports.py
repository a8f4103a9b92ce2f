"""Taking in what was made elsewhere: bundles, and what MLflow has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from modelyard.cli.output import Json, emit, err, out, reported_errors
from modelyard.cli.registry import import_

if TYPE_CHECKING:
    from modelyard.mlflow.importing import ModelTaken


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
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A model directory (with an MLmodel file).")],
    name: Annotated[str | None, typer.Option("--name", help="What the model is called here.")] = None,
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
    """Take in an MLflow model directory: it becomes a version that verifies and serves like any other.

    The model is loaded in a process of its own, in an environment made from its requirements.

    Example: modelyard import mlflow mlruns/1/models/m-4711/artifacts --name churn --trust-code
    """
    from modelyard.mlflow.importing import Options, import_model
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        options = Options(name, sample, flavour, python, tuple(override or ()), None, {}, trust_code)
        with err.status("reading", spinner="dots") as status:
            taken = import_model(Path(source), options, registry, status.update)
        emit(_document(taken), as_json, lambda: _tell(taken))


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
