"""What differs between two versions of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.output import Json, emit, err, out, reported_errors

if TYPE_CHECKING:
    from modelyard.comparing.answers import AnswersDiff
    from modelyard.comparing.differing import CodeDiff
    from modelyard.differing import Difference

app = typer.Typer()


@app.callback()
def _diff() -> None:
    """Differences."""


@app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="NAME@A", help="The version to start from.")],
    after: Annotated[str, typer.Argument(metavar="NAME@B", help="The other version; also of another model.")],
    on: Annotated[
        Path | None, typer.Option("--on", metavar="FILE", help="On how many rows of this table the answers differ.")
    ] = None,
    speed: Annotated[
        bool | None,
        typer.Option("--speed/--no-speed", help="Time a row. By default unless an environment had to be built."),
    ] = None,
    repository: Annotated[
        Path | None, typer.Option("--repository", metavar="DIR", help="The code's repository, if it is not here.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page of it as well.")] = None,
    as_json: Json = False,
) -> None:
    """What differs between two versions: data, code, environment, parameters, metrics, schema, size, speed, answers.

    Example: modelyard diff flights-delay@2 flights-delay@3

    Example: modelyard diff flights-delay@champion flights-delay@3 --on march.parquet --html changes.html
    """
    from modelyard.differing import diff as compare

    with reported_errors(as_json), _progress(on) as tell:
        found = compare(before, after, on=on, speed=speed, repository=repository, tell=tell)
        if html is not None:
            _write(found, html)
        emit(found, as_json, lambda: _print(found))


@contextmanager
def _progress(on: Path | None) -> Iterator[Callable[[int, float], None]]:
    """A bar on standard error where that is a terminal and there is a file; nothing else."""
    if on is None or not err.is_terminal:
        yield lambda rows, share: None
        return
    from rich.progress import Progress

    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("comparing answers", total=1.0)
        yield lambda rows, share: bar.update(task, completed=share, description=f"comparing answers: {rows:,} rows")


def _write(found: Difference, file: Path) -> None:
    from modelyard.comparing.report import page
    from modelyard.errors import Failed

    try:
        file.write_text(page(found.versions, found.speed, found.answers), "utf-8")
    except OSError as error:
        raise Failed(f"{file} cannot be written: {error.strerror}") from error


def _print(found: Difference) -> None:
    from modelyard.cli.cards import section, table
    from modelyard.comparing.telling import SPEED, sections, speed_rows

    versions = found.versions
    out.print(f"{versions.before} -> {versions.after}", markup=False, style="bold")
    if versions.same:
        out.print("the same, byte for byte")
    for side, run in zip((versions.before, versions.after), versions.runs, strict=True):
        if run is None:
            out.print(f"{side} was not made in a recorded run: only what its bundle says is compared", markup=False)
    for title, headings, rows in sections(versions):
        section(title, table(headings, rows))
    _print_code(versions.code)
    if found.speed.why_not:
        out.print(f"\nspeed: not measured, as {found.speed.why_not}", markup=False)
    else:
        section("speed of a row in this process", table(SPEED, speed_rows(found.speed)))
        if found.speed.ratio is not None:
            ratio = (
                f"{found.speed.ratio:.2f} times as long as before (median of {found.speed.blocks} neighbouring blocks)"
            )
            out.print(ratio, markup=False)
    if found.answers is not None:
        _print_answers(found.answers)


def _print_code(code: CodeDiff) -> None:
    from rich.text import Text

    out.print(Text("\ncode", style="bold"))
    if code.before == code.after:
        out.print(f"both at commit {code.before}" if code.before else "at no commit", markup=False)
    else:
        out.print(f"commit {code.before or '-'} -> {code.after or '-'}", markup=False)
    out.print(f"compared: {code.source}; {len(code.files)} files differ, {code.unchanged} do not", markup=False)
    for note in code.notes:
        out.print(note, markup=False)
    for file in code.files:
        for line in file.diff.splitlines():
            style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            out.print(Text(line, style=style))


def _print_answers(found: AnswersDiff) -> None:
    from modelyard.cli.cards import put, section, table
    from modelyard.comparing.telling import ANSWERS, answers_lines, answers_rows

    section(f"answers to the rows of {found.table}", table(ANSWERS, answers_rows(found)))
    for line in answers_lines(found):
        out.print(line, markup=False)
    if found.examples:
        rows = [[str(one.row), one.output, one.before, one.after] for one in found.examples]
        put(table(["row", "output", "before", "after"], rows))
