"""``modelyard monitor performance`` over recorded answers and labels, as text, JSON and a page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from modelyard.cli.app import app
from modelyard.domain.records import Label
from modelyard.home import Home
from modelyard.records.log import LabelLog, PredictionLog
from unit.records.samples import call

HOUR_NS = 3_600_000_000_000
START_NS = 1_700_000_000_000_000_000
CALLS, ROWS = 60, 20


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty calls, one every six hours; of each the first 18 rows get a label two hours later."""
    folder = tmp_path_factory.mktemp("home")
    directory = Home.locate(folder).records
    rng = np.random.default_rng(1)
    predictions, labels = PredictionLog(directory), LabelLog(directory)
    for number in range(CALLS):
        said = rng.random(ROWS).round(4).tolist()
        rows = [{"temp": at, "city": ["Bern", "Genf"][at % 2]} for at in range(ROWS)]
        answers = [
            {"predict": "late" if p > 0.5 else "on time", "predict_proba": {"late": p, "on time": 1 - p}} for p in said
        ]
        moment = START_NS + 6 * number * HOUR_NS
        predictions.append(call(f"c{number}", rows, answers, received_ns=moment))
        truth = ["late" if rng.random() < p else "on time" for p in said[:18]]
        labels.append_many([Label(f"c{number}-{at}", each, moment + 2 * HOUR_NS) for at, each in enumerate(truth)])
    predictions.close()
    labels.close()
    return folder


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_HOME", str(home))


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["monitor", "performance", *(str(word) for word in words)])


def document(*words: object) -> Any:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_by_week_and_by_day_as_text_and_json() -> None:
    said = run("delay", "--by", "week")
    assert said.exit_code == 0, said.output
    assert "1,200 answered rows, 1,080 (90.0%) with a label" in said.stdout
    assert "2023-11-13" in said.stdout
    found = document("delay", "--by", "day", "--positive", "late")
    assert found["by"] == "day"
    assert sum(point["rows"] for point in found["points"]) == CALLS * ROWS
    assert found["age"] == 3 * 3600
    assert found["whole"][0]["coverage"] == pytest.approx(0.9)
    # Rows come true as often as their probability says, so this is what the area is on average.
    assert found["whole"][0]["measures"]["auc"]["value"] == pytest.approx(5 / 6, abs=0.04)
    other = document("delay", "--positive", "on time", "--metric", "auc")
    assert other["whole"][0]["measures"]["auc"]["value"] == pytest.approx(found["whole"][0]["measures"]["auc"]["value"])
    assert other["metrics"] == ["auc"]


def test_slices_stretches_and_versions() -> None:
    slices = document("delay", "--slice", "city")
    assert [(point["slice"], point["rows"]) for point in slices["whole"]] == [("Bern", 600), ("Genf", 600)]
    assert "Genf" in run("delay", "--slice", "city").stdout
    part = document("delay", "--since", "2023-11-20", "--until", "2023-11-27", "--by", "whole")
    assert part["whole"][0]["rows"] == 28 * ROWS
    assert document("delay", "--version", 7)["points"] == []
    assert "no answered rows" in run("delay", "--version", 7).stdout


def test_worst_slices_among_the_inputs() -> None:
    found = document("delay", "--worst", "3", "--metric", "accuracy")["worst"]
    assert found["tried"] > 4
    assert found["metric"] == "accuracy"
    assert "worst slices by accuracy" in run("delay", "--worst", "3").stdout


def test_a_page_with_plots(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run("delay", "--html", page).exit_code == 0
    assert "<polyline" in page.read_text()


def test_what_there_is_not_is_named(tmp_path: Path) -> None:
    unknown = run("delays")
    assert unknown.exit_code == 3
    assert "there are: delay" in unknown.output
    assert "no metric 'mae'" in run("delay", "--metric", "mae").output
    assert "no column 'town'" in run("delay", "--slice", "town").output
    assert run("delay", "--by", "year").exit_code == 2
    empty = run("delay", "--records", tmp_path)
    assert "there are: none" in empty.output
