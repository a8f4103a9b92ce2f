"""Parameters that do without Typer's conversion are what they would be with it."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer

from modelyard.cli.plain_words import take_words_as_they_are

app = typer.Typer()
taken: dict[str, Any] = {}


class Colour(Enum):
    RED = "red"


@app.command()
def command(
    text: Annotated[str, typer.Argument()],
    texts: Annotated[list[str] | None, typer.Argument()] = None,
    path: Annotated[Path | None, typer.Option("--path")] = None,
    there: Annotated[Path | None, typer.Option("--there", exists=True, dir_okay=False)] = None,
    paths: Annotated[list[Path] | None, typer.Option("--paths")] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag")] = None,
    count: Annotated[int, typer.Option("--count", min=1)] = 3,
    share: Annotated[float | None, typer.Option("--share")] = None,
    how: Annotated[Literal["fast", "slow"], typer.Option("--how")] = "fast",
    colour: Annotated[Colour, typer.Option("--colour")] = Colour.RED,
    upper: Annotated[str, typer.Option("--upper", parser=str.upper)] = "a",
    variable: Annotated[str, typer.Option("--variable", envvar="PLAIN_WORDS")] = "",
    flag: Annotated[bool, typer.Option("--flag/--no-flag")] = True,
) -> None:
    taken.update({name: value for name, value in locals().items() if name != "taken"})


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a"],
        ["a", "b", "-", ""],
        ["a", "--path", "x/../y", "--flag"],
        ["a", "--path", "-", "--no-flag"],
        ["a", "--there", "/"],
        ["a", "--there", "/nothing"],
        ["a", "--there", __file__, "--paths", "a", "--paths", "b"],
        ["a", "--tag", "x=1", "--tag", "été", "--count", "4", "--share", "0.5", "--how", "slow"],
        ["a", "--count", "0"],
        ["a", "--count", "many"],
        ["a", "--how", "never"],
        ["a", "--colour", "red", "--upper", "abc"],
        ["a", "--colour", "blue"],
        ["--help"],
        ["a", "--nonsense"],
    ],
)
def test_a_command_line_means_the_same(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for treated in (False, True):
        made = typer.main.get_command(app)
        if treated:
            take_words_as_they_are(made)
        taken.clear()
        monkeypatch.setenv("PLAIN_WORDS", "from outside")
        said.append((*_run(made, words, capsys), dict(taken)))
    assert said[0] == said[1]
    assert {name: type(value) for name, value in said[0][-1].items()} == {
        name: type(value) for name, value in said[1][-1].items()
    }


def _run(made: Any, words: list[str], capture: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        made.main(words, prog_name="toy")
    return (ended.value.code, *capture.readouterr())
