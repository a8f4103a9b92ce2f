from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modelyard.errors import BundleRefused, InvalidInput, InvalidRequest, ModelNotFound
from modelyard.loading import load
from modelyard.registry import Registry
from small_bundles import write_line


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with Registry.open(tmp_path / "yard") as registry:
        registry.register(write_line(tmp_path / "b"))
    return tmp_path / "yard"


def test_a_version_answers_as_its_estimator_would(home: Path) -> None:
    with load("line@1", home=home) as line:
        got = line.predict(pd.DataFrame({"x": [1.0, 2.5]}, index=["a", "b"]))
        assert isinstance(got, np.ndarray)
        assert got.tolist() == [2.0, 5.0]
        assert line.answers(pd.DataFrame({"x": [1.0]})).keys() == {"predict"}


def test_a_bundles_folder_needs_no_registry(home: Path, tmp_path: Path) -> None:
    with load(tmp_path / "b", home=home) as line:
        assert line.predict(pd.DataFrame({"x": [3.0]})).tolist() == [6.0]
    with load(str(tmp_path / "b"), home=home) as line:
        assert line.schema.columns[0].name == "x"


def test_rows_that_do_not_fit_are_refused_by_name(home: Path) -> None:
    with load("line", home=home) as line:
        with pytest.raises(InvalidInput, match="'x'"):
            line.predict(pd.DataFrame({"y": [1.0]}))
        with pytest.raises(InvalidInput, match="x"):
            line.predict(pd.DataFrame({"x": [np.nan]}))


def test_a_method_that_the_model_has_not_is_said(home: Path) -> None:
    with load("line", home=home) as line:
        table = pd.DataFrame({"x": [1.0]})
        for method in (line.predict_proba, line.decision_function, line.transform):
            with pytest.raises(InvalidRequest, match="it answers to: predict"):
                method(table)


def test_what_is_not_there_or_not_whole_is_not_loaded(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        load("curve", home=home)
    (tmp_path / "b" / "card.md").write_text("edited")
    with pytest.raises(BundleRefused, match=r"card\.md"):
        load(tmp_path / "b", home=home)
