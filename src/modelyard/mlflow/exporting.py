"""From a version to an MLflow model directory that stock MLflow loads, with the same numbers."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np

from modelyard.bundle import environment
from modelyard.bundle.layout import Bundle
from modelyard.domain.manifest import Manifest
from modelyard.domain.schema import Column, Kind, Output, Schema
from modelyard.errors import CannotPack, Failed, NameTaken
from modelyard.home import Home
from modelyard.runtime import host
from modelyard.runtime.host import answers, tables

Progress: TypeAlias = Callable[[str], None]
"""Is told in a few words what is being done."""

MODULE = "modelyard_model"
DATA = "modelyard"
_HOST = ("answers.py", "graph.py", "load.py", "tables.py")
_EXAMPLE_ROWS = 5

_TYPES = {
    Kind.BOOL: "boolean",
    Kind.INT8: "integer",
    Kind.INT16: "integer",
    Kind.INT32: "integer",
    Kind.UINT8: "integer",
    Kind.UINT16: "integer",
    Kind.INT64: "long",
    Kind.UINT32: "long",
    Kind.FLOAT32: "float",
    Kind.FLOAT64: "double",
    Kind.STRING: "string",
    Kind.DATETIME: "datetime",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """A directory that was written, and its flavours."""

    folder: Path
    flavours: tuple[str, ...]


def export_directory(
    bundle: Bundle, ref: str, target: Path, *, home: Home | None = None, progress: Progress | None = None
) -> Exported:
    """Write a version as an MLflow model directory at `target`, whole or not at all.

    ``python_function`` is always there; scikit-learn's, XGBoost's and LightGBM's own flavours where the artefact is one
    that they can read.

    Args:
        bundle: The version's bundle.
        ref: What the version is called, kept in the directory.
        target: A new or empty folder.
        home: Where rebuilt environments are; XGBoost's models are written by the version's own XGBoost.
        progress: Is told what is being done.

    Raises:
        NameTaken: there is something at `target`.
        CannotPack: the version has no native form.
        EnvironmentFailed: an environment is needed that cannot be rebuilt.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise NameTaken(f"{target} exists already; give a new or empty folder")
    manifest = bundle.manifest
    if manifest.native is None:
        raise CannotPack(f"{ref} has no native form, which MLflow would load")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        work = Path(folder) / "model"
        work.mkdir()
        _write_model(bundle, work)
        flavours = _flavours(bundle, work, home, progress or (lambda words: None))
        _write_documents(bundle, ref, work, flavours)
        if target.exists():
            target.rmdir()
        work.rename(target)
    return Exported(target, tuple(flavours))


def _write_model(bundle: Bundle, work: Path) -> None:
    """The native form, and the code that loads it: a copy of what Modelyard itself builds inputs with."""
    manifest = bundle.manifest
    kept = {form.path for form in (manifest.native,) if form is not None}
    compiled = set() if manifest.compiled is None else {manifest.compiled.path} - kept
    for name in manifest.files:
        if name.startswith("model/") and name not in compiled:
            _copy(bundle.path / name, work / DATA / name)
        elif name.startswith("code/"):
            _copy(bundle.path / name, work / name)
    for name in _HOST:
        _copy(Path(host.__file__).parent / name, work / "code" / MODULE / name)
    own = (Path(__file__).parent / "exported.py").read_text()
    (work / "code" / MODULE / "__init__.py").write_text(own.replace(f"from {host.__name__} import", "from . import"))
    plain = msgspec.to_builtins(manifest.schema)
    facts = {
        "layout": manifest.schema.layout,
        "columns": [{name: column[name] for name in _OF_COLUMN} for column in plain["columns"]],
        "methods": _methods(manifest.schema),
        "native": msgspec.to_builtins(manifest.native),
    }
    (work / DATA / "version.json").write_text(json.dumps(facts, indent=1))


_OF_COLUMN = ("name", "kind", "dtype", "missing", "shape", "categories", "ordered", "nullable")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _methods(schema: Schema) -> list[str]:
    """What can be called, ``predict`` first."""
    found = dict.fromkeys(output.method for output in schema.outputs)
    return sorted(found, key=lambda method: method not in ("predict", "__call__"))


# flavours -------------------------------------------------------------------------------------------------------------


def _flavours(bundle: Bundle, work: Path, home: Home | None, say: Progress) -> dict[str, dict[str, Any]]:
    manifest = bundle.manifest
    flavours: dict[str, dict[str, Any]] = {}
    if make := _NATIVE.get(manifest.framework):
        native = make(bundle, work, home, say)
        if native is not None:
            flavours[manifest.framework] = native
    python = {"loader_module": MODULE, "python_version": manifest.environment.python, "data": DATA, "code": "code"}
    flavours["python_function"] = {**python, "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}}
    return flavours


def _version(manifest: Manifest, *names: str) -> str:
    known = {one.name: one.version for one in manifest.environment.distributions}
    return next((known[name] for name in names if name in known), "")


def _serialized(manifest: Manifest) -> dict[str, Any] | None:
    native = manifest.native
    if native is None or native.loader or native.format == "onnx":
        return None
    trusted = list(native.trusted) if native.format == "skops" else None
    return {"serialization_format": native.format, "skops_trusted_types": trusted, "code": "code"}


def _sklearn(bundle: Bundle, _work: Path, _home: Home | None, _say: Progress) -> dict[str, Any] | None:
    manifest = bundle.manifest
    common = _serialized(manifest)
    if common is None or manifest.native is None:
        return None
    file = f"{DATA}/{manifest.native.path}"
    return {"pickled_model": file, "sklearn_version": _version(manifest, "scikit-learn"), **common}


def _lightgbm(bundle: Bundle, _work: Path, _home: Home | None, _say: Progress) -> dict[str, Any] | None:
    manifest = bundle.manifest
    common = _serialized(manifest)
    if common is None or manifest.native is None or manifest.estimator.endswith(".Booster"):
        return None
    names = {"data": f"{DATA}/{manifest.native.path}", "model_class": manifest.estimator}
    return {**names, "lgb_version": _version(manifest, "lightgbm"), **common}


def _xgboost(bundle: Bundle, work: Path, home: Home | None, say: Progress) -> dict[str, Any] | None:
    """In XGBoost's own format, which only XGBoost itself can write."""
    manifest = bundle.manifest
    if manifest.native is None or not manifest.estimator.startswith("xgboost."):
        return None
    say("writing the model in XGBoost's own format")
    python = environment.cached(manifest.environment, home)
    code = (
        "import json, sys; from pathlib import Path; sys.dont_write_bytecode = True; sys.path.insert(0, sys.argv[1]);"
        f"from {MODULE} import load; facts = json.loads(Path(sys.argv[2], 'version.json').read_text());"
        "load.estimator(facts['native'], sys.argv[2]).save_model(sys.argv[3])"
    )
    arguments = [str(work / "code"), str(work / DATA), str(work / "model.ubj")]
    done = subprocess.run([python, "-I", "-c", code, *arguments], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise Failed(f"the version's XGBoost cannot write its model: {done.stderr.strip().splitlines()[-1:]}")
    version = _version(manifest, "xgboost", "xgboost-cpu")
    made = {"data": "model.ubj", "model_class": manifest.estimator, "model_format": "ubj"}
    return {**made, "xgb_version": version, "code": "code"}


def _onnx(bundle: Bundle, _work: Path, _home: Home | None, _say: Progress) -> dict[str, Any] | None:
    native = bundle.manifest.native
    if native is None:
        return None
    return {"data": f"{DATA}/{native.path}", "onnx_version": "", "providers": ["CPUExecutionProvider"], "code": "code"}


_NATIVE: Mapping[str, Callable[[Bundle, Path, Home | None, Progress], dict[str, Any] | None]] = {
    "sklearn": _sklearn,
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "onnx": _onnx,
}


# documents ------------------------------------------------------------------------------------------------------------


def _write_documents(bundle: Bundle, ref: str, work: Path, flavours: Mapping[str, Any]) -> None:
    import yaml

    locked = bundle.manifest.environment
    pins = [f"{one.name}=={one.version}" for one in locked.distributions]
    (work / "requirements.txt").write_text("\n".join(["mlflow-skinny", *pins, ""]))
    conda = {"name": "mlflow-env", "channels": ["conda-forge"]}
    needed = [f"python={locked.python}", "pip", {"pip": ["mlflow-skinny", *pins]}]
    (work / "conda.yaml").write_text(yaml.safe_dump({**conda, "dependencies": needed}, sort_keys=False))
    python = {"python": locked.python, "build_dependencies": ["pip", "setuptools", "wheel"]}
    listed = {**python, "dependencies": ["-r requirements.txt"]}
    (work / "python_env.yaml").write_text(yaml.safe_dump(listed, sort_keys=False))
    example = _write_example(bundle, work)
    document = {
        "flavors": dict(flavours),
        "metadata": {"modelyard": {"version": ref, "digest": bundle.digest}},
        "model_uuid": bundle.digest.partition(":")[2][:32],
        "saved_input_example_info": example,
        "signature": signature(bundle.manifest.schema),
    }
    (work / "MLmodel").write_text(yaml.safe_dump(document, sort_keys=True))


def signature(schema: Schema) -> dict[str, str]:
    """A schema in MLflow's words, as its ``MLmodel`` file has them: three texts of JSON.

    What MLflow's types cannot say (missing whole numbers, time zones, categories) has the type ``any``: the model
    checks it itself.
    """
    first = _methods(schema)[0]
    answered = [output for output in schema.outputs if output.method == first]
    methods = {"name": "method", "type": "string", "default": first, "shape": None}
    return {
        "inputs": json.dumps(_inputs(schema)),
        "outputs": json.dumps([_output(output) for output in answered]),
        "params": json.dumps([methods]),
    }


def _inputs(schema: Schema) -> list[dict[str, Any]]:
    if schema.layout in ("array", "tensors"):
        named = schema.layout == "tensors"
        return [_tensor(column, column.name if named else None) for column in schema.columns]
    return [{"type": _type(column), "name": column.name, "required": True} for column in schema.columns]


def _type(column: Column) -> str:
    has_zone = column.kind is Kind.DATETIME and "," in column.dtype
    cannot_say = column.nullable and (column.kind.is_integer or column.kind is Kind.BOOL)
    if has_zone or cannot_say or column.dtype == "category":
        return "any"
    return _TYPES.get(column.kind, "any")


def _tensor(column: Column, name: str | None) -> dict[str, Any]:
    dtype = "object" if column.kind is Kind.STRING else str(column.kind.numpy)
    spec = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, *column.shape]}}
    return spec if name is None else {"name": name, **spec}


def _output(output: Output) -> dict[str, Any]:
    if isinstance(output.part, str) and not output.shape:
        return {"type": _TYPES.get(output.kind, "any"), "name": output.part, "required": True}
    dtype = "object" if output.kind is Kind.STRING else str(output.kind.numpy)
    spec = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, *output.shape]}}
    return spec if output.part is None else {"name": str(output.part), **spec}


def _write_example(bundle: Bundle, work: Path) -> dict[str, str] | None:
    """Some rows of the golden set that were drawn from the sample."""
    golden, schema = bundle.golden(), bundle.manifest.schema
    rows = [row for row in golden.answered() if golden.origins[row] == "sample"][:_EXAMPLE_ROWS]
    if not rows:
        return None
    frame = golden.inputs.take(rows)
    plain = msgspec.to_builtins(schema)["columns"]
    cells = [(frame[column.name].values, frame[column.name].missing) for column in schema.columns]
    given = tables.builder(schema.layout, plain)(cells, frame.rows)
    info = {"artifact_path": "input_example.json", "type": "ndarray"}
    if schema.layout in ("array", "tensors"):
        arrays = (
            {name: _listed(values) for name, values in given.items()} if isinstance(given, dict) else _listed(given)
        )
        document: Any = arrays
    else:
        info |= {"type": "dataframe", "pandas_orient": "split"}
        table = given if schema.layout == "dataframe" else {schema.columns[0].name: given}
        names = [column.name for column in schema.columns]
        listed = [_listed(np.asarray(table[name], dtype=object)) for name in names]
        document = {"columns": names, "data": [list(row) for row in zip(*listed, strict=True)]}
    (work / info["artifact_path"]).write_text(json.dumps(document))
    return info


def _listed(values: Any) -> Any:
    """As JSON can have it: nothing where a value is missing, ISO 8601 for moments."""
    if isinstance(values, np.ndarray):
        return [_listed(value) for value in (values if values.dtype.kind == "M" else values.tolist())]
    if isinstance(values, list):
        return [_listed(value) for value in values]
    if isinstance(values, np.datetime64):
        return None if np.isnat(values) else str(values)
    if answers.is_missing(values):
        return None
    return values.isoformat() if hasattr(values, "isoformat") else values
