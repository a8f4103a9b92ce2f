"""Whether the way back works, while nobody needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.output import Json, emit, err, out, reported_errors

if TYPE_CHECKING:
    from modelyard.control.rehearsing import Rehearsal

app = typer.Typer()


@app.command()
def rehearse(
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT")],
    to: Annotated[
        str | None, typer.Option("--to", metavar="NAME@V", help="The version to go back to; else the one before.")
    ] = None,
    all_calls: Annotated[
        bool, typer.Option("--all-calls", help="Give it all calls for a moment; else one of a hundred thousand.")
    ] = False,
    within: Annotated[
        float | None, typer.Option("--within", metavar="SECONDS", help="Exit status 1 if the way back takes longer.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds that the other version gets to load.")] = 300.0,
    as_json: Json = False,
) -> None:
    """Rehearse a rollback in quiet times: go to the version before and back, and measure it over the wire.

    The version before is loaded beside the present one, gets a tiny part of the calls, and is taken away again, as a
    rollback does it. What it came to is kept, and shown by `status` and `rollout show`. Exit status 1 if the way back
    does not work.

    Example: modelyard rehearse flights-delay --within 2
    """
    from modelyard.cli.registry import user
    from modelyard.control import rehearsing
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        found = rehearsing.rehearse(
            registry,
            deployment,
            to,
            share=1.0 if all_calls else rehearsing.SHARE,
            timeout=timeout,
            by=user(),
            tell=lambda line: err.print(line, markup=False),
        )
    late = within is not None and found.back is not None and found.back.seconds > within
    emit({"rehearsal": found, "passed": found.passed, "late": late}, as_json, lambda: _print(found))
    if late or not found.passed:
        raise typer.Exit(1)


def _print(found: Rehearsal) -> None:
    way = f"{found.deployment}: {found.present} -> {found.other} -> {found.present}"
    out.print(way, markup=False)
    if found.there is not None:
        out.print(f"there in {found.there.seconds:.2f} s, {found.there.calls} calls meanwhile, none lost", markup=False)
    (out if found.passed else err).print(found.told(), markup=False)
