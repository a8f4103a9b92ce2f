"""A difference between versions as one HTML page, which needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from modelyard import pages
from modelyard.comparing.answers import AnswersDiff, Speed
from modelyard.comparing.differing import CodeDiff, VersionDiff
from modelyard.comparing.telling import ANSWERS, SPEED, answers_lines, answers_rows, sections, speed_rows

_STYLE = """
pre { overflow-x: auto; border-left: 3px solid var(--line); padding-left: .8rem; line-height: 1.35 }
.add { color: #2e8b57 } .cut { color: #c0392b } .at { opacity: .6 } summary { cursor: pointer; font-weight: 600 }
td { overflow-wrap: anywhere }
"""


def page(found: VersionDiff, speed: Speed, answers: AnswersDiff | None) -> str:
    """The whole page."""
    return pages.page(f"{found.before} → {found.after}", _body(found, speed, answers), style=_STYLE)


def _body(found: VersionDiff, speed: Speed, answers: AnswersDiff | None) -> Iterator[str]:
    if found.same:
        yield "<p>The two are the same, byte for byte.</p>"
    if answers is not None:
        yield from _answers(answers)
    for title, headings, rows in sections(found):
        yield f"<h2>{escape(title.capitalize())}</h2>{pages.rows(headings, rows)}"
    yield from _code(found.code)
    yield "<h2>Speed of a row in this process</h2>"
    yield f"<p>Not measured: {escape(speed.why_not)}</p>" if speed.why_not else _speed(speed)


def _answers(found: AnswersDiff) -> Iterator[str]:
    yield f"<h2>Answers to the rows of {escape(found.table)}</h2>"
    yield from (f"<p>{escape(line)}</p>" for line in answers_lines(found))
    yield pages.rows(ANSWERS, answers_rows(found))
    if found.examples:
        rows = [(str(one.row), one.output, one.before, one.after) for one in found.examples]
        yield "<h3>Some of them</h3>" + pages.rows(("row", "output", "before", "after"), rows)


def _speed(speed: Speed) -> str:
    ratio = (
        ""
        if speed.ratio is None
        else f"<p>After takes {speed.ratio:.2f} times as long as before, in {speed.blocks} blocks.</p>"
    )
    return pages.rows(SPEED, speed_rows(speed)) + ratio


def _code(code: CodeDiff) -> Iterator[str]:
    yield f"<h2>Code</h2>{pages.rows(('', 'before', 'after'), [('commit', code.before or '-', code.after or '-')])}"
    yield f"<p>Compared: {escape(code.source)}. {len(code.files)} files differ, {code.unchanged} do not.</p>"
    yield from (f"<p>{escape(note)}</p>" for note in code.notes)
    for file in code.files:
        yield f"<details open><summary>{escape(file.path)}, {file.change}</summary><pre>"
        yield from (_line(line) for line in file.diff.splitlines())
        yield "</pre></details>"


def _line(line: str) -> str:
    style = {"+": "add", "-": "cut", "@": "at"}.get(line[:1])
    return f'<span class="{style}">{escape(line)}</span>\n' if style else f"{escape(line)}\n"
