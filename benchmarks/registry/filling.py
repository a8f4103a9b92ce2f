"""A registry of any size, filled by the database itself: few statements, each for all rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import Column, Connection, Integer, MetaData, Table, insert, text

from modelyard.datasets.facts import Facts, encode_facts
from modelyard.domain.environment import Distribution, Environment
from modelyard.domain.run import CodeState, DataUse, Machine, Metric, Outcome, Process, Run
from modelyard.registry import tables as t
from modelyard.registry.database import Database

BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
LARGE = "model-000"
"""The model that has a fifth of all versions."""

POPULAR = "flights"
"""Its first version is read by every run."""

_AT_ONCE = 5_000
_BUILT_LAST = (t.run_values, t.run_data)


@dataclass(frozen=True)
class Size:
    """How much to make: `links` counts rows of values, data, versions and tags of runs and versions."""

    versions: int
    links: int
    models: int = 801
    datasets: int = 200
    deployments: int = 50

    @property
    def data(self) -> int:
        """Versions of data that each run reads."""
        return max(1, min(20, self.links // self.versions // 5))

    @property
    def values(self) -> int:
        """Parameters and metrics of each run: what is left beside its version, and two tags of the version."""
        return max(4, self.links // self.versions - self.data - 3)


def fill(database: Database, size: Size) -> int:
    """Make all of it; gives the number of links."""
    with database.write() as connection:
        _prepare(connection)
        for table, rows in _rows(size):
            _insert(connection, table, rows)
        _by_the_database(connection, size)
        for table in _BUILT_LAST:
            for index in sorted(table.indexes, key=lambda each: str(each.name)):
                index.create(connection)
        links = sum(
            connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()
            for name in ("run_values", "run_data", "run_versions", "tags")
        )
        connection.execute(text("ANALYZE"))
    return int(links)


def _prepare(connection: Connection) -> None:
    """Keys between tables are not checked while filling, and the largest indexes are made at the end."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
    else:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
    for table in _BUILT_LAST:
        for index in table.indexes:
            index.drop(connection)


def _insert(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    waiting = iter(rows)
    while part := list(islice(waiting, _AT_ONCE)):
        connection.execute(insert(table), part)


def version_of(number: int, size: Size) -> tuple[str, int]:
    """The model and number of the version that a run made: a fifth are of one model, the rest is spread evenly."""
    large = size.versions // 5
    if number < large:
        return LARGE, number + 1
    rest = number - large
    others = size.models - 1
    return f"model-{1 + rest % others:03d}", 1 + rest // others


def run_id(number: int) -> str:
    """Ids in the order of time."""
    return f"{(BEGIN + timedelta(minutes=5 * number)):%Y%m%d-%H%M%S}-{number:06d}"


def _rows(size: Size) -> Iterator[tuple[Table, Iterable[dict[str, Any]]]]:
    yield t.models, ({"name": f"model-{number:03d}", "created_at": BEGIN} for number in range(size.models))
    yield t.versions, (_version(number, size) for number in range(size.versions))
    yield t.reports, (_report(number, size) for number in range(size.versions))
    yield t.runs, (_run(number, size) for number in range(size.versions))
    yield t.run_versions, (_made(number, size) for number in range(size.versions))
    yield t.tags, (tag for number in range(size.versions) for tag in _tags(number, size))
    yield t.aliases, ({"model": f"model-{n:03d}", "alias": "champion", "number": 1} for n in range(size.models))
    yield t.alias_changes, (_pointed(number) for number in range(size.models))
    names = [POPULAR, *(f"data-{number:03d}" for number in range(size.datasets))]
    yield t.datasets, ({"name": name, "created_at": BEGIN} for name in names)
    yield t.dataset_versions, (_data(name, number) for name in names for number in range(1, 101))
    yield t.deployment_changes, (_decision(number, size) for number in range(20 * size.deployments))
    last = range(19 * size.deployments, 20 * size.deployments)
    yield t.deployments, (_decision(number, size) for number in last)


def _version(number: int, size: Size) -> dict[str, Any]:
    model, own = version_of(number, size)
    at = BEGIN + timedelta(minutes=5 * number)
    return {
        "model": model,
        "number": own,
        "digest": f"blake3:{number:064x}",
        "created_at": at,
        "runtime": "onnx",
        "tags": {},
    }


def _report(number: int, size: Size) -> dict[str, Any]:
    model, own = version_of(number, size)
    facts = {
        "digest": f"blake3:{number:064x}",
        "passed": True,
        "what_if": False,
        "at": BEGIN,
        "document": b"\x80" * 400,
    }
    return {"model": model, "number": own, **facts}


def _run(number: int, size: Size) -> dict[str, Any]:
    model, own = version_of(number, size)
    packages = tuple(Distribution(f"package-{each}", "1.2.3", ("ab" * 32,), "cd" * 32) for each in range(12))
    run = Run(
        id=run_id(number),
        name=model,
        started_at=BEGIN + timedelta(minutes=5 * number),
        by="ann",
        command=("python", "train.py"),
        code=CodeState(commit=f"{number // 10:040x}", branch="main", changed=("train.py",)),
        machine=Machine("host", "linux_x86_64", "a processor", 8),
        process=Process(1, 1, "", "host"),
        settings={},
        data=DataUse(versions=(f"{POPULAR}@1",)),
        outcome=Outcome("finished", 0),
        seconds=60.0,
        environment=Environment("3.11.7", "linux_x86_64", packages),
        metrics={f"m{each:02d}": Metric(0.5, 0.1, 0.9, 10) for each in range(10)},
        versions=(f"{model}@{own}",),
    )
    facts = {"name": model, "state": "finished", "started_at": run.started_at, "commit": run.code.commit}
    return {"id": run.id, **facts, "document": msgspec.msgpack.encode(run), "digest": "blake3:00", "tree": b"\x90"}


def _made(number: int, size: Size) -> dict[str, Any]:
    model, own = version_of(number, size)
    return {"run": run_id(number), "model": model, "number": own}


def _tags(number: int, size: Size) -> Iterator[dict[str, Any]]:
    model, own = version_of(number, size)
    of = {"kind": "model", "name": model, "number": own, "packed": True, "by": "", "at": BEGIN}
    for key, value in (("season", ("winter", "spring", "summer", "autumn")[number % 4]), ("ticket", f"T-{number}")):
        yield {**of, "key": key, "value": value, "short": value}


def _pointed(number: int) -> dict[str, Any]:
    change = {"alias": "champion", "number": 1, "previous": None, "by": "ann", "why": "first", "at": BEGIN}
    return {"model": f"model-{number:03d}", **change}


def _data(name: str, number: int) -> dict[str, Any]:
    facts = {"by": "ann", "note": "", "files": 1, "bytes": 1000, "origin": {"kind": "files", "sources": [name]}}
    raw = {"facts": encode_facts(Facts()), "profile": b"\x80", "tree": b"\x90"}
    return {"dataset": name, "number": number, "digest": f"{name}-{number}", "created_at": BEGIN, **facts, **raw}


def _decision(number: int, size: Size) -> dict[str, Any]:
    name = f"live-{number % size.deployments:02d}"
    facts = {"model": LARGE, "number": 1 + number % (size.versions // 5), "unproven": None, "by": "ann"}
    return {"generation": number + 1, "name": name, **facts, "at": BEGIN + timedelta(hours=number)}


def _by_the_database(connection: Connection, size: Size) -> None:
    """Values and data of runs, for which Python would be slow: every run with every number of a small table."""
    numbers = Table("numbers", MetaData(), Column("n", Integer), prefixes=["TEMPORARY"])
    numbers.create(connection)
    connection.execute(insert(numbers), [{"n": number} for number in range(max(size.values, size.data))])
    dice = "(((r.k * 7919 + n.n * 104729) % 100003) / 100003.0)"
    depth = "((r.k * 31 + n.n * 17) % 10)"
    numbered = "(SELECT id, row_number() OVER (ORDER BY id) AS k FROM runs) AS r"
    half = size.values // 2
    metric, param = _named("m", "n.n"), _named("p", f"n.n - {half}")
    number, whole = f"CAST({dice} AS TEXT)", f"CAST({depth} AS TEXT)"
    connection.execute(
        text(
            "INSERT INTO run_values (run, kind, name, text, number, short) "
            f"SELECT r.id, 'metric', {metric}, {number}, {dice}, substr({number}, 1, 64) "
            f"FROM {numbered} CROSS JOIN numbers AS n WHERE n.n < {half}"
        )
    )
    connection.execute(
        text(
            "INSERT INTO run_values (run, kind, name, text, number, short) "
            f"SELECT r.id, 'param', {param}, {whole}, {depth}, {whole} "
            f"FROM {numbered} CROSS JOIN numbers AS n WHERE n.n >= {half} AND n.n < {size.values}"
        )
    )
    dataset = f"CASE WHEN n.n = 0 THEN '{POPULAR}' ELSE {_three('(r.k * 13 + n.n * 10) % ' + str(size.datasets))} END"
    connection.execute(
        text(
            "INSERT INTO run_data (run, dataset, number, was_read) "
            f"SELECT r.id, {dataset}, CASE WHEN n.n = 0 THEN 1 ELSE 1 + r.k % 100 END, {_true(connection)} "
            f"FROM {numbered} CROSS JOIN numbers AS n WHERE n.n < {size.data}"
        )
    )


def _named(letter: str, number: str) -> str:
    return f"'{letter}' || substr('0' || CAST({number} AS TEXT), -2 + length('0' || CAST({number} AS TEXT)) + 1, 2)"


def _three(number: str) -> str:
    padded = f"('00' || CAST({number} AS TEXT))"
    return f"'data-' || substr({padded}, length({padded}) - 2, 3)"


def _true(connection: Connection) -> str:
    return "1" if connection.dialect.name == "sqlite" else "true"
