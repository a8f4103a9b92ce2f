"""A model runs with the packages of its own environment, which know nothing of Modelyard."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import native_bundles
from modelyard.bundle import uv
from modelyard.bundle.native import InProcess
from modelyard.errors import EnvironmentFailed

OTHER = ("scikit-learn==1.7.2", "pandas==2.3.3", "numpy==2.3.5", "skops==0.13.0", "cloudpickle==3.1.2")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with older releases of everything that a model needs."""
    folder = tmp_path_factory.mktemp("other")
    uv.run(["venv", "--quiet", "--python", sys.executable, str(folder)])
    python = folder / "bin" / "python"
    uv.run(["pip", "install", "--quiet", "--python", str(python), "--only-binary", ":all:", *OTHER])
    return python


@pytest.fixture
def table() -> pd.DataFrame:
    frame = native_bundles.table(40)
    frame["late"] = pd.Series([True, None] * 20, dtype="boolean")
    frame["count"] = pd.Series([1, None] * 20, dtype="Int64")
    frame["grade"] = pd.Categorical(["low", "high"] * 20, categories=["low", "high"])
    frame["text"] = frame["city"].astype(object)
    frame["day"] = pd.date_range("2024-01-01", periods=40, tz="Europe/Zurich")
    return frame


def versions(rows: Any) -> Any:
    from importlib import metadata

    import numpy as np
    import pandas as pd
    import sklearn

    found = {
        "sklearn": sklearn.__version__,
        "pandas": pd.__version__,
        "numpy": np.__version__,
        "modelyard": str("modelyard" in {found.name for found in metadata.distributions()}),
    }
    return pd.DataFrame({name: [value] * len(rows) for name, value in found.items()})


def test_a_model_sees_the_releases_of_its_environment_and_no_modelyard(other: Path, tmp_path: Path) -> None:
    table = native_bundles.table()
    model = native_bundles.of_main(versions)
    runtime = native_bundles.start(tmp_path, model, table, python=other)
    try:
        got = runtime.predict(native_bundles.frame_of(native_bundles.schema_of(model, table), table))
    finally:
        runtime.close()
    assert {name: values[0] for name, values in got.items()} == {
        "sklearn": "1.7.2",
        "pandas": "2.3.3",
        "numpy": "2.3.5",
        "modelyard": "False",
    }


def test_tables_are_built_alike_by_older_releases(other: Path, tmp_path: Path, table: pd.DataFrame) -> None:
    def facts(rows: Any) -> Any:
        import pandas as pd

        seen = {
            "dtypes": " ".join(f"{name}={'str' if name == 'city' else dtype}" for name, dtype in rows.dtypes.items()),
            "missing": " ".join(str(int(rows[name].isna().sum())) for name in rows),
            "grade": "".join(map(str, rows["grade"].cat.categories)),
            "day": str(rows["day"].iloc[0]),
        }
        return pd.DataFrame({name: [value] * len(rows) for name, value in seen.items()})

    model = native_bundles.of_main(facts)
    schema = native_bundles.schema_of(model, table)
    frame = native_bundles.frame_of(schema, table)
    runtime = native_bundles.start(tmp_path, model, table, python=other)
    try:
        for rows in (frame, frame.row(3)):
            expected, got = InProcess(model, schema).predict(rows), runtime.predict(rows)
            assert {name: values[0] for name, values in got.items()} == {
                name: values[0] for name, values in expected.items()
            }
    finally:
        runtime.close()


def test_a_module_that_imports_modelyard_loads_without_it(other: Path, tmp_path: Path) -> None:
    native_bundles.write(
        tmp_path,
        {
            "code/training.py": b"import modelyard as my\n\n"
            b"def double(rows):\n    return rows['amount'] * 2\n\n"
            b"def packing(rows):\n    return my.pack(rows)\n",
            "model/native.pkl": b"ctraining\ndouble\n.",
            "model/packing.pkl": b"ctraining\npacking\n.",
        },
    )
    from modelyard.domain.manifest import NativeForm
    from modelyard.errors import RowsRefused
    from modelyard.runtime.python import PythonRuntime

    table = native_bundles.table()

    def double(rows: Any) -> Any:
        return rows["amount"] * 2

    schema = native_bundles.schema_of(native_bundles.of_main(double), table)
    frame = native_bundles.frame_of(schema, table)
    form = NativeForm(format="cloudpickle", path="model/native.pkl")
    runtime = PythonRuntime(tmp_path, native_bundles.manifest_of(schema, form), other)
    try:
        assert np.array_equal(runtime.predict(frame)["output"], table["amount"] * 2, equal_nan=True)
    finally:
        runtime.close()
    form = NativeForm(format="cloudpickle", path="model/packing.pkl")
    runtime = PythonRuntime(tmp_path, native_bundles.manifest_of(schema, form), other)
    try:
        with pytest.raises(RowsRefused, match=r"modelyard\.pack is not there where a model is served"):
            runtime.predict(frame)
    finally:
        runtime.close()


def test_a_module_that_the_environment_lacks_is_named(other: Path, tmp_path: Path) -> None:
    def needy(rows: Any) -> Any:
        return rows["amount"]

    table = native_bundles.table()
    native_bundles.write(tmp_path, {"code/mine.py": b"import pyarrow\n\ndef needy(rows):\n    return rows['amount']\n"})
    native_bundles.write(tmp_path, {"model/native.pkl": b"cmine\nneedy\n."})
    from modelyard.domain.manifest import NativeForm
    from modelyard.runtime.python import PythonRuntime

    schema = native_bundles.schema_of(native_bundles.of_main(needy), table)
    form = NativeForm(format="cloudpickle", path="model/native.pkl")
    with pytest.raises(EnvironmentFailed, match="'pyarrow'"):
        PythonRuntime(tmp_path, native_bundles.manifest_of(schema, form), other)
