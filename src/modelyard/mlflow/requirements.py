"""The environment that an MLflow model asks for, resolved to exact versions."""

from __future__ import annotations

import platform
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from modelyard.bundle import uv
from modelyard.bundle.distributions import installed, platform_tag
from modelyard.domain.environment import Distribution, Environment
from modelyard.errors import BundleRefused, EnvironmentFailed, InvalidRequest
from modelyard.mlflow.documents import inside, text_of, yaml_of

MLFLOW = frozenset({"mlflow", "mlflow-skinny"})

TOOLS = (
    "blake3",
    "cloudpickle",
    "detect-secrets",
    "msgspec",
    "numpy",
    "onnx",
    "onnxmltools",
    "onnxruntime",
    "packaging",
    "pandas",
    "pathspec",
    "pyarrow",
    "scikit-learn",
    "skl2onnx",
    "skops",
    "threadpoolctl",
    "uv",
)
"""What packing itself needs in the process that loads the model. None of it goes into the version for that."""

_BESIDE_NUMPY_1 = ("pyarrow<20", "onnx<1.19", "onnxruntime<1.24", "scipy<1.16")
"""Later releases need numpy 2 and do not all say so in what they require."""

_CONTINUED = re.compile(r"\\\r?\n")
_COMMENT = re.compile(r"(^|\s)#.*$")
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;#]+)", re.MULTILINE)
_MINOR = re.compile(r"^(\d+\.\d+)")


@dataclass(frozen=True, slots=True)
class Stated:
    """What a model directory asks for. `notes` tell what was passed over."""

    python: str | None
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the distributions that are asked for here, by their markers."""
        parsed = (Requirement(text) for text in self.requirements)
        return tuple(canonicalize_name(one.name) for one in parsed if one.marker is None or one.marker.evaluate())

    def without(self, names: Iterable[str]) -> Stated:
        """Without requirements of these distributions."""
        gone = set(names)
        kept = tuple(text for text in self.requirements if canonicalize_name(Requirement(text).name) not in gone)
        return replace(self, requirements=kept)


def stated(folder: Path, python: str | None, overrides: Sequence[str] = ()) -> Stated:
    """What ``requirements.txt``, or ``conda.yaml`` where there is none, asks for.

    Args:
        folder: The model directory.
        python: The Python that its ``MLmodel`` file names.
        overrides: Requirements that take the place of those of the same name.

    Raises:
        BundleRefused: something is asked for that no index can give: an address, a folder, a wheel in the directory.
        InvalidRequest: an override is no requirement.
    """
    instead = {canonicalize_name(_override(text).name): text for text in overrides}
    lines, notes = _lines(folder)
    conda_python = python or _python_of(folder)
    reading = _Reading(folder, set(instead))
    for line in lines:
        reading.take(line)
    requirements, twice = _once((*reading.requirements, *instead.values()))
    return Stated(conda_python, requirements, tuple(reading.constraints), (*notes, *reading.notes, *twice))


def _once(requirements: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Without packages whose files another brings: MLflow names xgboost where xgboost-cpu was installed, and both.

    >>> _once(["xgboost==3.2.0", "xgboost-cpu==3.2.0"])[0]
    ('xgboost-cpu==3.2.0',)
    """
    names = {text: canonicalize_name(Requirement(text).name) for text in requirements}
    twice = {name for name in names.values() if f"{name}-cpu" in names.values()}
    kept = tuple(text for text, name in names.items() if name not in twice)
    return kept, tuple(f"{name} is left out, since {name}-cpu brings the same modules" for name in sorted(twice))


def _override(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise InvalidRequest(f"{text!r} is no requirement such as numpy==2.0: {error}") from None


class _Reading:
    """Takes requirements line by line."""

    def __init__(self, folder: Path, replaced: set[str]) -> None:
        self.requirements: list[str] = []
        self.constraints: list[str] = []
        self.notes: list[str] = []
        self._folder, self._replaced = folder, replaced

    def take(self, line: str) -> None:
        """One line, without comments."""
        if line.startswith("-"):
            self._option(line)
        else:
            self._requirement(line)

    def _option(self, line: str) -> None:
        word, _, value = line.replace("=", " ", 1).partition(" ")
        if word in ("-c", "--constraint"):
            self.constraints += _texts(inside(self._folder, value.strip()))
        elif word in ("-e", "--editable", "-r", "--requirement"):
            raise BundleRefused(f"its requirements have the line {line!r}, which no index can give; {_REMEDY}")
        else:
            self.notes.append(
                f"passed over {word} in its requirements: where packages come from is this machine's setting"
            )

    def _requirement(self, line: str) -> None:
        text = re.split(r"\s--(?:hash|config-settings|global-option)", line)[0].strip()
        try:
            asked = Requirement(text)
        except InvalidRequirement:
            raise BundleRefused(
                f"its requirements have the line {line!r}, which no index can give; {_REMEDY}"
            ) from None
        if canonicalize_name(asked.name) in self._replaced:
            return
        if asked.url is not None:
            raise BundleRefused(
                f"it needs {asked.name} from an address of its own, which could not be rebuilt elsewhere; {_REMEDY}"
            )
        self.requirements.append(text)


_REMEDY = "say which release to take in its place with --with NAME==VERSION, or publish it on your index"


def _lines(folder: Path) -> tuple[list[str], tuple[str, ...]]:
    file = folder / "requirements.txt"
    if file.exists() or file.is_symlink():
        return _texts(file), ()
    if (folder / "conda.yaml").exists():
        return _of_conda(folder / "conda.yaml")
    raise BundleRefused(
        f"{folder} has neither requirements.txt nor conda.yaml: say what it needs with --with NAME==VERSION"
    )


def _texts(file: Path) -> list[str]:
    joined = _CONTINUED.sub(" ", text_of(file))
    return [line for line in (_COMMENT.sub("", line).strip() for line in joined.splitlines()) if line]


def _of_conda(file: Path) -> tuple[list[str], tuple[str, ...]]:
    """Packages of pip, and those of conda under the same names."""
    lines, notes = [], []
    for entry in yaml_of(file).get("dependencies") or []:
        if isinstance(entry, dict):
            lines += [str(line) for line in entry.get("pip") or []]
        elif (name := re.split(r"[<>=!~ ]", str(entry))[0]) not in ("python", "pip", "setuptools", "wheel"):
            lines.append(re.sub(r"(?<![<>=!~])=(?!=)", "==", str(entry).split("::")[-1]))
            notes.append(f"{name} was a conda package and is taken from the index of pip")
    return lines, tuple(notes)


def _python_of(folder: Path) -> str | None:
    if (folder / "python_env.yaml").exists() and (found := yaml_of(folder / "python_env.yaml").get("python")):
        return str(found)
    if (folder / "conda.yaml").exists():
        for entry in yaml_of(folder / "conda.yaml").get("dependencies") or []:
            if isinstance(entry, str) and (match := re.match(r"python[=<>~! ]*([\d.]+)", entry)):
                return match.group(1)
    return None


def resolved(wanted: Stated, python: str | None = None) -> Environment:
    """Exact versions of what a model asks for and of what packing it needs, for one Python of this machine.

    What a requirement leaves open becomes the release that Modelyard's own environment has, where that fits.

    Args:
        wanted: What the model asks for.
        python: The Python to take (``3.12``) in place of the one that the model names.

    Raises:
        EnvironmentFailed: there is no such Python here, or no set of versions fulfils everything.
    """
    interpreter, version = interpreter_for(python or wanted.python)
    with tempfile.TemporaryDirectory(prefix="modelyard-") as folder:
        chosen = _chosen(wanted, interpreter, Path(folder))
    hashes = uv.wheel_hashes(chosen) if version.startswith(_minor(platform.python_version())) else {}
    distributions = (
        Distribution(canonicalize_name(name), release, hashes.get(f"{name}=={release}", ()))
        for name, release in (pin.split("==", 1) for pin in sorted(chosen))
    )
    return Environment(python=version, platform=platform_tag(), distributions=tuple(distributions))


def _chosen(wanted: Stated, interpreter: str, folder: Path) -> list[str]:
    """Pins; uv prefers those that a file of earlier pins has."""
    chosen = _compiled(wanted, interpreter, folder, wanted.constraints)
    if any(pin.startswith("numpy==1.") for pin in chosen):
        chosen = _compiled(wanted, interpreter, folder, (*wanted.constraints, *_BESIDE_NUMPY_1))
    return chosen


def _compiled(wanted: Stated, interpreter: str, folder: Path, constrained: Sequence[str]) -> list[str]:
    pins, constraints = folder / "pins.txt", folder / "constraints.txt"
    pins.write_text("".join(f"{one.name}=={one.version}\n" for one in installed().values() if not one.is_local))
    constraints.write_text("\n".join(constrained))
    given = "\n".join((*wanted.requirements, *TOOLS))
    options = ["--quiet", "--no-header", "--no-annotate", "--python", interpreter, "-c", str(constraints)]
    for offline in (["--offline"], []):
        try:
            uv.run(["pip", "compile", *options, *offline, "-o", str(pins), "-"], given=given)
        except EnvironmentFailed as error:
            if not offline:
                raise EnvironmentFailed(_cannot(wanted, str(error))) from error
            continue
        break
    return [f"{name}=={release}" for name, release in _PIN.findall(pins.read_text())]


def _cannot(wanted: Stated, said: str) -> str:
    return (
        f"the environment that the model asks for ({', '.join(wanted.requirements[:20])}) cannot be had together with "
        f"what packing needs; exchange a requirement with --with NAME==VERSION. uv says: {said}"
    )


def interpreter_for(python: str | None) -> tuple[str, str]:
    """An interpreter of this machine for a Python version (its minor version counts), and its full version.

    Raises:
        EnvironmentFailed: there is none, or it is older than what Modelyard runs on.
    """
    own = platform.python_version()
    if python is None or _minor(python) == _minor(own):
        return sys.executable, own
    minor = _minor(python)
    if tuple(map(int, minor.split("."))) < (3, 11):
        raise EnvironmentFailed(
            f"the model was made with Python {python}, and models are packed with Python 3.11 or newer: "
            "take a newer one with --python 3.11, if its requirements are to be had for it; its answers are then those "
            "that it gives there"
        )
    try:
        found = uv.run(["python", "find", "--no-python-downloads", "--no-project", minor]).strip()
        version = uv.run(["python", "find", "--no-python-downloads", "--no-project", "--show-version", minor]).strip()
    except EnvironmentFailed:
        raise EnvironmentFailed(
            f"the model was made with Python {python}, and no Python {minor} is on this machine; install one, for "
            f"example with: uv python install {minor}, or take another with --python {_minor(own)}"
        ) from None
    return found, version


def _minor(version: str) -> str:
    """The first two parts of a version.

    >>> _minor("3.11.7")
    '3.11'
    """
    match = _MINOR.match(version)
    if match is None:
        raise InvalidRequest(f"{version!r} is no version of Python; write 3.12")
    return match.group(1)
