"""What differs between two versions: the comparison itself, code out of a real repository, answers and speed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import modelyard as my
from modelyard.bundle.layout import Bundle
from modelyard.cli.app import app
from modelyard.comparing import code, report
from modelyard.comparing.answers import Speed, side_by_side
from modelyard.comparing.differing import Code, DataSide, Side, compare, environment, schema
from modelyard.comparing.telling import row, sections
from modelyard.datasets.facts import Facts, Field, TableFacts
from modelyard.datasets.tree import Content, Entry, Tree
from modelyard.domain.environment import Distribution, Environment
from modelyard.domain.schema import Accepts, Column, Kind, Output, Schema
from modelyard.errors import InvalidInput
from modelyard.registry import Registry
from run_programs import git
from small_bundles import write_line

PYTHON = Environment("3.11.7", "linux_x86_64", (Distribution("numpy", "2.4.6", content="aa" * 8),), {"blas": 1}, "a")


def side(bundle: Bundle, **facts: object) -> Side:
    made = {"run": None, "data": {}, "code": Code({}, "nowhere"), **facts}
    return Side(f"line@{facts.pop('number', 1)}", bundle.digest, bundle.manifest, **made)  # type: ignore[arg-type]


def data(number: int, rows: int, content: bytes) -> DataSide:
    table = TableFacts("t", "csv", (b"t.csv",), rows, (Field("a", "BIGINT", 0),), content)
    return DataSide(f"points@{number}", Facts((table,)), Tree((Entry(b"t.csv", Content(1, content * 32, ())),)))


def test_the_same_version_does_not_differ(tmp_path: Path) -> None:
    one = side(write_line(tmp_path / "a"))
    found = compare(one, one)
    assert found.same
    assert list(sections(found)) == []
    assert found.code.files == ()


def test_other_data_is_told_with_rows_and_the_command_that_shows_more(tmp_path: Path) -> None:
    bundle = write_line(tmp_path / "a")
    found = compare(side(bundle, data={"points": data(1, 10, b"a")}), side(bundle, data={"points": data(2, 12, b"b")}))
    (change,) = found.data
    assert (change.before, change.after) == ("points@1", "points@2")
    assert change.files is not None
    assert change.files.changed == ("t.csv",)
    assert [(one.name, one.before, one.after) for one in change.tables] == [("table t: rows", 10, 12)]
    assert change.command == "modelyard data diff points@1 points@2"
    (gone,) = compare(side(bundle, data={"points": data(1, 10, b"a")}), side(bundle)).data
    assert (gone.before, gone.after) == ("points@1", None)


def test_packages_come_go_and_change_also_within_one_version() -> None:
    rebuilt = (Distribution("numpy", "2.4.6", content="bb" * 8), Distribution("pandas", "3.0"))
    other = replace(PYTHON, python="3.12.1", distributions=rebuilt, threads={"blas": 4})
    told = {one.name: (one.before, one.after) for one in environment(PYTHON, other)}
    assert told["Python"] == ("3.11.7", "3.12.1")
    assert told["threads of blas"] == (1, 4)
    assert told["pandas"] == (None, "3.0")
    assert told["numpy"] == ("2.4.6 (files aaaaaaaa)", "2.4.6 (files bbbbbbbb)")
    assert "linear algebra" not in told


def test_columns_and_categories_are_compared_by_name() -> None:
    a = Column("a", Kind.FLOAT64, nullable=False, dtype="float64")
    b = Column("b", Kind.STRING, nullable=True, dtype="str", accepts=Accepts(categories=("x", "y")))
    out = Output("predict", Kind.FLOAT64, "value", "predict")
    before = Schema("dataframe", (a, b), (out,))
    after = Schema(
        "dataframe",
        (replace(b, accepts=Accepts(categories=("y", "x", "z"))), replace(a, kind=Kind.INT64), replace(a, name="c")),
        (out,),
    )
    told = {one.name: one for one in schema(before, after)}
    assert (told["column a: type"].before, told["column a: type"].after) == ("float64", "int64")
    assert row(told["column b: categories"]) == (
        "column b: categories",
        "2 values",
        "3 values; only here: z",
        "",
    )
    assert told["column c"].before is None
    assert told["order of columns"].after == "b, a"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text("depth = 3\nprint(depth)\n")
    (folder / "same.py").write_text("one = 1\n")
    git(folder, "init", "-q", "-b", "trunk")
    _commit(folder)
    return folder


def _commit(folder: Path) -> str:
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=n", "-c", "user.email=n@example.org", "commit", "-q", "-m", "one")
    return git(folder, "rev-parse", "HEAD")


def test_code_is_that_of_the_runs_with_what_was_in_no_commit(repository: Path, tmp_path: Path) -> None:
    bundle = write_line(tmp_path / "a")
    first = git(repository, "rev-parse", "HEAD")
    (repository / "train.py").write_text("depth = 4\nprint(depth)\n")
    patch = (git(repository, "diff", "--binary", "HEAD") + "\n").encode()
    kept = {"code/changes.patch": patch, "code/untracked/notes.py": b"new = True\n"}
    (repository / "same.py").write_text("one = 1\ntwo = 2\n")
    second = _commit(repository)

    before, after = code.pair(repository, (bundle, first, kept), (bundle, second, {}))
    found = compare(side(bundle, code=before), side(bundle, code=after)).code
    assert (found.before, found.after) == (first, second)
    assert {file.path: file.change for file in found.files} == {"same.py": "changed", "notes.py": "removed"}
    assert "+two = 2" in next(file.diff for file in found.files if file.path == "same.py")

    before, after = code.pair(repository, (bundle, first, {}), (bundle, first, kept))
    found = compare(side(bundle, code=before), side(bundle, code=after)).code
    (changed,) = [file for file in found.files if file.change == "changed"]
    assert "-depth = 3\n+depth = 4" in changed.diff


def test_without_the_repository_what_was_kept_is_compared(tmp_path: Path) -> None:
    bundle = write_line(tmp_path / "a")
    before, after = code.pair(
        tmp_path, (bundle, "a" * 40, {}), (bundle, "a" * 40, {"code/changes.patch": b"--- a/x\n+++ b/x\n"})
    )
    (file,) = compare(side(bundle, code=before), side(bundle, code=after)).code.files
    assert (file.path, file.change) == ("(changes in no commit)", "added")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with Registry.open(tmp_path / "yard") as registry:
        registry.register(write_line(tmp_path / "a", slope=2.0))
        registry.register(write_line(tmp_path / "b", slope=2.5))
    return tmp_path / "yard"


def test_answers_are_compared_on_a_table(home: Path, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("x,unused\n0.0,a\n1.0,b\n,c\n-4.0,d\n")
    found = my.diff("line@1", "line@2", on=table, home=home, speed=False).answers
    assert found is not None
    assert (found.rows, found.compared, found.differing, found.refused_by) == (4, 3, 2, (1, 1))
    (output,) = found.outputs
    assert (output.name, output.rows, output.beyond, output.largest_abs) == ("predict", 2, 2, 2.0)
    assert [(one.row, one.before, one.after) for one in found.examples] == [(1, "2.0", "2.5"), (3, "-8.0", "-10.0")]
    same = my.diff("line@1", "line@1", on=table, home=home, speed=False).answers
    assert same is not None
    assert same.differing == 0


def test_a_table_without_a_column_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("y\n1.0\n")
    with pytest.raises(InvalidInput, match="'x'"):
        my.diff("line@1", "line@2", on=tmp_path / "rows.csv", home=home, speed=False)


def test_the_command_prints_text_json_and_a_page(home: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    env = {"MODELYARD_HOME": str(home), "COLUMNS": "200"}
    done = CliRunner().invoke(app, ["diff", "line@1", "line@2", "--html", str(page)], env=env)
    assert done.exit_code == 0, done.stderr
    assert "line@1 was not made in a recorded run" in done.stdout
    assert "median µs" in done.stdout
    assert "<script" not in page.read_text()
    document = json.loads(CliRunner().invoke(app, ["diff", "line@1", "line@2", "--json"], env=env).stdout)
    assert document["versions"]["before"] == "line@1"
    assert document["speed"]["ratio"] > 0
    assert CliRunner().invoke(app, ["diff", "line@1", "line@9"], env=env).exit_code == 3


def test_two_calls_are_timed_in_turn() -> None:
    done: list[str] = []
    found = side_by_side(lambda: done.append("a"), lambda: done.append("b"), seconds=0.01)
    assert found.blocks >= 5
    assert done.count("a") == done.count("b")
    assert found.before is not None
    assert found.before[1] <= found.before[0] <= found.before[2]


def test_foreign_text_cannot_enter_the_page(tmp_path: Path) -> None:
    bundle = write_line(tmp_path / "a")
    files = {"<script>.py": "<script>alert(1)</script>\n"}
    found = compare(side(bundle), side(bundle, code=Code(files, "<b>")))
    text = report.page(found, Speed(why_not="<i>"), None)
    assert "<script" not in text
    assert "<b>" not in text
    assert "<i>" not in text
