"""What is read of an MLmodel file, and what of a foreign folder is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modelyard.errors import BundleRefused, CannotPack, InvalidRequest
from modelyard.mlflow import mlmodel, samples
from modelyard.mlflow.documents import inside, listing
from modelyard.mlflow.mlmodel import Field, unsupported

MLMODEL = """
flavors:
  python_function:
    loader_module: mlflow.sklearn
    python_version: 3.11.4
  sklearn:
    pickled_model: model.pkl
mlflow_version: 2.9.1
model_uuid: ab12
saved_input_example_info: {artifact_path: input_example.json, type: dataframe, pandas_orient: split}
signature:
  inputs: '[{"name": "a", "type": "double", "required": true}, {"name": "b", "type": "long", "required": false}]'
  outputs: null
"""


def written(folder: Path, text: str = MLMODEL) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text(text)
    return folder


def test_a_model_says_its_flavours_signature_and_python(tmp_path: Path) -> None:
    model = mlmodel.read(written(tmp_path))
    assert model.inputs == (Field("a", "double"), Field("b", "long", required=False))
    assert (model.flavour(), model.flavour("python_function"), model.python) == ("sklearn", "python_function", "3.11.4")
    assert model.facts == {"mlflow.mlflow_version": "2.9.1", "mlflow.model_uuid": "ab12"}
    with pytest.raises(InvalidRequest, match="it can as: python_function, sklearn"):
        model.flavour("onnx")
    with pytest.raises(BundleRefused, match="which is not there"):
        model.file("sklearn", "pickled_model")


def test_the_only_model_below_a_folder_is_found(tmp_path: Path) -> None:
    written(tmp_path / "model")
    assert mlmodel.find(tmp_path) == tmp_path / "model" == mlmodel.find(tmp_path / "model" / "MLmodel")
    written(tmp_path / "other")
    with pytest.raises(InvalidRequest, match="several models"):
        mlmodel.find(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "flavors: 3", "flavors: {a: 1}", "!!python/object/apply:os.system ['true']", "a: [", "\tx"],
)
def test_what_is_no_mlmodel_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BundleRefused):
        mlmodel.read(written(tmp_path, text))


def test_a_flavour_that_names_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    for name in ("/etc/passwd", "../x", "a/../../x", "", None, 3):
        with pytest.raises(BundleRefused):
            inside(tmp_path, name)
    model = mlmodel.read(written(tmp_path, MLMODEL.replace("model.pkl", "../model.pkl")))
    with pytest.raises(BundleRefused, match="no file within it"):
        model.file("sklearn", "pickled_model")


def test_a_folder_with_a_link_is_refused_and_compiled_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("a")
    assert list(listing(tmp_path).files) == ["a.txt"]
    (tmp_path / "b.txt").symlink_to("/etc/passwd")
    with pytest.raises(BundleRefused, match=r"b\.txt is a link"):
        listing(tmp_path)


def test_signatures_that_no_table_carries_are_refused_by_name() -> None:
    assert "'tags' has type array" in unsupported((Field("a", "double"), Field("tags", "array")))
    assert "has to be the rows" in unsupported((Field(None, "float32", shape=(3, 4)),))
    assert unsupported((Field(None, "float32", shape=(-1, 4)),)) == unsupported(None) == ""


def fields(*types: str) -> list[dict[str, object]]:
    return [{"name": f"c{at}", "type": kind, "required": True, "shape": None} for at, kind in enumerate(types)]


def sample(folder: Path, text: str, inputs: list[dict[str, object]]) -> pd.DataFrame:
    (folder / "rows.csv").write_text(text)
    table: pd.DataFrame = samples.rows({"sample": str(folder / "rows.csv"), "inputs": inputs})
    return table


def test_every_type_of_a_signature_has_its_column(tmp_path: Path) -> None:
    kinds = ("boolean", "integer", "long", "float", "double", "string", "datetime")
    rows = "c0,c1,c2,c3,c4,c5,c6,target\nTrue,1,2,0.5,0.25,x,2024-01-02T03:04:05,9\n"
    table = sample(tmp_path, rows, fields(*kinds))
    assert [str(dtype) for dtype in table.dtypes][:5] == ["bool", "int32", "int64", "float32", "float64"]
    assert str(table.dtypes.iloc[6]) == "datetime64[ns]"
    assert list(table.columns) == [f"c{at}" for at in range(7)]


def test_missing_whole_numbers_stay_whole_and_optional_columns_may_be_absent(tmp_path: Path) -> None:
    inputs = [*fields("long"), {"name": "extra", "type": "double", "required": False, "shape": None}]
    table = sample(tmp_path, "c0,x\n1,1\n,1\n", inputs)
    assert [str(dtype) for dtype in table.dtypes] == ["Int64", "float64"]
    assert table["extra"].isna().all()
    with pytest.raises(CannotPack, match="no column 'c1'"):
        sample(tmp_path, "c0\n1\n", fields("long", "long"))
    with pytest.raises(CannotPack, match="is no long, as the signature says"):
        sample(tmp_path, "c0\n1.5\n", fields("long"))


def test_tensors_and_sparse_examples_become_arrays(tmp_path: Path) -> None:
    tensor = {"name": None, "type": "float32", "required": True, "shape": [-1, 2]}
    (tmp_path / "example.json").write_text('{"inputs": [[1, 2], [3, 4]]}')
    job = {"example": str(tmp_path / "example.json"), "example_info": {"type": "ndarray"}, "inputs": [tensor]}
    array = samples.rows(job)
    assert array.dtype == np.float32
    assert array.tolist() == [[1, 2], [3, 4]]
    (tmp_path / "example.json").write_text('{"data": [5.0], "indices": [1], "indptr": [0, 0, 1], "shape": [2, 2]}')
    job = {**job, "example_info": {"type": "sparse_matrix_csr"}, "inputs": None}
    assert samples.rows(job).tolist() == [[0, 0], [0, 5]]


def test_a_model_without_rows_says_what_to_do() -> None:
    with pytest.raises(CannotPack, match="--sample FILE"):
        samples.rows({"inputs": None})
