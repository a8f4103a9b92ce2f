"""The metadata database: what is in it, and bringing a team's to the form that this release needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from modelyard.cli.output import Json, emit, out, reported_errors

if TYPE_CHECKING:
    from modelyard.registry.migrating import Facts, Upgrade

app = typer.Typer()
db_app = typer.Typer(help="The metadata database: show it, bring it up to date.", no_args_is_help=True)
app.add_typer(db_app, name="db")


@db_app.callback()
def _db() -> None:
    """The metadata database: show it, bring it up to date."""


@db_app.command()
def upgrade(as_json: Json = False) -> None:
    """Bring the database of MODELYARD_DATABASE_URL to the form that this release needs; an empty one is set up.

    Programs of earlier releases refuse it from then on. A home's own SQLite file is brought up to date whenever it is
    opened, and needs no such command.

    Example: modelyard db upgrade
    """
    with reported_errors(as_json):
        from modelyard.home import Home
        from modelyard.registry.database import upgrade as bring_up_to_date

        done = bring_up_to_date(Home.locate().create().database)
        emit(done, as_json, lambda: out.print(_upgraded(done), markup=False))


@db_app.command()
def show(as_json: Json = False) -> None:
    """Where metadata and content are kept, which form the database has, and how much is in it. Changes nothing.

    Example: modelyard db show
    """
    with reported_errors(as_json):
        from modelyard.home import Home
        from modelyard.objects import plain
        from modelyard.registry.migrating import look

        home = Home.locate()
        facts = look(home.database)
        objects = str(home.path) if home.objects_url is None else plain(home.objects_url)
        document = {"home": str(home.path), "objects": objects, "state": facts.state, "database": facts}
        emit(document, as_json, lambda: _print(facts, str(home.path), objects))


def _upgraded(done: Upgrade) -> str:
    if done.before == done.after:
        return f"{done.database} is up to date (revision {done.after})"
    if done.before is None:
        return f"{done.database} is set up (revision {done.after})"
    return f"{done.database} was brought from revision {done.before} to {done.after}"


def _print(facts: Facts, home: str, objects: str) -> None:
    from modelyard.cli.cards import put, table

    lines = {
        "home": home,
        "database": f"{facts.database} ({facts.server})",
        "objects": objects,
        "revision": f"{facts.revision or 'none'}, {facts.state}",
        "newest": facts.newest,
        "size": f"{facts.bytes:,} bytes",
    }
    for name, said in lines.items():
        out.print(f"{name:10}{said}", markup=False)
    if facts.rows:
        put(table(["table", "rows"], [[name, f"{count:,}"] for name, count in facts.rows.items()]))
