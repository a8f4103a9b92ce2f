"""From an MLflow model directory to a version: read, loaded in an environment of its own, packed, registered."""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeAlias

from blake3 import blake3

import modelyard
from modelyard import errors
from modelyard.bundle import environment
from modelyard.bundle.layout import Bundle, open_bundle
from modelyard.domain.manifest import RuntimeName
from modelyard.domain.names import check_name
from modelyard.errors import CannotPack, Failed, ModelFailed, ModelNotFound, ModelyardError, PolicyDenied
from modelyard.home import Home
from modelyard.mlflow import mlmodel
from modelyard.mlflow.documents import Listing, copied, inside, listing
from modelyard.mlflow.mlmodel import PYFUNC, MlflowModel
from modelyard.mlflow.requirements import MLFLOW, Stated, resolved, stated
from modelyard.registry import Registry, Version

Progress: TypeAlias = Callable[[str], None]
"""Is told in a few words what is being done."""

SOURCE_TAG = "mlflow.source"
"""The tag of a version that says which directory, rows and options it was made of, as a digest."""

_PASSED_ON = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME", "UV_CACHE_DIR"}
)
"""What the process that loads a model gets of our environment. The rest may hold secrets."""

_LAST_LINES = 12


@dataclass(frozen=True, slots=True)
class Options:
    """How to take a model in.

    `name` is what it is called here; `sample` a file of rows in place of its input example; `flavour` the flavour to
    take; `python` and `overrides` change its environment; `runtime` is that of `my.pack`; `tags` are kept with the
    version. Unless `trust_code`, nothing of it is installed or loaded.
    """

    name: str | None = None
    sample: Path | None = None
    flavour: str | None = None
    python: str | None = None
    overrides: tuple[str, ...] = ()
    runtime: RuntimeName | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    trust_code: bool = False


@dataclass(frozen=True, slots=True)
class ModelTaken:
    """A model that was taken in. `is_new` is false where it was here already; `notes` tell what was changed."""

    version: Version
    flavour: str
    is_new: bool
    notes: tuple[str, ...] = ()


def import_model(source: Path, options: Options, registry: Registry, progress: Progress | None = None) -> ModelTaken:
    """Make a version of an MLflow model directory, or find the one that was made of it.

    Nothing of the model is loaded in this process, but for ONNX graphs, which are data.

    Raises:
        InvalidRequest: `source` is no model directory, or has no flavour that can be taken in.
        BundleRefused: its files are not as they should be.
        PolicyDenied: it brings code, and `options.trust_code` is not set.
        CannotPack: it has no rows to prove it on, or its signature or answers fit no schema.
        EnvironmentFailed: its environment cannot be had here.
        ModelFailed: it cannot be loaded.
    """
    say = progress or (lambda words: None)
    model = mlmodel.read(mlmodel.find(source))
    flavour = model.flavour(options.flavour)
    name = check_name(options.name or mlmodel.default_name(model.folder))
    if reason := mlmodel.unsupported(model.inputs):
        raise CannotPack(f"{model.folder}: {reason}")
    say("reading the model's files")
    listed = listing(model.folder)
    tags = _tags(model, flavour, listed, options)
    if known := _known(registry, name, tags[SOURCE_TAG]):
        return ModelTaken(known, flavour, is_new=False)
    if flavour != "onnx" and not options.trust_code:
        raise PolicyDenied(_consent(model, flavour))
    with tempfile.TemporaryDirectory(dir=registry.home.cache, prefix="mlflow-") as folder:
        work = Path(folder)
        here = replace(model, folder=copied(listed.files, work / "model"))
        bundle, notes = _packed(here, flavour, name, replace(options, tags=tags), work, registry.home, say)
        version = registry.register(bundle)
    return ModelTaken(version, flavour, is_new=True, notes=notes)


def _tags(model: MlflowModel, flavour: str, listed: Listing, options: Options) -> dict[str, str]:
    rows = blake3(options.sample.read_bytes()).hexdigest() if options.sample is not None else ""
    asked = [listed.digest, rows, flavour, options.python, options.overrides, options.runtime]
    source = blake3(json.dumps(asked).encode()).hexdigest()[:32]
    return {**model.facts, "mlflow.flavour": flavour, **options.tags, SOURCE_TAG: source}


def _known(registry: Registry, name: str, source: str) -> Version | None:
    try:
        versions = registry.versions(name)
    except ModelNotFound:
        return None
    return next((one for one in reversed(versions) if one.tags.get(SOURCE_TAG) == source), None)


def _consent(model: MlflowModel, flavour: str) -> str:
    entry = model.flavours[flavour]
    files = [
        str(entry[key]) for key in ("pickled_model", "python_model", "model_path", "data", "code") if entry.get(key)
    ]
    return (
        f"{model.folder}: to take this model in as {flavour}, the packages that its requirements name are installed "
        f"and its files are loaded ({', '.join(files) or mlmodel.MLMODEL}), which runs code of whoever made it; "
        "nothing of it was run. If you trust where it came from, say --trust-code"
    )


def _packed(
    model: MlflowModel, flavour: str, name: str, options: Options, work: Path, home: Home, say: Progress
) -> tuple[Bundle, tuple[str, ...]]:
    job = _job(model, flavour, name, options, work)
    if flavour == "onnx":
        return _packed_here(job, say), ()
    wanted = _wanted(model, flavour, options)
    if flavour == PYFUNC:
        job["needs"] = list(wanted.names)
    say("resolving the model's environment")
    locked = resolved(wanted, options.python)
    python = environment.cached(locked, home, say)
    run_inside(python, job, work, say)
    notes = list(wanted.notes)
    if model.python and model.python.split(".")[:2] != locked.python.split(".")[:2]:
        notes.append(f"it was made with Python {model.python} and answers here with {locked.python}")
    bundle = open_bundle(work / "bundle")
    _prepare_environment(bundle, python, home)
    return bundle, tuple(notes)


def _prepare_environment(bundle: Bundle, python: Path, home: Home) -> None:
    """The version's own environment, with what Python compiled in the larger one that its model was loaded in.

    That it can be had is then known, and verifying and serving it need not compile hundreds of modules again.
    """
    locked = bundle.manifest.environment
    environment.cached(locked, home)
    environment.share_bytecode(python.parents[1], environment.place_of(locked, home))


def _wanted(model: MlflowModel, flavour: str, options: Options) -> Stated:
    """Without MLflow itself where the model's own object does not need it."""
    wanted = stated(model.folder, model.python, options.overrides)
    if flavour == PYFUNC or _mentions_mlflow(model, flavour):
        return wanted
    asked = {one for one in MLFLOW if any(text.startswith(one) for text in options.overrides)}
    return wanted.without(MLFLOW - asked)


def _mentions_mlflow(model: MlflowModel, flavour: str) -> bool:
    files = [_model_file(model, flavour), *(path for folder in _code(model, flavour) for path in folder.rglob("*.py"))]
    return any(_holds(path, b"mlflow") for path in files if path.is_file() and path.stat().st_size)


def _holds(path: Path, word: bytes) -> bool:
    """Whether a file has `word` in it, however large it is."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(word) >= 0


_FILE_KEYS = {"sklearn": ("pickled_model",), "xgboost": ("data",), "lightgbm": ("data",), "onnx": ("data",)}


def _model_file(model: MlflowModel, flavour: str) -> Path:
    return model.file(flavour, *_FILE_KEYS[flavour])


def _code(model: MlflowModel, flavour: str) -> list[Path]:
    """The folder of modules beside the model. MLflow itself adds it for ``python_function``."""
    named = model.flavours[flavour].get("code")
    return [] if flavour == PYFUNC or not named else [inside(model.folder, named)]


def _job(model: MlflowModel, flavour: str, name: str, options: Options, work: Path) -> dict[str, Any]:
    example = None
    if options.sample is None and model.example and model.example.get("artifact_path"):
        example = inside(model.folder, model.example["artifact_path"])
    inputs = model.inputs
    return {
        "flavour": flavour,
        "folder": str(model.folder),
        "model": None if flavour == PYFUNC else str(_model_file(model, flavour)),
        "entry": dict(model.flavours[flavour]),
        "code": [str(path) for path in _code(model, flavour)],
        "inputs": None if inputs is None else [_plain(one) for one in inputs],
        "example": None if example is None or not example.is_file() else str(example),
        "example_info": model.example,
        "sample": None if options.sample is None else str(options.sample.resolve()),
        "name": name,
        "runtime": options.runtime,
        "tags": dict(options.tags),
        "needs": [],
        "work": str(work),
        "into": str(work / "bundle"),
        "end": str(work / "end.json"),
    }


def _plain(one: mlmodel.Field) -> dict[str, Any]:
    return {"name": one.name, "type": one.type, "required": one.required, "shape": one.shape}


def _packed_here(job: Mapping[str, Any], say: Progress) -> Bundle:
    """An ONNX graph is data: it can be asked in this process."""
    from modelyard.bundle.pack import build_bundle
    from modelyard.mlflow import samples

    return build_bundle(
        job["model"],
        sample=samples.rows(job),
        name=job["name"],
        into=Path(job["into"]),
        runtime=job["runtime"],
        tags=job["tags"],
        progress=say,
    )


def run_inside(python: Path, job: dict[str, Any], work: Path, say: Progress) -> None:
    """Carry out a job with the interpreter of the model's environment, in a process of its own.

    Raises:
        ModelyardError: as that process says, or `ModelFailed` where it died.
    """
    reading, writing = os.pipe()
    file, printed = work / "job.json", work / "printed.txt"
    file.write_text(json.dumps(job | {"progress": writing}))
    with printed.open("wb") as output:
        child = subprocess.Popen(
            [python, "-P", "-m", "modelyard.mlflow.inside", str(file)],
            cwd=work,
            env=_surroundings(_library(work)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            start_new_session=True,
        )
    os.close(writing)
    try:
        with os.fdopen(reading, encoding="utf-8", errors="replace") as progress:
            for line in progress:
                say(line.strip())
        code = child.wait()
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    _raise_what_it_said(Path(job["end"]), code, printed)


def _raise_what_it_said(end: Path, code: int, printed: Path) -> None:
    if not end.is_file():
        lines = printed.read_text(errors="replace").strip().splitlines()[-_LAST_LINES:]
        raise ModelFailed(f"the process that loaded the model ended with status {code}: {' | '.join(lines)[-1500:]}")
    said = json.loads(end.read_text())
    if said:
        kind = getattr(errors, said["kind"], Failed)
        raise (kind if issubclass(kind, ModelyardError) else Failed)(said["message"])


def _library(work: Path) -> Path:
    """A folder with nothing but this Modelyard in it, so that the model's environment sees no other package of ours."""
    folder = work / "library"
    facts = folder / "modelyard-0.dist-info"
    facts.mkdir(parents=True)
    (folder / "modelyard").symlink_to(Path(modelyard.__file__).parent)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: modelyard\nVersion: 0\n")
    points = [f"{point.name} = {point.value}" for point in entry_points(group="modelyard.frameworks")]
    own = [line for line in points if " = modelyard." in line]
    (facts / "entry_points.txt").write_text("\n".join(["[modelyard.frameworks]", *own, ""]))
    return folder


def _surroundings(library: Path) -> dict[str, str]:
    """Digests of wheels were asked for before, so that uv needs neither network nor the addresses of indexes there."""
    kept = {name: value for name, value in os.environ.items() if name in _PASSED_ON}
    own = {"PYTHONPATH": str(library), "UV_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return kept | own
