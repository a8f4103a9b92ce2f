"""Bulk prediction from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from modelyard.cli.output import Json, TrustCode, emit, err, out, reported_errors

if TYPE_CHECKING:
    from modelyard.scoring import Scored

app = typer.Typer()


@app.command()
def score(
    ref: Annotated[str, typer.Argument(metavar="NAME@V|BUNDLE", help="A version, or the path of a bundle's folder.")],
    source: Annotated[Path, typer.Option("--input", metavar="FILE", help="CSV (.csv, .csv.gz) or Parquet to read.")],
    target: Annotated[Path, typer.Option("--output", metavar="FILE", help="CSV or Parquet to write.")],
    keep: Annotated[
        str | None,
        typer.Option("--keep", metavar="A,B", help="Input columns to write beside the answers; all without it."),
    ] = None,
    refused: Annotated[
        Literal["fail", "mark"],
        typer.Option("--refused", help="A row that the model does not take: stop, or keep it without an answer."),
    ] = "fail",
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads that the model computes with.")] = 1,
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Predict a whole CSV or Parquet file of any size, with the numbers that the version answers online.

    Columns are matched by name; others are passed on. An empty cell or null is a missing value.

    Example: modelyard score flights-delay@3 --input march.parquet --output march-scored.parquet
    """
    with reported_errors(as_json):
        kept = keep.split(",") if keep is not None else None
        done = _score(ref, source, target, kept, refused, threads, trust_code)
        document = {
            "input": str(source),
            "output": str(target),
            "rows": done.rows,
            "refused": done.refused,
            "seconds": done.seconds,
        }
        emit(document, as_json, lambda: _print(done, target))


def _score(
    ref: str,
    source: Path,
    target: Path,
    keep: list[str] | None,
    refused: Literal["fail", "mark"],
    threads: int,
    trust_code: bool,
) -> Scored:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from modelyard.bundle.runtimes import open_runtime
    from modelyard.finding import find_bundle
    from modelyard.home import Home
    from modelyard.scoring import score_file

    home = Home.locate()
    bundle = find_bundle(ref, home, trust_code=trust_code)
    shown = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*shown, console=err, transient=True) as bars:
        task = bars.add_task("opening the model", total=1.0)
        runtime = open_runtime(
            bundle, home=home, threads=threads, progress=lambda words: bars.update(task, description=words)
        )

        def tell(rows: int, share: float) -> None:
            bars.update(task, completed=share, description=f"{rows:,} rows")

        try:
            return score_file(
                runtime.predict, bundle.manifest.schema, source, target, keep=keep, refused=refused, progress=tell
            )
        finally:
            runtime.close()


def _print(done: Scored, target: Path) -> None:
    pace = f", {done.rows / done.seconds:,.0f} a second" if done.seconds > 0 else ""
    out.print(f"{done.rows:,} rows scored in {done.seconds:.1f} s{pace}: {target}")
    if done.refused:
        out.print(f"{done.refused:,} of them were refused; column 'refused' says why")
