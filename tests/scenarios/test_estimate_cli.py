"""``modelyard monitor estimate`` over recorded answers and labels, as text, JSON and a page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from modelyard.cli.app import app
from modelyard.domain.records import Label
from modelyard.home import Home
from modelyard.monitoring.estimate import walking
from modelyard.records.log import LabelLog, PredictionLog
from unit.records.samples import call

HOUR_NS = 3_600_000_000_000
START_NS = 1_772_409_600_000_000_000
DAYS, CALLS, ROWS = 8, 8, 40


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight days of eight calls; labels come three hours later, of the last two days none."""
    folder = tmp_path_factory.mktemp("home")
    directory = Home.locate(folder).records
    rng = np.random.default_rng(1)
    predictions, labels = PredictionLog(directory), LabelLog(directory)
    for number in range(DAYS * CALLS):
        said = rng.random(ROWS).round(4).tolist()
        rows = [{"temp": float(rng.normal()), "city": ["Bern", "Genf"][at % 2]} for at in range(ROWS)]
        answers = [{"predict": int(p > 0.5), "predict_proba": {"0": 1 - p, "1": p}} for p in said]
        moment = START_NS + 3 * number * HOUR_NS
        predictions.append(call(f"c{number}", rows, answers, received_ns=moment))
        if number < (DAYS - 2) * CALLS:
            truth = [int(rng.random() < p) for p in said]
            labels.append_many([Label(f"c{number}-{at}", y, moment + 3 * HOUR_NS) for at, y in enumerate(truth)])
    predictions.close()
    labels.close()
    return folder


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_HOME", str(home))
    monkeypatch.setattr(walking, "WINDOW_ROWS", 100)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["monitor", "estimate", *(str(word) for word in words)])


def document(*words: object) -> Any:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_as_text_json_and_page(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    said = run("delay", "--html", page)
    assert said.exit_code == 0, said.output
    assert "windows of a day" in said.stdout
    assert "computed now" in said.stdout
    assert "auc" in said.stdout
    assert "<svg" in page.read_text()
    found = document("delay")
    last = found["windows"][-1]
    assert last["labelled"] == 0
    # Rows come true as often as they are said to, so this is what the area is on average.
    assert last["values"]["auc"]["value"] == pytest.approx(5 / 6, abs=0.05)
    assert last["values"]["auc"]["low"] < 5 / 6 < last["values"]["auc"]["high"]
    known = found["coverage"]["auc"]["all"]
    assert known["known"] >= 3
    assert known["covered"] >= known["known"] - 1


def test_what_is_not_there_is_told() -> None:
    assert run("nothing").exit_code == 3
    gone = run("delay", "--version", 9)
    assert gone.exit_code == 3
    assert "no version 9 answered" in gone.output
