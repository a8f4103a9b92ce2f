"""Models and versions as text for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelyard.cli.output import out

if TYPE_CHECKING:
    from modelyard.domain.manifest import CompileAttempt, Manifest
    from modelyard.domain.reproduction import Reproduction
    from modelyard.domain.run import Run
    from modelyard.domain.schema import Column, Output
    from modelyard.registry import StoredReport
    from modelyard.registry.marks import Marks
    from modelyard.registry.reproductions import StoredReproduction


PIPE_WIDTH = 400
NEVER_FOLDED = frozenset(
    {
        "answers",
        "asked for",
        "deployment",
        "model",
        "newest",
        "registered",
        "runtime",
        "since",
        "state",
        "type",
        "version",
    }
)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A plain table of texts; nothing in a cell is taken for markup."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading, overflow="fold", no_wrap=heading in NEVER_FOLDED)
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def put(body: Table | Text) -> None:
    """Print it; where there is no terminal whose width would matter, no cell is folded to fit one."""
    console = out if out.is_terminal else Console(width=PIPE_WIDTH, highlight=False, soft_wrap=True)
    console.print(body)


def moment(at: datetime) -> str:
    """A time, in UTC and to the second."""
    return at.strftime("%Y-%m-%d %H:%M:%SZ")


def versions_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Versions, one a line."""
    headings = ["version", "registered", "runtime", "proven", "aliases", "digest", "values and tags"]
    return table(
        headings,
        [
            [
                row["ref"],
                moment(row["created_at"]),
                row["runtime"],
                "yes" if row["proven"] else "no",
                ", ".join(row["aliases"]),
                row["digest"][:19],
                ", ".join(f"{name}={said}" for part in ("values", "tags") for name, said in row.get(part, {}).items()),
            ]
            for row in rows
        ],
    )


def print_model(described: dict[str, Any]) -> None:
    """A model: its versions and what its aliases point at."""
    out.print(f"[bold]{described['model']}[/]")
    put(versions_table(described["versions"]))
    if described["more"]:
        out.print(f"these are the newest {len(described['versions'])}: modelyard list {described['model']} --limit")
    for alias, number in described["aliases"].items():
        out.print(f"{described['model']}@{alias} points at {described['model']}@{number}")
    for removal in described["removed"]:
        out.print(str(removal), markup=False)


def print_version(described: dict[str, Any]) -> None:
    """A version: what it takes and answers, how it computes and why, what it needs, and its proof."""
    manifest: Manifest = described["manifest"]
    out.print(_headline(described, manifest))
    section("takes", table(["column", "type", "missing", "accepts"], map(_column, manifest.schema.columns)))
    section("answers", table(["output", "type", "means", "classes"], map(_output, manifest.schema.outputs)))
    if manifest.attempts:
        section("compiling", table(["precision", "outcome", "reason"], map(_attempt, manifest.attempts)))
    section("environment", Text(_environment(manifest)))
    section("code", Text(_code(manifest)))
    _print_marks(described["marks"])
    section("runs that made it", _runs(described["runs"]))
    section("parity reports", _reports(described["reports"]))
    section("reproductions", _reproductions(described["reproductions"]))


def _print_marks(marks: Marks) -> None:
    from modelyard.cli.marking import marked

    if lines := marked(marks):
        section("tags and notes put on it later", Text("\n".join(lines)))


def _code(manifest: Manifest) -> str:
    from modelyard.bundle.trust import code_in

    lines, code = list(code_in(manifest)), manifest.code
    if code.commit:
        changed = f", with {len(code.changed)} changed and {len(code.untracked)} untracked files"
        lines.append(f"commit {code.commit}{changed if code.changed or code.untracked else ''}")
    return "\n".join(lines) or "none of its own"


def _runs(runs: Sequence[Run]) -> Table | Text:
    if not runs:
        return Text("none recorded")
    rows = [[run.id, run.name, moment(run.started_at), ", ".join(run.data.versions)] for run in runs]
    return table(["run", "name", "started", "read"], rows)


def section(title: str, body: Table | Text) -> None:
    """A heading and what is below it."""
    out.print(Text(f"\n{title}", style="bold"))
    put(body)


def _headline(described: dict[str, Any], manifest: Manifest) -> Text:
    facts = {
        "digest": described["digest"],
        "registered": moment(described["created_at"]),
        "estimator": f"{manifest.estimator} ({manifest.framework})",
        "runtime": described["runtime"],
        "proven": "yes" if described["proven"] else f"no: modelyard verify {described['ref']}",
        "aliases": ", ".join(described["aliases"]),
        "tags": ", ".join(f"{key}={value}" for key, value in described["tags"].items()),
        "golden rows": str(manifest.golden_rows),
        "files": described["path"],
    }
    lines = [f"{name:<12} {value}" for name, value in facts.items() if value]
    return Text.assemble((described["ref"], "bold"), "\n", "\n".join(lines))


def _column(column: Column) -> list[str]:
    return [column.name, _typed(column), "taken" if column.nullable else "refused", _accepts(column)]


def _typed(value: Column | Output) -> str:
    shape = "".join(f"[{'any' if size < 0 else size}]" for size in value.shape)
    return f"{value.kind.value}{shape}"


def _accepts(column: Column) -> str:
    accepts = column.accepts
    said = []
    if accepts.minimum is not None or accepts.maximum is not None:
        said.append(f"{_bound(accepts.minimum, '-inf')} .. {_bound(accepts.maximum, 'inf')}")
    if accepts.categories is not None:
        said.append(f"only {len(accepts.categories)} categories")
    return ", ".join(said)


def _bound(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{value:g}"


def _output(output: Output) -> list[str]:
    classes = [] if output.classes is None else [repr(name) for name in output.classes[:8]]
    more = ", ..." if output.classes is not None and len(output.classes) > len(classes) else ""
    return [output.name, _typed(output), output.role, ", ".join(classes) + more]


def _attempt(attempt: CompileAttempt) -> list[str]:
    return [attempt.precision, attempt.outcome, attempt.reason]


def _environment(manifest: Manifest) -> str:
    environment = manifest.environment
    count = len(environment.distributions)
    return (
        f"Python {environment.python}, {environment.platform}, {count} distributions, {environment.blas or 'no BLAS'}"
    )


def _reports(stored: Sequence[StoredReport]) -> Table | Text:
    if not stored:
        return Text("none yet")
    rows = [[moment(entry.at), "passed" if entry.report.passed else "FAILED", _why(entry)] for entry in stored]
    return table(["when", "result", "reason"], rows)


def _reproductions(stored: Sequence[StoredReproduction]) -> Table | Text:
    if not stored:
        return Text("none yet")
    rows = [[moment(entry.at), entry.reproduction.verdict, _found(entry.reproduction)] for entry in stored]
    return table(["when", "verdict", "what was found"], rows)


def _found(found: Reproduction) -> str:
    said = [f"what if: {', '.join(found.what_if)}"] if found.what_if else []
    said += [f"compared with {found.against}"] if found.against else []
    said += [found.reason] if found.reason else []
    return "; ".join(said + ([found.explanation.said] if found.explanation is not None else []))


def _why(entry: StoredReport) -> str:
    what_if = [f"what if: {', '.join(entry.report.overrides)}"] if entry.report.overrides else []
    failed = [f"{stage.stage}: {stage.reason}" for stage in entry.report.stages if not stage.passed]
    return "; ".join([*what_if, *failed])
