"""Removing versions and runs, and what was removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.output import Json, emit, err, out, reported_errors

if TYPE_CHECKING:
    from modelyard.domain.removal import Removal

app = typer.Typer()


@app.command()
def remove(
    refs: Annotated[
        list[str], typer.Argument(metavar="REF...", help="NAME@3, data:NAME@3 or run:ID; the first goes first.")
    ],
    why: Annotated[str, typer.Option("--why", help="The reason, kept for good in place of what is removed.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    give_up_replay: Annotated[
        bool,
        typer.Option("--give-up-replay", help="Also versions that answered once: what they said cannot be replayed."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove versions of models or data, or runs, for good. What something still refers to is refused.

    Numbers are not given again. Room is freed by modelyard gc.

    Example: modelyard remove flights-delay@3 run:20260412-081503-9f2c11 data:flights@1 --why "trained on wrong labels"
    """
    from modelyard.cli.registry import user
    from modelyard.collecting import removing
    from modelyard.domain.names import Named
    from modelyard.registry import Registry
    from modelyard.runs.shipping import recover

    done: list[Removal] = []
    with reported_errors(as_json), Registry.open() as registry:
        wanted = [Named.parse(ref) for ref in refs]
        if any(named.kind == "run" for named in wanted):
            recover(registry.home)
        for named in wanted:
            removing.look(registry.database, named)
        if not yes:
            _ask(refs)
        for named in wanted:
            done.append(  # what was removed is told, also where a later one is refused
                removing.remove(registry.database, named, why=why, by=user(), give_up_replay=give_up_replay)
            )
            if not as_json:
                out.print(f"{named} is removed", markup=False)
        emit({"removed": [_facts(one) for one in done]}, as_json, lambda: out.print("to free the room: modelyard gc"))


@app.command()
def removed(as_json: Json = False) -> None:
    """Everything that was removed: what, when, by whom and why.

    Example: modelyard removed
    """
    from modelyard.collecting import removing
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        found = removing.history(registry.database)
        emit({"removed": [_facts(one) for one in found]}, as_json, lambda: _print(found))


def _ask(refs: list[str]) -> None:
    import sys

    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked here; say --yes", param_hint="--yes")
    err.print(f"to be removed for good: {', '.join(refs)}", markup=False)
    typer.confirm("remove?", abort=True, err=True)


def _facts(removal: Removal) -> dict[str, Any]:
    return {
        "ref": removal.ref,
        "kind": removal.kind,
        "digest": removal.digest,
        "by": removal.by,
        "why": removal.why,
        "at": removal.at,
        "given_up": removal.given_up,
    }


def _print(found: tuple[Removal, ...]) -> None:
    from modelyard.cli.cards import moment, put, table

    if not found:
        out.print("nothing was ever removed")
        return
    rows = [[one.ref, moment(one.at), one.by, one.why, ", ".join(one.given_up)] for one in found]
    put(table(["removed", "when", "by", "why", "replay given up of"], rows))
