"""Reproduction from the command line."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer
from rich.markup import escape

from modelyard.cli.output import Json, emit, err, out, reported_errors

if TYPE_CHECKING:
    from modelyard.domain.reproduction import Answered, Learned, MetricPair, Reproduction, Trial, Verdict
    from modelyard.reproduction.reproduce import Asked

app = typer.Typer()

FAILED = 6
"""Exit status where the program failed or packed nothing."""


@app.command()
def reproduce(
    ref: Annotated[str, typer.Argument(metavar="NAME@V|RUN", help="A version, or the id of a run that packed one.")],
    explain: Annotated[
        bool, typer.Option("--explain", help="Find what moved the result, by exchanging one ingredient at a time.")
    ] = False,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="What if with so many threads?")] = None,
    what_if: Annotated[
        list[str] | None, typer.Option("--with", metavar="PKG==VERSION", help="What if this package were another?")
    ] = None,
    variable: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="What if this variable were so?")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="NAME@V", help="Compare with this version instead.")
    ] = None,
    require: Annotated[
        str, typer.Option("--require", help="The worst verdict that gives exit status 0.")
    ] = "equal within tolerance",
    limit: Annotated[float | None, typer.Option("--limit", help="Seconds that one run may take.")] = None,
    work: Annotated[
        Path | None, typer.Option("--work", metavar="DIR", help="Keep code, data and results in this new folder.")
    ] = None,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Let the program of a run that came from another home run here.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a version again from its record, and compare learned state, answers and metrics.

    The environment is rebuilt, code and data are checked out into a fresh folder, and the recorded command runs there.
    Nothing is registered but the verdict. Exit status 0: at least as good as --require; 1: not; 6: it failed.

    Example: modelyard reproduce flights-delay@3

    Example: modelyard reproduce flights-delay@3 --explain --threads 4
    """
    from modelyard.cli.train import tags_of
    from modelyard.domain.reproduction import ORDER, Verdict, at_least

    if require not in get_args(Verdict):
        raise typer.BadParameter(f"--require: there are the verdicts {', '.join(ORDER[:-1])}")
    with reported_errors(as_json):
        from modelyard.reproduction.recipe import WhatIf
        from modelyard.reproduction.reproduce import Asked

        changed = WhatIf(threads, tuple(what_if or ()), tuple(tags_of(variable).items()))
        found = _reproduce(ref, Asked(changed, against, explain, limit, work, trust_code), quiet=as_json)
        emit(found, as_json, lambda: _print(found))
    if found.verdict == "failed":
        raise typer.Exit(FAILED)
    if not at_least(found.verdict, cast("Verdict", require)):
        raise typer.Exit(1)


def _reproduce(ref: str, asked: Asked, *, quiet: bool) -> Reproduction:
    from modelyard.reproduction.reproduce import reproduce as run

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what the program started ends with this command
    with err.status("opening the record", spinner="line") as status:

        def say(words: str) -> None:
            status.update(escape(words))

        def tell(trial: Trial) -> None:
            if not quiet:
                _print_trial(trial)

        return run(ref, asked, say=say, on_trial=tell)


_COLOURS = {"bit-equal": "bold green", "equal within tolerance": "green", "same decisions": "yellow"}


def _print_trial(trial: Trial) -> None:
    said = f"{'[yellow]moves it[/]' if trial.moved else 'no effect'}, {trial.verdict}"
    if trial.verdict == "failed":
        said = f"[red]failed[/]: {escape(trial.reason)}"
    out.print(f"tried [dim]{trial.seconds:5.1f} s[/]  {escape(trial.what)}: {said}")


def _print(found: Reproduction) -> None:
    colour = _COLOURS.get(found.verdict, "bold red")
    reason = f": {escape(found.reason)}" if found.reason else ""
    compared = f" compared with {escape(found.against)}" if found.against else ""
    out.print(f"[bold]{escape(found.ref)}[/]{compared} [{colour}]{found.verdict}[/]{reason}")
    for name, text in _lines(found):
        out.print(f"  [dim]{name:<14}[/]{escape(text)}")
    if found.explanation is not None:
        out.print(f"  [dim]{'explained':<14}[/][bold]{escape(found.explanation.said)}[/]")
        for cause in found.explanation.causes:
            out.print(f"  [dim]{'cause':<14}[/]{escape(str(cause))}")
    if found.what_if:
        out.print(f"  a what-if run with {escape(', '.join(found.what_if))}; it says nothing of the version itself")


def _lines(found: Reproduction) -> list[tuple[str, str]]:
    lines = [("of run", f"{found.run}, {found.seconds:.1f} s")]
    if found.learned is not None:
        lines += [("learned state", _learned(found.learned))]
        lines += [("", part) for part in found.learned.differing]
    if found.answers is not None:
        lines += [("answers", _answers(found.answers))]
    lines += [("metrics", _metrics(found.metrics))] if found.metrics else []
    lines += [("cannot give", one) for one in found.missing]
    if found.verdict != "bit-equal":
        lines += [("differs", str(one)) for one in found.differences] or [("differs", "nothing that is recorded")]
    lines += [("note", one) for one in found.notes]
    return [*lines, ("here", ", ".join(f"{name} {value}" for name, value in found.facts.items() if value))]


def _learned(learned: Learned) -> str:
    if learned.equal:
        return f"all {learned.parts} parts equal, {learned.digest[:19]}"
    ulp = f", {learned.largest_ulp} ULP" if learned.largest_ulp else ""
    return f"{learned.different} of {learned.parts} parts differ, by up to {learned.largest_abs:.1e}{ulp}"


def _answers(answers: Answered) -> str:
    if answers.problem:
        return answers.problem
    if answers.bit_equal:
        return f"{answers.rows} golden rows bit-equal, {answers.means}"
    flips = f"{answers.flips} labels flipped" if answers.decisions else "no labels to compare"
    return (
        f"{answers.rows} golden rows differ by up to {answers.largest_abs:.1e} ({answers.largest_ulp} ULP), "
        f"{answers.mismatched} beyond the tolerance, {flips}, {answers.means}"
    )


def _metrics(metrics: Sequence[MetricPair]) -> str:
    def said(pair: MetricPair) -> str:
        return f"{pair.name} {pair.before}" if pair.equal else f"{pair.name} {pair.before}, now {pair.after}"

    equal = sum(pair.equal for pair in metrics)
    return f"{equal} of {len(metrics)} equal: {'; '.join(said(pair) for pair in metrics[:8])}"
