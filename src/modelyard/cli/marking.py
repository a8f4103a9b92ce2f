"""Tags and notes on versions, versions of data and runs; and what was live, or pointed at, when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.output import Json, emit, out, reported_errors

if TYPE_CHECKING:
    from datetime import datetime

    from modelyard.domain.names import Kind
    from modelyard.domain.timeline import Span
    from modelyard.registry import Registry
    from modelyard.registry.marks import Marks, Subject

app = typer.Typer()

What = Annotated[str, typer.Argument(metavar="REF", help="NAME@V, data:NAME@V or run:ID.")]


@app.command()
def tag(
    ref: What,
    given: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="What to put on it.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="KEY", help="Take this tag away. May be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put tags on a version, a version of data or a run; without any, show those that there are.

    Tags that came with a bundle stay as packed; another value may be put over one.

    Example: modelyard tag flights-delay@3 season=winter reviewed=yes

    Example: modelyard tag data:flights@2 --remove season
    """
    from modelyard.cli.registry import user
    from modelyard.cli.train import tags_of
    from modelyard.registry import Registry, marks

    wanted = tags_of(given)
    with reported_errors(as_json), Registry.open() as registry:
        subject = subject_of(registry, ref)
        found = marks.marks_of(registry.database, subject)
        if remove:
            found = marks.untag(registry.database, subject, remove)
        if wanted:
            found = marks.tag(registry.database, subject, wanted, user())
        _emit(subject, found, as_json)


@app.command()
def note(
    ref: What,
    text: Annotated[str | None, typer.Argument(help="What to write.")] = None,
    as_json: Json = False,
) -> None:
    """Write a note on a version, a version of data or a run; without a text, show those that there are.

    Notes are added and never changed.

    Example: modelyard note flights-delay@3 "worse on Mondays: see the March report"
    """
    from modelyard.cli.registry import user
    from modelyard.registry import Registry, marks

    with reported_errors(as_json), Registry.open() as registry:
        subject = subject_of(registry, ref)
        if text is None:
            found = marks.marks_of(registry.database, subject)
        else:
            found = marks.note(registry.database, subject, text, user())
        _emit(subject, found, as_json)


@app.command()
def history(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A deployment, a model, or NAME@ALIAS.")],
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Only what it was at this moment: 2026-11-01T12:00 (UTC)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """What was live in a deployment, and what the aliases of a model pointed at, from when to when.

    Example: modelyard history production --at 2026-11-01T12:00

    Example: modelyard history flights-delay@champion
    """
    from modelyard.domain import timeline
    from modelyard.registry import Registry

    with reported_errors(as_json):
        then = None if at is None else timeline.moment_of(at)
        with Registry.open() as registry:
            found = _histories(registry, name)
        if then is None:
            document: dict[str, Any] = {"name": name, "history": found}
            emit(document, as_json, lambda: _print_history(found))
        else:
            held = {each: timeline.at(known, then) for each, known in found.items()}
            emit({"name": name, "at": then, "held": held}, as_json, lambda: _print_held(held, then))


def subject_of(registry: Registry, text: str) -> Subject:
    """The thing that a text names: a version by number or alias, a version of data, a run by its id or name.

    Raises:
        NotFound: there is none.
        InvalidRequest: it names nothing.
    """
    from modelyard.domain.names import Named
    from modelyard.registry import Datasets
    from modelyard.registry.marks import Subject
    from modelyard.registry.runs import Runs

    named = Named.parse(text)
    if named.kind == "run":
        return Subject("run", Runs(registry.database).run(named.which).id)
    if named.kind == "model":
        version = registry.version(named.which)
        return Subject("model", version.model, version.number)
    datasets = Datasets(registry.home, registry.database)
    try:
        data = datasets.version(named.which)
    finally:
        datasets.close()
    return Subject("data", data.dataset, data.number)


def marks_at(kind: Kind, name: str, number: int = 0) -> Marks:
    """Tags and notes of a thing that is there."""
    from modelyard.registry import Registry
    from modelyard.registry.marks import Subject, marks_of

    with Registry.open() as registry:
        return marks_of(registry.database, Subject(kind, name, number))


def marked(found: Marks) -> list[str]:
    """Tags that were put on later, and notes, in lines, with who and when."""
    from modelyard.cli.cards import moment

    lines = [f"{tag.key}={tag.value}  ({tag.by}, {moment(tag.at)})" for tag in found.tags if not tag.packed]
    return [*lines, *(f"{note.text}  ({note.by}, {moment(note.at)})" for note in found.notes)]


def _emit(subject: Subject, found: Marks, as_json: bool) -> None:
    document = {"ref": subject.ref, "in_force": found.in_force, "tags": found.tags, "notes": found.notes}
    emit(document, as_json, lambda: _print_marks(subject, found))


def _print_marks(subject: Subject, found: Marks) -> None:
    out.print(subject.ref, markup=False, style="bold")
    packed = [f"{tag.key}={tag.value}  (packed with it)" for tag in found.tags if tag.packed]
    for line in [*packed, *marked(found)] or ["no tags and no notes"]:
        out.print(line, markup=False)


def _histories(registry: Registry, name: str) -> dict[str, tuple[Span, ...]]:
    """Of a deployment of that name and of the aliases of a model of that name."""
    from modelyard.domain.timeline import spans
    from modelyard.errors import DeploymentNotFound, ModelNotFound
    from modelyard.registry.links import Links

    links = Links(registry.database)
    model, _, only = name.partition("@")
    found = {}
    changes = () if only else links.deployment_changes(name)
    if changes:
        found[name] = spans(changes)
    try:
        named = list(dict.fromkeys(change.alias for change in registry.alias_history(model)))
    except ModelNotFound:
        if not found:
            raise (ModelNotFound if only else DeploymentNotFound)(model, links.deployment_names()) from None
        named = []
    for alias in named:
        if only in ("", alias):
            found[f"{model}@{alias}"] = spans(links.alias_changes(model, alias))
    return found


def _print_history(found: dict[str, tuple[Span, ...]]) -> None:
    from modelyard.cli.cards import moment, put, table

    rows = [
        [name, span.to, moment(span.since), "" if span.until is None else moment(span.until), span.by, span.why]
        for name, known in found.items()
        for span in known
    ]
    if not rows:
        out.print("it was never deployed, and has no alias")
        return
    put(table(["name", "version", "since", "until", "by", "why"], rows))


def _print_held(held: dict[str, Span | None], at: datetime) -> None:
    from modelyard.cli.cards import moment

    for name, span in held.items():
        what = "nothing" if span is None else f"{span.to}, since {moment(span.since)} by {span.by or 'somebody'}"
        out.print(f"{name} at {moment(at)}: {what}", markup=False)
    if not held:
        out.print("it was never deployed, and has no alias")
