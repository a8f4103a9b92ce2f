"""Every SQL example of the documentation runs."""

import re
from pathlib import Path

import pytest

from modelyard.records.log import LabelLog, PredictionLog
from modelyard.records.query import RecordDatabase
from unit.records.samples import call, label, record

PAGE = Path(__file__).parents[3] / "docs" / "records.md"
EXAMPLES = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> RecordDatabase:
    directory = tmp_path_factory.mktemp("records")
    log = PredictionLog(directory)
    churn = {"deployment": "churn", "model": "churn"}
    for number in range(20):
        answer = {
            "predict": "yes" if number % 3 else "no",
            "predict_proba": {"no": 1 - number / 20, "yes": number / 20},
        }
        row = {"age": 20 + number, "income": 1000.5 * number, "city": "Bern" if number % 2 else None}
        log.append(call(f"c{number}", [row], [answer], **churn))
    log.append(call("bad", [{"age": "x"}], [], outcome="refused", status=400, error="column 'age'", **churn))
    log.append(record("other"))
    labels = LabelLog(directory)
    labels.append_many(label(f"c{number}", "yes" if number > 10 else "no") for number in range(15))
    labels.append(label("unknown"))
    return RecordDatabase(directory)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 7


@pytest.mark.parametrize("sql", EXAMPLES)
def test_an_example_of_the_documentation_gives_rows(database: RecordDatabase, sql: str) -> None:
    assert database.query(sql).num_rows > 0


def test_the_documentation_names_every_column(database: RecordDatabase) -> None:
    text = PAGE.read_text()
    for table in database.tables()[:5]:
        assert f"**`{table.name}`**" in text
        for name, _ in table.columns:
            assert f"`{name}`" in text
