"""The ``modelyard`` command: command groups are found by name and imported only when they are asked for."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Annotated

import typer
from typer.core import TyperGroup

COMMANDS: dict[str, tuple[str, str]] = {
    # command: (module under modelyard.cli, one line for the list)
    "demo": ("demo", "The whole story on the flights data, with live requests."),
    "data": ("data", "Versions of data: snapshot, checkout, list, show, verify, diff."),
    "train": ("train", "Run a training program as a recorded run."),
    "runs": ("runs", "Recorded runs: list, search, show, get their files."),
    "reproduce": ("reproduce", "Train a version again from its record, and compare."),
    "verify": ("verify", "Prove a version: rebuilt environment, real wire, recorded answers."),
    "list": ("registry", "Models and their versions."),
    "show": ("registry", "One model or version in full."),
    "lineage": ("lineage", "What something was made from, and what became of it."),
    "diff": ("diff", "What differs between two versions: data, code, environment, metrics, answers."),
    "alias": ("registry", "Point an alias at a version; show aliases and their history."),
    "history": ("marking", "What was live in a deployment, or an alias pointed at, and when."),
    "tag": ("marking", "Put tags on a version, a version of data or a run."),
    "note": ("marking", "Write a note on a version, a version of data or a run."),
    "export": ("registry", "Write a version's bundle as one file."),
    "import": ("imports", "Register a bundle from a file or directory, or take in what MLflow has."),
    "vault": ("vault", "Keep the wheels of versions' environments."),
    "push": ("exchange", "Bring versions with all that they need to another home."),
    "pull": ("exchange", "Bring versions with all that they need from another home."),
    "remote": ("exchange", "Other homes by name: add, list, remove."),
    "remove": ("removing", "Remove versions or runs that nothing refers to."),
    "removed": ("removing", "What was removed, when, by whom and why."),
    "gc": ("collecting", "Show, and free, the room of what nothing refers to."),
    "serve": ("serve", "Serve one version, with no control plane."),
    "up": ("up", "Start both planes on this machine, with the shipper of records and the monitor."),
    "deploy": ("deploy", "Put a version behind a deployment, once it is proven."),
    "promote": ("rollouts", "Let the candidate of a rollout take the place of what answers."),
    "rollback": ("rollouts", "End a rollout: the version before answers all calls."),
    "rollout": ("rollouts", "A rollout: what it has come to, and what people decide about it meanwhile."),
    "retrain": ("retrain", "Train a deployment's model again, judge it, roll it out if it is better."),
    "rehearse": ("rehearse", "See that the way back to the version before works, and how long it takes."),
    "status": ("deploy", "What is deployed, ready and why not."),
    "top": ("top", "Watch a running server: requests, latencies, refusals, workers."),
    "undeploy": ("deploy", "Take a deployment away."),
    "predict": ("predict", "Ask a deployment or a version for predictions, from a file."),
    "score": ("score", "Predict a whole CSV or Parquet file, streaming."),
    "labels": ("records", "Add the truth for past predictions."),
    "records": ("records", "Predictions joined with labels: query them with SQL, ship, compact, keep."),
    "db": ("db", "The metadata database: show it, bring a team's up to date."),
    "monitor": ("monitor", "What drifted, what it costs, what to expect: show, check, report, alerts; two tables."),
    "replay": ("records", "Compute one past prediction again and compare."),
}


class LazyGroup(TyperGroup):
    """Imports a command's module when the command is run or its own help is asked for."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """All command names, in the order in which work flows."""
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str):  # type: ignore[no-untyped-def, override]
        """The command of that name, from its module's ``app``."""
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        return typer.main.get_group(import_module(f"modelyard.cli.{module}").app).commands[cmd_name]

    def format_commands(self, ctx: typer.Context, formatter) -> None:  # type: ignore[no-untyped-def, override]
        """List commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


app = typer.Typer(cls=LazyGroup, rich_markup_mode=None, no_args_is_help=True, add_completion=False)


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show stack traces.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """From a training script to a deployment that proves itself."""
    if debug:
        os.environ["MODELYARD_DEBUG"] = "1"
    if version:
        from modelyard import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
