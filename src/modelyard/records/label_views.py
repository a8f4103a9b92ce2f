# Every name and text in this SQL is quoted; what users ask in SQL is no part of it.
# ruff: noqa: S608
"""The SQL by which labels find their rows: by id, and by key columns, which each label names for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.records.sqltext import literal, pointer

_BETWEEN = " || chr(31) || "
_ORDER = "coalesce(known_at, time) DESC, received_ns DESC, segment DESC, position DESC"
_COLUMNS = """nullif(prediction_id, '') AS prediction_id, value, kind, number, time, source,
    nullif(deployment, '') AS deployment, nullif(key, '') AS key, known_at"""

KEYS_IN_USE = """
    SELECT DISTINCT deployment, json_keys(key) AS columns FROM labels_stored WHERE key <> '' ORDER BY ALL"""
"""Gives the key columns that labels name, deployment by deployment."""

KINDS_BY_DEPLOYMENT = """
    SELECT DISTINCT deployment, kind FROM labels_stored WHERE key <> ''
    UNION
    SELECT DISTINCT p.deployment, l.kind FROM predictions_stored AS p JOIN labels_stored AS l USING (prediction_id)"""
"""Gives the kinds of the values of labels, deployment by deployment."""

UNKNOWN_AMONG_WANTED = """
    SELECT name FROM (
        SELECT prediction_id AS name, place FROM wanted
        WHERE key = '' AND prediction_id NOT IN (SELECT prediction_id FROM predictions_stored)
        UNION ALL
        SELECT key AS name, place FROM wanted SEMI JOIN labels_unknown USING (deployment, key))
    GROUP BY name ORDER BY min(place)"""
"""Gives those of the labels in the table ``wanted`` that wait for their prediction."""


@dataclass(frozen=True, slots=True)
class KeyColumns:
    """Columns by which some labels of a deployment name their rows."""

    deployment: str
    columns: tuple[str, ...]

    @property
    def labels(self) -> str:
        """The condition that holds for these labels."""
        return f"deployment = {literal(self.deployment)} AND {_is_object_of('key', self.columns)}"

    def value_in(self, document: str) -> str:
        """The key in a column of JSON objects as one text; null where one of its columns is missing."""
        return key_expression(document, self.columns)


def key_expression(document: str, columns: Sequence[str]) -> str:
    r"""SQL for the values of `columns` in the JSON `document`, as `domain.records.key_text` writes them, in one text.

    >>> key_expression("inputs", ["flight"])
    "regexp_replace(json_extract_string(inputs, ['/flight'])[1], '^(-?[0-9]+)\\.0+$', '\\1')"
    """
    paths = ", ".join(literal(pointer([name])) for name in columns)
    # One extraction of all paths: the document is parsed once.
    values = f"json_extract_string({document}, [{paths}])"
    whole = (literal(r"^(-?[0-9]+)\.0+$"), literal(r"\1"))
    each = [f"regexp_replace({values}[{at}], {whole[0]}, {whole[1]})" for at in range(1, len(columns) + 1)]
    return _BETWEEN.join(each)


def label_views(keys: Sequence[KeyColumns]) -> dict[str, str]:
    """The SELECTs behind the views of labels and of predictions joined with them, in the order of making."""
    return {
        "labels_counting": f"""
            SELECT * FROM labels_stored
            QUALIFY row_number() OVER (PARTITION BY prediction_id, deployment, key ORDER BY {_ORDER}) = 1""",
        "labels": f"SELECT {_COLUMNS} FROM labels_counting",
        "labels_found": """
            SELECT *, struct_pack(known := coalesce(known_at, time), received_ns := received_ns, segment := segment,
                position := position, value := value, kind := kind, number := number) AS found FROM labels_counting""",
        "joined": _joined(keys),
        "labels_history": f"SELECT {_COLUMNS} FROM labels_stored ORDER BY received_ns, segment, position",
        "labels_unknown": _unknown(keys),
    }


def _joined(keys: Sequence[KeyColumns]) -> str:
    sources = ["SELECT prediction_id, found FROM labels_found WHERE key = ''"]
    joins = [f"LEFT JOIN ({sources[0]}) AS l ON l.prediction_id = p.prediction_id"]
    for number, one in enumerate(keys):
        labels = f"SELECT {one.value_in('key')} AS key, found FROM labels_found WHERE {one.labels}"
        asked = f"CASE WHEN p.deployment = {literal(one.deployment)} THEN {one.value_in('p.inputs')} END"
        joins.append(f"LEFT JOIN ({labels}) AS k{number} ON k{number}.key = {asked}")
    found = ", ".join(["l.found", *(f"k{number}.found" for number in range(len(keys)))])
    # Of several, the greatest: their first fields are those by which labels are ordered.
    best = f"greatest({found})" if keys else found
    return f"""
        SELECT * EXCLUDE (found), found.value AS label, found.number AS label_number, found.known AS labelled_at
        FROM (SELECT p.*, {best} AS found FROM predictions AS p {" ".join(joins)})"""


def _unknown(keys: Sequence[KeyColumns]) -> str:
    parts = [
        f"""SELECT {_COLUMNS} FROM labels_counting
            WHERE key = '' AND prediction_id NOT IN (SELECT prediction_id FROM predictions_stored)"""
    ]
    for one in keys:
        rows = f"SELECT {one.value_in('inputs')} FROM predictions_stored WHERE deployment = {literal(one.deployment)}"
        parts.append(
            f"""SELECT {_COLUMNS} FROM labels_counting WHERE {one.labels}
                AND NOT EXISTS (FROM ({rows}) AS rows(key) WHERE rows.key = {one.value_in("labels_counting.key")})"""
        )
    return " UNION ALL ".join(parts)


def _is_object_of(document: str, columns: Sequence[str]) -> str:
    names = ", ".join(map(literal, columns))
    return f"key <> '' AND json_keys({document}) = [{names}]"
