"""Recorded runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from modelyard.cli.output import Json, emit, out, reported_errors
from modelyard.cli.train import tags_of

if TYPE_CHECKING:
    from modelyard.domain.run import Run
    from modelyard.registry.marks import Marks

app = typer.Typer()
runs_app = typer.Typer(help="Recorded runs: list, search, show, get their files.", no_args_is_help=True)
app.add_typer(runs_app, name="runs")

Which = Annotated[str, typer.Argument(metavar="RUN", help="An id or its beginning, or a name for its newest run.")]


@runs_app.callback()
def _runs() -> None:
    """Recorded runs: list, search, show, get their files."""


@runs_app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="Only runs of this name.")] = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="NAME>0.8", help="By a metric's last value or a parameter.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="By a tag.")] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="NAME[@V]", help="That read this dataset.")] = None,
    version: Annotated[str | None, typer.Option("--version", metavar="NAME[@V]", help="That made this model.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="running, finished, failed, killed or lost.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    as_json: Json = False,
) -> None:
    """Runs, newest first. Runs of this machine whose process has died are taken in as lost.

    Example: modelyard runs list flights-delay --where "auc>0.8" --where depth=6

    Example: modelyard runs list --data flights@2 --state failed
    """
    from modelyard.domain.run import State
    from modelyard.home import Home
    from modelyard.registry.runs import Condition, Wanted
    from modelyard.runs.shipping import recover
    from modelyard.runs.yard import opened

    if state is not None and state not in get_args(State):
        raise typer.BadParameter(f"there are the states {', '.join(get_args(State))}")
    with reported_errors(as_json):
        conditions = tuple(Condition.parse(text) for text in where or ())
        wanted = Wanted(name, cast("State | None", state), conditions, tags_of(tag), data, version, limit)
        home = Home.locate()
        recover(home)
        with opened(home) as yard:
            found = yard.runs.list(wanted)
        emit({"runs": found}, as_json, lambda: _print_runs(found))


@runs_app.command()
def show(run: Which, as_json: Json = False) -> None:
    """One run in full.

    Example: modelyard runs show 20260412-081503-9f2c11
    """
    from modelyard.cli.marking import marks_at
    from modelyard.home import Home
    from modelyard.runs.shipping import recover
    from modelyard.runs.yard import opened

    with reported_errors(as_json):
        home = Home.locate()
        recover(home)
        with opened(home) as yard:
            found = yard.runs.run(run)
            stored = yard.runs.files(found.id)
            names = [] if stored is None else _listed(yard, stored)
        marks = marks_at("run", found.id)
        document = {"run": found, "files": names, "tags": {**found.tags, **marks.in_force}, "marks": marks}
        emit(document, as_json, lambda: _print_run(found, names, marks))


@runs_app.command()
def files(
    run: Which,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    as_json: Json = False,
) -> None:
    """Write what is kept of a run into a folder: changes and untracked code, artefacts, output, metrics by step.

    Example: modelyard runs files flights-delay work/run
    """
    from modelyard.datasets.checkout import check_out, read_tree
    from modelyard.errors import Rejected
    from modelyard.home import Home
    from modelyard.runs.yard import opened

    with reported_errors(as_json), opened(Home.locate()) as yard:
        found = yard.runs.run(run)
        stored = yard.runs.files(found.id)
        if stored is None:
            raise Rejected(
                f"run {found.id} has no files: it is {found.outcome.state}, and they are kept when a run ends"
            )
        tree = read_tree(*stored, yard.datasets.store)
        check_out(tree, directory, yard.datasets.store)
        document = {"id": found.id, "digest": stored[0], "directory": str(directory), "files": len(tree.entries)}
        said = f"{len(tree.entries)} files of run {found.id} are in {directory}"
        emit(document, as_json, lambda: out.print(said, markup=False))


def _listed(yard: Any, stored: tuple[str, tuple[bytes, ...]]) -> list[dict[str, Any]]:
    from modelyard.datasets.checkout import read_tree

    return [
        {"name": entry.name, "bytes": entry.content.size} for entry in read_tree(*stored, yard.datasets.store).entries
    ]


def _print_runs(found: tuple[Run, ...]) -> None:
    from modelyard.cli.cards import moment, put, table

    if not found:
        out.print("no such run: modelyard train -- python train.py", markup=False)
        return
    rows = [
        [
            run.id,
            run.name,
            moment(run.started_at),
            run.outcome.state,
            "" if run.seconds is None else f"{run.seconds:.1f} s",
            ", ".join(f"{name} {metric.last:g}" for name, metric in list(run.metrics.items())[:4]),
            ", ".join((*run.data.versions, *(["other files"] if run.data.other_files else []))),
            ", ".join(run.versions),
        ]
        for run in found
    ]
    put(table(["run", "name", "started", "state", "took", "metrics", "read", "made"], rows))


def _print_run(run: Run, names: list[dict[str, Any]], marks: Marks) -> None:
    from rich.text import Text

    from modelyard.cli.cards import put, section, table
    from modelyard.cli.marking import marked

    lines = "\n".join(f"{name:<12} {value}" for name, value in _headline(run).items() if value)
    out.print(Text.assemble((run.id, "bold"), "\n", lines))
    if run.params:
        section("parameters", table(["name", "value"], [[name, str(value)] for name, value in run.params.items()]))
    if run.metrics:
        rows = [
            [name, f"{each.last:g}", f"{each.least:g}", f"{each.most:g}", str(each.count), str(each.step or "")]
            for name, each in run.metrics.items()
        ]
        section("metrics", table(["name", "last", "least", "most", "values", "last step"], rows))
    if later := marked(marks):
        section("tags and notes put on it later", Text("\n".join(later)))
    section("code", Text("\n".join(_code(run))))
    section("data", Text("\n".join(_data(run))))
    section("environment", Text("\n".join(_environment(run))))
    if names:
        section("files", table(["file", "bytes"], [[each["name"], f"{each['bytes']:,}"] for each in names]))
    for note in run.notes:
        put(Text(f"\n{note}"))


def _headline(run: Run) -> dict[str, str]:
    from modelyard.cli.cards import moment

    outcome = run.outcome
    detail = outcome.signal or outcome.error
    code = "" if outcome.exit_code is None else f", exit code {outcome.exit_code}"
    return {
        "name": run.name,
        "state": f"{outcome.state}{code}{f' ({detail})' if detail else ''}",
        "started": f"{moment(run.started_at)} by {run.by or 'unknown'}",
        "took": "" if run.seconds is None else f"{run.seconds:.1f} s",
        "command": " ".join(run.command),
        "made": ", ".join(run.versions),
        "tags": ", ".join(f"{key}={value}" for key, value in run.tags.items()),
        "note": run.note,
    }


def _code(run: Run) -> list[str]:
    code = run.code
    lines = ["no repository"]
    if code.commit or code.branch:
        lines = [f"commit {code.commit or 'none yet'} on {code.branch or 'no branch'}, in {code.folder}"]
    for what, names in (("changed", code.changed), ("in no commit", code.untracked), ("kept as run", code.loaded)):
        if names:
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            lines.append(f"{what}: {', '.join(names[:8])}{more}")
    return [*lines, *(f"not kept: {name} ({why})" for name, why in code.left_out.items())]


def _data(run: Run) -> list[str]:
    data = run.data
    lines = [f"read {ref}{'' if ref in data.declared else ' (not declared)'}" for ref in data.versions]
    lines += [
        f"declared {ref}, of which nothing was seen to be read" for ref in data.declared if ref not in data.versions
    ]
    if data.other_files:
        more = f" and {data.other_files - len(data.others)} more" if data.other_files > len(data.others) else ""
        lines.append(f"READ FILES OF NO VERSION: {', '.join(data.others)}{more}")
    lines += [f"may have read more: {why}" for why in data.unseen]
    return [*lines, f"reads were seen: {data.watched}"]


def _environment(run: Run) -> list[str]:
    machine, environment = run.machine, run.environment
    lines = [f"{machine.host}, {machine.platform}, {machine.processor}, {machine.cores} cores"] if machine.host else []
    lines += [f"processor features: {' '.join(machine.features)}"] if machine.features else []
    if environment is not None:
        count = len(environment.distributions)
        lines.append(f"Python {environment.python}, {count} distributions, {environment.blas or 'no BLAS'}")
        lines += [f"threads: {', '.join(f'{pool} {size}' for pool, size in environment.threads.items())}"]
    lines += [f"{name}={value}" for name, value in run.settings.items()]
    lines += [f"random source {name}: {said}" for name, said in run.seeds.items()]
    return lines or ["not known"]
