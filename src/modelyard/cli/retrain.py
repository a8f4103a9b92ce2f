"""Training again: by hand, and what came of each time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from modelyard.cli.output import Json, emit, err, out, reported_errors

if TYPE_CHECKING:
    from modelyard.home import Home
    from modelyard.retraining.report import Evaluation, Report
    from modelyard.retraining.watched import Watch


class _OrRun(TyperGroup):
    """``retrain DEPLOYMENT`` is short for ``retrain run DEPLOYMENT``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first word names; without one, `run`."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer()
group = typer.Typer(cls=_OrRun, no_args_is_help=True)


@group.callback()
def retrain() -> None:
    """Train the model of a deployment again, and roll it out if it is better; see what came of it.

    `modelyard retrain DEPLOYMENT` is short for `modelyard retrain run DEPLOYMENT`.

    Example: modelyard retrain flights-delay --why "the airline changed its schedule"
    """


app.add_typer(group, name="retrain")

Name = Annotated[str, typer.Argument(metavar="DEPLOYMENT")]


@group.command()
def run(
    deployment: Name,
    why: Annotated[str, typer.Option("--why", help="A line to keep with the report.")] = "",
    project: Annotated[
        Path | None, typer.Option("--project", help="The folder with modelyard.toml; else the watched or current one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train again on newer data, verify, compare with the version in use on rows that neither was trained on.

    Only a challenger that passes all gates goes on to a rollout. Exit status 0 if it did, 1 if it was declined, 6 if
    there was nothing to judge, as when the training failed.

    Example: modelyard retrain flights-delay

    Example: modelyard retrain run flights-delay --project ~/flights --why "new terminal"
    """
    from rich.markup import escape

    from modelyard.retraining import retrain as carry_out
    from modelyard.retraining.stopping import stopped_in_order

    with reported_errors(as_json), stopped_in_order(), err.status("beginning", spinner="line") as status:
        report = carry_out(None, deployment, why, project=project, tell=lambda words: status.update(escape(words)))
    emit(report, as_json, lambda: _print(report))
    if report.state != "accepted":
        raise typer.Exit(1 if report.state == "declined" else 6)


@group.command("list")
def list_(
    deployment: Annotated[str | None, typer.Argument(metavar="[DEPLOYMENT]", help="Only of this one.")] = None,
    most: Annotated[int, typer.Option("--limit", help="So many at most, the newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """Retrainings, the newest first.

    Example: modelyard retrain list flights-delay
    """
    from modelyard.registry import Registry
    from modelyard.retraining.turns import Turns

    with reported_errors(as_json), Registry.open() as registry:
        found = Turns(registry.database).listed(deployment or "", most)
    emit(found, as_json, lambda: _print_list(found))


@group.command()
def show(
    which: Annotated[
        str | None, typer.Argument(metavar="[NUMBER|DEPLOYMENT]", help="Which one; the newest without.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the page to this file.")] = None,
    as_json: Json = False,
) -> None:
    """One retraining in full: why, data, run, challenger, both versions overall and by slice, gates, what came of it.

    Example: modelyard retrain show flights-delay --html report.html
    """
    from modelyard.registry import Registry
    from modelyard.retraining.page import html as page_of
    from modelyard.retraining.turns import Turns

    with reported_errors(as_json), Registry.open() as registry:
        turns = Turns(registry.database)
        is_number = which is not None and which.isdecimal()
        report = turns.get(int(which or 0)) if is_number else turns.get(deployment=which or "")
    if html is not None:
        html.write_text(page_of(report), "utf-8")
        err.print(f"written to {html}", markup=False)
    emit(report, as_json, lambda: _print(report))


@group.command()
def watch(
    deployment: Annotated[
        str | None, typer.Argument(metavar="[DEPLOYMENT]", help="Without one, those that are watched are listed.")
    ] = None,
    project: Annotated[Path, typer.Option("--project", help="The folder with modelyard.toml.")] = Path(),
    as_json: Json = False,
) -> None:
    """Have a deployment's model trained again by itself under `modelyard up`, as its project's file says.

    `on` in its table retrain names what begins it: alert, labels, schedule. The file is read anew each time.

    Example: modelyard retrain watch flights-delay --project ~/flights
    """
    from modelyard.home import Home
    from modelyard.retraining import watched

    home = Home.locate()
    with reported_errors(as_json):
        found = watched.watches(home) if deployment is None else (_watch(home, deployment, project),)
    emit(found if deployment is None else found[0], as_json, lambda: _print_watches(found))


@group.command()
def unwatch(deployment: Name, as_json: Json = False) -> None:
    """Train a deployment's model again by hand only.

    Example: modelyard retrain unwatch flights-delay
    """
    from modelyard.home import Home
    from modelyard.retraining import watched

    with reported_errors(as_json):
        gone = watched.unwatch(Home.locate(), deployment)
    emit(gone, as_json, lambda: out.print(f"{deployment} is trained again by hand only", markup=False))


def _watch(home: Home, deployment: str, project: Path) -> Watch:
    """See that the plan can be followed, and remember."""
    from modelyard.cli.registry import user
    from modelyard.control.deployments import in_force
    from modelyard.errors import DeploymentNotFound, InvalidRequest
    from modelyard.project import read
    from modelyard.registry import Registry
    from modelyard.retraining import watched
    from modelyard.retraining.looking import count_labels
    from modelyard.retraining.plan import plan_of

    found = read(project)
    if found is None:
        raise InvalidRequest(f"{project.absolute()} has no modelyard.toml, which says how to train again")
    if not plan_of(found).on:
        raise InvalidRequest(f'{found.file}: [retrain] on = ["alert", …] is not said, so nothing would begin by itself')
    with Registry.open(home) as registry:
        there = sorted(each.deployment for each in in_force(registry))
    if deployment not in there:
        raise DeploymentNotFound(deployment, there)
    return watched.watch(home, deployment, project, user(), count_labels(home, deployment))


def _print_watches(found: tuple[Watch, ...]) -> None:
    from modelyard.cli.cards import moment, put, table
    from modelyard.errors import ModelyardError
    from modelyard.retraining.looking import plan_for

    if not found:
        out.print("no deployment is watched: modelyard retrain watch DEPLOYMENT --project DIR")
        return
    rows: list[list[Any]] = []
    for each in found:
        try:
            said = ", ".join(plan_for(each).on)
        except ModelyardError as error:
            said = str(error)
        rows.append([each.deployment, said, each.project, moment(each.since)])
    put(table(["deployment", "trained again on", "project", "watched since"], rows))


def _print_list(found: list[Report]) -> None:
    from modelyard.cli.cards import moment, put, table
    from modelyard.retraining.text import occasion

    if not found:
        out.print("nothing was trained again yet: modelyard retrain DEPLOYMENT")
        return
    rows: list[list[Any]] = [
        [str(each.id), each.deployment, moment(each.began), occasion(each), each.champion, each.challenger, each.state,
         each.reason or each.stage]
        for each in found
    ]  # fmt: skip
    put(table(["number", "deployment", "began", "why", "in use", "challenger", "state", "what came of it"], rows))


def _print(report: Report) -> None:
    from modelyard.retraining.text import lines

    for line in lines(report):
        out.print(line, markup=False)
    if report.evaluation is not None:
        _print_evaluation(report.evaluation)


def _print_evaluation(found: Evaluation) -> None:
    from modelyard.cli.cards import put, table
    from modelyard.retraining import text

    put(table(list(text.GATES), text.gate_cells(found)))
    put(table(list(text.METRICS), text.metric_cells(found)))
    if found.slices:
        told = text.telling(found.slices)
        out.print(f"{len(told)} of {len(found.slices)} slices, worst first; intervals hold for all together")
        put(table(list(text.SLICES), text.slice_cells(told)))
