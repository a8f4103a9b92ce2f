# Names and texts in this SQL are quoted; what users write is no part of it.
"""SQL for what is said of one answer, from its JSON in the records: the column ``outputs``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelyard.monitoring.performance.task import Aim, Task
from modelyard.records.sqltext import literal, pointer
from modelyard.rollout.policy import Rule

MOST_CLASSES = 20
"""Of so many classes it is watched how often each is answered; of more, the first ones."""


def bad_rows(rules: Mapping[str, Rule], task: Task | None, cuts: Sequence[float] = ()) -> dict[str, str]:
    """For each metric that every answered row says something of: how bad one is, 0 to 1; numbers are cut at `cuts`."""
    found = {}
    if "unusable" in rules:
        found["unusable"] = unusable(rules["unusable"], task)
    if "answers" in rules:
        found |= shares(task, rules["answers"].cuts or cuts)
    return found


def unusable(rule: Rule, task: Task | None) -> str:
    """Whether something in an answer is missing, NaN or infinite (``null`` in the records), or out of its range."""
    texts = """regexp_replace(outputs, '"(\\\\.|[^"\\\\])*"', '', 'g')"""
    either = [f"{texts} LIKE '%null%'"]
    if task is not None and task.together:
        name = task.together.replace("\\", "\\\\").replace('"', '\\"')
        paths = ('$."' + name + '"' + each for each in (".*", "[*]"))
        parts = [f"json_extract(outputs, {literal(path)})" for path in paths]
        chances = f"TRY_CAST({' || '.join(parts)} AS DOUBLE[])"
        either.append(f"len(list_filter({chances}, lambda chance: chance < 0 OR chance > 1)) > 0")
    if rule.range is not None and task is not None and task.answer:
        least, most = rule.range
        either.append(f"TRY_CAST({said(task)} AS DOUBLE) NOT BETWEEN {least!r} AND {most!r}")
    return f"CAST(outputs IS NULL OR {' OR '.join(f'coalesce({one}, false)' for one in either)} AS DOUBLE)"


def shares(task: Task | None, cuts: Sequence[float] = ()) -> dict[str, str]:
    """Whether an answer is a class, for each, of two classes for one; of numbers, whether it lies above each cut.

    One that lies at the lowest cut, where a model that mostly says the same has most answers, is told apart too.
    """
    if task is None or not task.answer:
        return {}
    if task.aim is Aim.REGRESSION:
        number = f"TRY_CAST({said(task)} AS DOUBLE)"
        found = {f"from {cut!r}": f"{number} >= {cut!r}" for cut in cuts[:1]}
        found |= {f"over {cut!r}": f"{number} > {cut!r}" for cut in cuts}
        return {f"answers={name}": f"CAST(coalesce({one}, false) AS DOUBLE)" for name, one in found.items()}
    classes = task.classes[1:] if len(task.classes) == 2 else task.classes[:MOST_CLASSES]
    names = [str(each).lower() if isinstance(each, bool) else str(each) for each in classes]
    return {f"answers={name}": f"CAST({same(said(task), literal(name))} AS DOUBLE)" for name in names}


def bad_labelled(rules: Mapping[str, Rule], task: Task | None) -> dict[str, str]:
    """For each metric of labelled rows: how bad an answer is in the light of the column ``label``, 0 to 1."""
    if task is None or not task.answer:
        return {}
    if task.aim is not Aim.REGRESSION:
        return {"wrong": f"CAST(NOT {same(said(task), 'label')} AS DOUBLE)"} if "wrong" in rules else {}
    if "loss" not in rules:
        return {}
    off = f"abs(TRY_CAST({said(task)} AS DOUBLE) - TRY_CAST(label AS DOUBLE)) / {rules['loss'].bound!r}"
    return {"loss": f"coalesce(least({off}, 1.0), 1.0)"}


def different(tolerance: float, one: str, other: str) -> str:
    """Whether two answers differ: numbers by more than `tolerance`, anything else at all."""
    numbers = f"abs(TRY_CAST({one} AS DOUBLE) - TRY_CAST({other} AS DOUBLE)) > {tolerance!r}"
    return f"CAST(coalesce({numbers}, {one} IS DISTINCT FROM {other}) AS DOUBLE)"


def said(task: Task | None) -> str:
    """What was answered, as text; where nobody knows what the answer is, all of it."""
    if task is None or not task.answer:
        return "CAST(outputs AS VARCHAR)"
    return f"json_extract_string(outputs, {literal(pointer([task.answer]))})"


def same(one: str, other: str) -> str:
    """Whether two texts are the same, or the same number."""
    return f"coalesce(TRY_CAST({one} AS DOUBLE) = TRY_CAST({other} AS DOUBLE), {one} = {other}, false)"
