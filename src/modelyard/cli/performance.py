"""``modelyard monitor performance``: how good a deployment's answers were, as far as labels say."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.output import Json, emit, err, out, reported_errors

if TYPE_CHECKING:
    from modelyard.monitoring.performance.history import History
    from modelyard.monitoring.performance.worst import Found

app = typer.Typer()

_WINDOWS = ("hour", "day", "week", "month", "whole")


@app.command()
def performance(
    deployment: Annotated[str, typer.Argument(help="Its name.")],
    by: Annotated[str, typer.Option("--by", help=f"Windows of event time: {', '.join(_WINDOWS)}.")] = "week",
    slice_: Annotated[
        str, typer.Option("--slice", metavar="COLUMN", help="Tell rows apart by the values of an input, or by version.")
    ] = "",
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", help="Which to show; may be given several times.")
    ] = None,
    since: Annotated[datetime | None, typer.Option("--since", help="From this moment of event time on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option("--until", help="Up to this moment, which is not included.")] = None,
    version: Annotated[int | None, typer.Option("--version", help="Only what this version answered.")] = None,
    positive: Annotated[str, typer.Option("--positive", help="The positive class, if it is not the last one.")] = "",
    level: Annotated[float, typer.Option("--level", help="How often intervals cover.", min=0.5, max=0.9999)] = 0.95,
    complete_after: Annotated[
        float | None,
        typer.Option("--complete-after", metavar="HOURS", help="When labels count as complete; as usual if not given."),
    ] = None,
    worst: Annotated[
        int, typer.Option("--worst", metavar="N", min=0, help="Find the slices, by one input or two, it does worst in.")
    ] = 0,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots.")] = None,
    records: Annotated[
        Path | None, typer.Option("--records", metavar="DIR", help="The records folder, if it is not the home's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Performance by window of event time, with intervals, from the labels that have come.

    Windows whose labels are still coming are marked with an ellipsis, those that changed afterwards with a star.

    Example: modelyard monitor performance flights-delay --by week

    Example: modelyard monitor performance flights-delay --by month --slice carrier --metric auc

    Example: modelyard monitor performance flights-delay --worst 5 --since 2013-06-01
    """
    if by not in _WINDOWS:
        raise typer.BadParameter(f"{by!r} is none of {', '.join(_WINDOWS)}", param_hint="--by")
    from modelyard.home import Home
    from modelyard.monitoring.performance.groups import By
    from modelyard.monitoring.performance.reading import Stretch, worst_slices
    from modelyard.monitoring.performance.reading import performance as measured
    from modelyard.monitoring.performance.text import text, worst_text
    from modelyard.records.query import RecordDatabase

    with reported_errors(as_json):
        home, stretch = Home.locate(), Stretch(version, since, until)
        with RecordDatabase(records or home.records) as database:
            for damaged in database.damage:
                err.print(f"warning: {damaged}", markup=False, style="yellow")
            found = measured(
                database,
                deployment,
                home,
                stretch=stretch,
                positive=positive,
                column=slice_,
                metrics=metrics or (),
                by=By(by),
                level=level,
                age=None if complete_after is None else complete_after * 3600,
            )
            bad = None
            if worst:
                ranked = next((name for name in metrics or () if name != "auc"), "")
                bad = worst_slices(
                    database, deployment, home, stretch=stretch, positive=positive, metric=ranked, most=worst
                )
        if html is not None:
            _write(html, deployment, found)
        said = f"{deployment}: performance\n{text(found)}" + (f"\n\n{worst_text(bad)}" if bad else "")
        emit(_document(deployment, found, bad), as_json, lambda: out.print(said, markup=False, no_wrap=True))


def _document(deployment: str, found: History, bad: Found | None) -> dict[str, Any]:
    import msgspec

    document: dict[str, Any] = {"deployment": deployment} | msgspec.to_builtins(found)
    for point, told in zip((*found.points, *found.whole), (*document["points"], *document["whole"]), strict=True):
        told["coverage"] = point.coverage
    return document | ({"worst": msgspec.to_builtins(bad)} if bad else {})


def _write(file: Path, deployment: str, found: History) -> None:
    from modelyard import pages
    from modelyard.monitoring.performance.page import section

    file.write_text(pages.page(f"{deployment}: performance", section(found)), encoding="utf-8")
