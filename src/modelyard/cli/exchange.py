"""Moving versions between homes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.output import Json, emit, err, out, reported_errors

if TYPE_CHECKING:
    from modelyard.exchange.arriving import Arrival

app = typer.Typer()
remote_app = typer.Typer(help="Other homes by name: add, list, remove.", no_args_is_help=True)
app.add_typer(remote_app, name="remote")

Refs = Annotated[list[str], typer.Argument(metavar="REF...", help="NAME@3, NAME@champion, data:NAME@3 or run:ID.")]
WithAliases = Annotated[bool, typer.Option("--aliases", help="Point aliases there as they do here.")]
AlthoughRemoved = Annotated[bool, typer.Option("--although-removed", help="Also what was removed there.")]


@app.command()
def push(
    refs: Refs,
    to: Annotated[str, typer.Option("--to", metavar="REMOTE|DIR", help="A remote's name, or a home's folder.")],
    aliases: WithAliases = False,
    although_removed: AlthoughRemoved = False,
    as_json: Json = False,
) -> None:
    """Bring versions, with all that they need, to another home: runs, code, data, reports. Known content is not sent.

    Example: modelyard push flights-delay@3 --to team

    Example: modelyard push flights-delay@champion data:flights@2 --to /mnt/shared/yard --aliases
    """
    from modelyard.exchange.remotes import Remotes
    from modelyard.exchange.side import opened
    from modelyard.home import Home

    with reported_errors(as_json):
        here = Home.locate()
        name, there = Remotes(here).find(to)
        with opened(here, _own_name(here)) as source, opened(there, name) as target:
            _move(source, target, refs, as_json, aliases=aliases, although_removed=although_removed, trusted=True)


@app.command()
def pull(
    refs: Refs,
    source: Annotated[str, typer.Option("--from", metavar="REMOTE|DIR", help="A remote's name, or a home's folder.")],
    aliases: Annotated[bool, typer.Option("--aliases", help="Point aliases here as they do there.")] = False,
    although_removed: Annotated[bool, typer.Option("--although-removed", help="Also what was removed here.")] = False,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="From a folder: take models that run code of their own.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring versions, with all that they need, from another home. What is here already is not fetched.

    Models that run code of their own come from remotes, which were added by name, or with --trust-code.

    Example: modelyard pull flights-delay@3 --from team
    """
    from modelyard.exchange.remotes import Remotes
    from modelyard.exchange.side import opened
    from modelyard.home import Home

    with reported_errors(as_json):
        here = Home.locate()
        remotes = Remotes(here)
        name, there = remotes.find(source)
        trusted = trust_code or name in remotes.all()
        with opened(there, name) as origin, opened(here, _own_name(here)) as target:
            _move(origin, target, refs, as_json, aliases=aliases, although_removed=although_removed, trusted=trusted)


@remote_app.callback()
def _remote() -> None:
    """Other homes by name: add, list, remove."""


@remote_app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    home: Annotated[Path | None, typer.Option("--home", metavar="DIR", help="The folder of a home.")] = None,
    database: Annotated[
        str | None, typer.Option("--database", metavar="URL", help="As MODELYARD_DATABASE_URL; or env:VARIABLE.")
    ] = None,
    objects: Annotated[
        str | None, typer.Option("--objects", metavar="URL", help="As MODELYARD_OBJECTS_URL; or env:VARIABLE.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give another home a name. Models that are pulled from it may run code of their own here.

    Example: modelyard remote add team --database env:TEAM_DATABASE_URL --objects s3://yard/objects

    Example: modelyard remote add shared --home /mnt/shared/yard
    """
    from modelyard.exchange.remotes import Remote, Remotes
    from modelyard.home import Home

    with reported_errors(as_json):
        where = None if home is None else str(home.expanduser().absolute())
        Remotes(Home.locate()).add(name, Remote(where, database, objects))
        emit({"name": name}, as_json, lambda: out.print(f"{name} is known", markup=False))


@remote_app.command("list")
def list_(as_json: Json = False) -> None:
    """Remotes by name.

    Example: modelyard remote list
    """
    from modelyard.cli.cards import put, table
    from modelyard.exchange.remotes import Remotes
    from modelyard.home import Home
    from modelyard.objects import plain

    with reported_errors(as_json):
        rows = [
            [
                name,
                *(
                    plain(each) if each and "://" in each else each or ""
                    for each in (one.home, one.database, one.objects)
                ),
            ]
            for name, one in Remotes(Home.locate()).all().items()
        ]
        document = {"remotes": [dict(zip(("name", "home", "database", "objects"), row, strict=True)) for row in rows]}
        emit(document, as_json, lambda: put(table(["remote", "home", "database", "objects"], rows)))


@remote_app.command()
def remove(name: Annotated[str, typer.Argument(metavar="NAME")], as_json: Json = False) -> None:
    """Forget a remote; nothing happens to what is there.

    Example: modelyard remote remove team
    """
    from modelyard.exchange.remotes import Remotes
    from modelyard.home import Home

    with reported_errors(as_json):
        Remotes(Home.locate()).remove(name)
        emit({"name": name}, as_json, lambda: out.print(f"{name} is forgotten", markup=False))


@contextmanager
def progress(as_json: bool) -> Iterator[Callable[[str, int], None]]:
    """Something to tell how far it is, shown on a terminal."""
    if as_json or not err.is_terminal:
        yield lambda what, count: None
        return
    with err.status("looking", spinner="dots") as status:
        yield lambda what, count: status.update(f"{what}: {count:,}")


def print_arrivals(arrivals: Sequence[Arrival], moved: str) -> None:
    """What arrived, under which number."""
    from modelyard.cli.cards import put, table

    rows = [[_full(each.kind, each.there), _full(each.kind, each.here), _said(each)] for each in arrivals]
    put(table(["from", "to", ""], rows))
    out.print(moved, markup=False)


def _move(source: Any, target: Any, refs: list[str], as_json: bool, *, trusted: bool, **how: bool) -> None:
    from modelyard.cli.collecting import size
    from modelyard.cli.registry import user
    from modelyard.domain.names import Named
    from modelyard.exchange.arriving import Terms
    from modelyard.exchange.moving import move

    terms = Terms(user(), how["although_removed"], how["aliases"])
    named = [Named.parse(ref) for ref in refs]
    with progress(as_json) as tell:
        moved = move(source, target, named, terms, trusted=trusted, tell=tell)
    document = {"from": source.name, "to": target.name, "arrivals": moved.arrivals, "content_bytes": moved.bytes}
    said = f"{size(moved.bytes)} of content moved from {source.name} to {target.name}"
    emit(document, as_json, lambda: print_arrivals(moved.arrivals, said))


def _own_name(home: Any) -> str:
    """What others may call this home."""
    import socket

    return f"{socket.gethostname()}:{home.path}"


def _full(kind: str, ref: str) -> str:
    return ref if kind == "model" else f"{kind}:{ref}"


def _said(arrival: Arrival) -> str:
    if arrival.state == "there":
        return "was there" if arrival.there == arrival.here else "was there under another number"
    return "new" if arrival.there == arrival.here else "new; its number was taken"
