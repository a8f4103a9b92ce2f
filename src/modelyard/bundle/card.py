"""A short model card, written from the manifest alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelyard.domain.manifest import CompileAttempt, Manifest
from modelyard.domain.schema import Column, Output, Scalar

_LISTED = 8


def card(manifest: Manifest) -> str:
    """What the version is, takes, answers and needs, as Markdown."""
    return "\n".join(_lines(manifest))


def _lines(manifest: Manifest) -> Iterator[str]:
    yield f"# {manifest.name}"
    yield ""
    yield f"- Estimator: {manifest.estimator} ({manifest.framework})"
    yield f"- Runtime: {_runtime(manifest)}"
    yield f"- Proven on {manifest.golden_rows} rows, rtol {manifest.tolerance.rtol:g}, atol {manifest.tolerance.atol:g}"
    yield f"- Python {manifest.environment.python} on {manifest.environment.platform}"
    if manifest.code.commit:
        changed = ", with changes that are in this bundle" if manifest.code.changed or manifest.code.untracked else ""
        yield f"- Code: commit {manifest.code.commit}{changed}"
    yield from (f"- {key}: {value}" for key, value in sorted(manifest.tags.items()))
    yield from ("", "## Takes", "", "| column | type | missing | seen | taken |", "|---|---|---|---|---|")
    yield from (_column(column) for column in manifest.schema.columns)
    yield from ("", "## Answers", "", "| output | type | meaning | classes |", "|---|---|---|---|")
    yield from (_output(output) for output in manifest.schema.outputs)
    yield from ("", "## Needs", "")
    yield from (f"- {each.name} {each.version}" for each in manifest.environment.distributions)
    yield ""


def _runtime(manifest: Manifest) -> str:
    if manifest.runtime == "onnx" and manifest.compiled is not None:
        return f"onnx ({manifest.compiled.precision}, {manifest.compiled.converter})"
    return f"python; not compiled: {_why(manifest.attempts)}"


def _why(attempts: Sequence[CompileAttempt]) -> str:
    reasons = dict.fromkeys(f"{each.outcome}{': ' if each.reason else ''}{each.reason}" for each in attempts)
    return "; ".join(reasons) or "not tried"


def _column(column: Column) -> str:
    kind = f"{column.kind}{list(column.shape) if column.shape else ''}"
    missing = f"taken ({column.seen.missing_share:.1%} in training)" if column.nullable else "refused"
    return f"| {_cell(column.name)} | {kind} | {missing} | {_cell(_seen(column))} | {_cell(_taken(column))} |"


def _seen(column: Column) -> str:
    seen = column.seen
    if seen.categories is not None:
        return _listed(seen.categories)
    if seen.minimum is None:
        return "" if seen.distinct is None else f"{seen.distinct} distinct"
    return f"{_number(seen.minimum)} to {_number(seen.maximum)}"


def _taken(column: Column) -> str:
    accepts = column.accepts
    if accepts.categories is not None:
        return f"only {_listed(accepts.categories)}"
    if accepts.minimum is None and accepts.maximum is None:
        return "any"
    low = "" if accepts.minimum is None else f"from {accepts.minimum:g} "
    return (low + ("" if accepts.maximum is None else f"to {accepts.maximum:g}")).strip()


def _output(output: Output) -> str:
    kind = f"{output.kind}{list(output.shape) if output.shape else ''}"
    return f"| {_cell(output.name)} | {kind} | {output.role} | {_cell(_listed(output.classes or ()))} |"


def _number(value: float | str | None) -> str:
    return f"{value:g}" if isinstance(value, float | int) else str(value)


def _listed(values: Sequence[Scalar]) -> str:
    shown = ", ".join(str(value) for value in values[:_LISTED])
    return f"{shown} and {len(values) - _LISTED} more" if len(values) > _LISTED else shown


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
