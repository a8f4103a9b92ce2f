"""An MLflow model directory: what its ``MLmodel`` file says, as plain data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelyard.errors import BundleRefused, InvalidRequest
from modelyard.mlflow.documents import inside, yaml_of

MLMODEL = "MLmodel"
PYFUNC = "python_function"
NATIVE_FLAVOURS = ("onnx", "lightgbm", "xgboost", "sklearn")
"""Flavours whose own object is packed, so that it can be compiled and has all its methods; in order of preference."""

_SCALARS = {"boolean", "integer", "long", "float", "double", "string", "datetime"}


@dataclass(frozen=True, slots=True)
class Field:
    """One input of a signature: a column, or a tensor with `shape`. An unnamed input has the name None."""

    name: str | None
    type: str
    required: bool = True
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class MlflowModel:
    """A model directory as it describes itself. Nothing of it was loaded.

    `inputs` is None where there is no signature; `example` says how the input example is written; `takes_list` that
    its ``predict`` has the type hint of a list of plain values.
    """

    folder: Path
    flavours: Mapping[str, Mapping[str, Any]]
    inputs: tuple[Field, ...] | None
    example: Mapping[str, Any] | None
    python: str | None
    takes_list: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)

    def flavour(self, wanted: str | None = None) -> str:
        """The flavour to pack: the one that is wanted, else a native one that we know, else ``python_function``.

        Raises:
            InvalidRequest: there is no such flavour.
        """
        if wanted is not None:
            if wanted not in self.flavours or wanted not in (*NATIVE_FLAVOURS, PYFUNC):
                there_are = ", ".join(name for name in self.flavours if name in (*NATIVE_FLAVOURS, PYFUNC))
                raise InvalidRequest(
                    f"{self.folder} cannot be taken in as {wanted!r}; it can as: {there_are or 'nothing'}"
                )
            return wanted
        for name in (*NATIVE_FLAVOURS, PYFUNC):
            if name in self.flavours:
                return name
        raise InvalidRequest(
            f"{self.folder} has the flavours {', '.join(self.flavours) or 'none'}; what can be taken in: "
            f"{', '.join(reversed(NATIVE_FLAVOURS))} and {PYFUNC}"
        )

    def file(self, flavour: str, *keys: str) -> Path:
        """The file or folder of the model that a flavour names under one of `keys`.

        Raises:
            BundleRefused: it names none, or one that is not there.
        """
        entry = self.flavours[flavour]
        named = next((entry[key] for key in keys if entry.get(key)), None)
        if named is None:
            raise BundleRefused(f"{self.folder / MLMODEL}: flavour {flavour} does not say which file holds the model")
        path = inside(self.folder, named)
        if not path.exists():
            raise BundleRefused(f"{self.folder / MLMODEL}: flavour {flavour} names {named!r}, which is not there")
        return path


def find(source: Path) -> Path:
    """The model directory that `source` is, or the only one below it (a run's artefacts, MLflow 3's ``artifacts``).

    Raises:
        InvalidRequest: it is none and holds none, or several.
    """
    folder = source.parent if source.name == MLMODEL else source
    if (folder / MLMODEL).is_file():
        return folder
    found = sorted(path.parent for pattern in (f"*/{MLMODEL}", f"*/*/{MLMODEL}") for path in folder.glob(pattern))
    if len(found) == 1:
        return found[0]
    some = f"several models: {', '.join(str(path) for path in found[:5])}" if found else f"no {MLMODEL} file"
    raise InvalidRequest(f"{source} is no MLflow model directory: it has {some}")


def read(folder: Path) -> MlflowModel:
    """What the ``MLmodel`` file of a directory says.

    Raises:
        BundleRefused: it cannot be read, or is not as MLflow writes it.
    """
    document = yaml_of(folder / MLMODEL)
    flavours = document.get("flavors")
    if not isinstance(flavours, dict) or not all(isinstance(entry, dict) for entry in flavours.values()):
        raise BundleRefused(f"{folder / MLMODEL} names no flavours: it is not a model that MLflow wrote")
    signature = document.get("signature") or {}
    example = document.get("saved_input_example_info")
    pyfunc = flavours.get(PYFUNC, {})
    python = pyfunc.get("python_version")
    return MlflowModel(
        folder=folder,
        flavours={str(name): entry for name, entry in flavours.items()},
        inputs=_fields(folder, signature.get("inputs")) if isinstance(signature, dict) else None,
        example=example if isinstance(example, dict) else None,
        python=str(python) if python else None,
        takes_list=bool(document.get("is_signature_from_type_hint")),
        facts=_facts(document),
    )


def _facts(document: Mapping[str, Any]) -> dict[str, str]:
    """What is kept as tags of the version."""
    names = ("mlflow_version", "model_uuid", "model_id", "run_id", "utc_time_created")
    return {f"mlflow.{name}": str(document[name])[:500] for name in names if document.get(name)}


def _fields(folder: Path, text: Any) -> tuple[Field, ...] | None:
    if not text:
        return None
    try:
        listed = json.loads(text)
        return tuple(_field(entry) for entry in listed)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise BundleRefused(f"{folder / MLMODEL}: the signature's inputs cannot be read: {str(text)[:200]}") from None


def _field(entry: Mapping[str, Any]) -> Field:
    name = entry.get("name")
    named = None if name is None else str(name)
    required = bool(entry.get("required", not entry.get("optional", False)))
    if entry["type"] == "tensor":
        tensor = entry["tensor-spec"]
        return Field(named, str(tensor["dtype"]), required, tuple(int(size) for size in tensor["shape"]))
    return Field(named, str(entry["type"]), required)


def unsupported(inputs: tuple[Field, ...] | None) -> str:
    """Why a signature cannot become a schema; empty where it can."""
    for one in inputs or ():
        called = "the input" if one.name is None else f"input {one.name!r}"
        if one.shape is None and one.type not in _SCALARS:
            return (
                f"{called} has type {one.type}; columns are numbers, booleans, texts or datetimes, so a model over "
                "lists, objects or bytes cannot be taken in as a table"
            )
        if one.shape is not None and (not one.shape or one.shape[0] != -1):
            return f"{called} is a tensor of shape {one.shape}; the first dimension has to be the rows (-1)"
    return ""


def default_name(folder: Path) -> str:
    """What a model is called if nobody says: the folder, or that above ``artifacts``.

    >>> default_name(Path("models/churn model")), default_name(Path("m-1/artifacts"))
    ('churn-model', 'm-1')
    """
    chosen = folder.resolve() if folder.name in ("", ".", "..") else folder
    stem = chosen.parent.name if chosen.name == "artifacts" else chosen.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:100] or "model"
