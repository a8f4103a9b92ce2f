"""``modelyard monitor estimate``: how good answers are likely to be where labels have not come yet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.output import Json, emit, out, reported_errors

if TYPE_CHECKING:
    from modelyard.monitoring.estimate.walking import State

app = typer.Typer()


@app.command()
def estimate(
    deployment: Annotated[str, typer.Argument(help="Its name.")],
    version: Annotated[
        int | None, typer.Option("--version", help="Of this version; of the one that answered last if not given.")
    ] = None,
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", help="Which to show; may be given several times.")
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Not what the monitor said then, but what is said now, window after window."),
    ] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots.")] = None,
    records: Annotated[
        Path | None, typer.Option("--records", metavar="DIR", help="The records folder, if it is not the home's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Estimated performance by window, made before labels came, beside what they said later.

    Every estimate has an interval that is to cover the later truth nine times in ten, and is trusted, widened (for a
    reason that is told), or refused. How often intervals did hold is shown as well. What the monitor said when a window
    had closed is kept; where no monitor has looked, it is computed from the records.

    Example: modelyard monitor estimate flights-delay

    Example: modelyard monitor estimate flights-delay --metric auc --html estimates.html
    """
    from modelyard.home import Home
    from modelyard.monitoring.estimate.reading import estimates
    from modelyard.monitoring.estimate.text import text

    with reported_errors(as_json):
        home = Home.locate()
        found = estimates(home, deployment, version, records=records, again=again)
        if html is not None:
            _write(html, f"{found.deployment}, {found.version}", found.state, metrics or ())
        emit(
            _document(found),
            as_json,
            lambda: out.print(
                f"{found.deployment}, {found.version}: estimates, {found.source}\n{text(found.state, metrics or ())}",
                markup=False,
                no_wrap=True,
            ),
        )


def _document(found: Any) -> dict[str, Any]:
    import msgspec

    from modelyard.monitoring.estimate.estimating import Trust
    from modelyard.monitoring.estimate.record import LEVEL, coverage

    state = found.state
    names = sorted({name for entry in state.record for name in entry.values})
    held = {
        name: {each.value if each else "all": msgspec.to_builtins(coverage(state.record, name, each)) for each in kinds}
        for name in names
        for kinds in [(None, Trust.TRUSTED, Trust.WIDENED)]
    }
    return {
        "deployment": found.deployment,
        "version": found.version,
        "source": found.source,
        "level": LEVEL,
        "seconds": state.seconds,
        "contradicted_before": state.forget or None,
        "usual": dict(state.usual),
        "coverage": held,
        "windows": msgspec.to_builtins(state.record),
    }


def _write(file: Path, said: str, state: State, metrics: Any) -> None:
    from modelyard import pages
    from modelyard.errors import Failed
    from modelyard.monitoring.estimate.text import section

    try:
        file.write_text(pages.page(f"{said}: estimates", section(state, metrics)), encoding="utf-8")
    except OSError as error:
        raise Failed(f"the page cannot be written to {file}: {error}") from error
