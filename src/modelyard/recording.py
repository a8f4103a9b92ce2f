"""The front door of recorded runs, ``my.run``, in a script, a notebook, or inside ``modelyard train``.

::

    import modelyard as my

    with my.run("flights-delay", data=["flights@2"], params={"depth": 6}) as run:
        ...
        run.log_metrics({"auc": 0.83})
        run.pack(model, sample=X)
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from modelyard.domain.names import check_name
from modelyard.domain.run import Outcome, Value
from modelyard.errors import InvalidRequest
from modelyard.home import Home
from modelyard.runs import current
from modelyard.runs.folder import RunFolder
from modelyard.runs.inside import watching
from modelyard.runs.output import Output, Tee

if TYPE_CHECKING:
    from modelyard.registry import Version

LONGEST_TEXT = 1000
"""Letters of a parameter that are kept."""


class ActiveRun:
    """A run that is under way. Use it as a context, or call `start` and `finish` in the cells of a notebook.

    In a program that `modelyard train` runs it is that run: what is logged goes there.
    """

    def __init__(
        self,
        name: str,
        *,
        data: Sequence[str] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        note: str = "",
        home: str | Path | Home | None = None,
    ) -> None:
        self.name = check_name(name, "run")
        self._data, self._params, self._tags, self._note, self._home = data, params or {}, tags or {}, note, home
        self._folder: RunFolder | None = None
        self._is_joined = False
        self._clock = 0.0
        self._metrics = -1
        self._tees: list[tuple[str, TextIO, Tee, Output]] = []

    @property
    def id(self) -> str:
        """By which the run is found: ``modelyard runs show ID``."""
        return self._open().path.name

    def start(self) -> Self:
        """Begin to record.

        Raises:
            InvalidRequest: it was started before, or another run is under way in this process.
            DatasetNotFound, VersionNotFound: there is no such version of data.
        """
        if self._folder is not None or current.run() is not None:
            raise InvalidRequest("a run is under way in this process; finish it before another is started")
        surrounding = RunFolder.surrounding()
        if surrounding is None:
            self._begin()
        else:
            self._join(surrounding)
        self.log_params(self._params)
        return self

    def finish(self, error: BaseException | None = None) -> None:
        """End the run, well or with `error`. It is recorded before this returns."""
        folder = self._open()
        seconds = time.monotonic() - self._clock
        current.leave(folder)
        if self._metrics >= 0:
            os.close(self._metrics)
        self._folder, self._metrics = None, -1
        if self._is_joined:
            return
        from modelyard.runs.shipping import end

        watching.end()
        folder.put(f"facts-{os.getpid()}.json", watching.facts())
        self._give_streams_back()
        outcome = Outcome("finished") if error is None else Outcome("failed", error=_said(error))
        end(folder, outcome, seconds)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(None if isinstance(error, SystemExit) and not error.code else error)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Keep parameters. A later value of the same name takes the place of an earlier one."""
        if params:
            self._open().tell(params={str(name): _param(value) for name, value in params.items()})

    def log_metrics(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Keep values of metrics at a step. It takes microseconds and outlives a process that is killed.

        Raises:
            InvalidRequest: a value is no number.
        """
        numbers = {name: _number(name, value) for name, value in values.items()}
        line = json.dumps({"at": round(time.time(), 3), "step": step, "values": numbers})
        if self._metrics < 0:
            file = self._open().path / "metrics.jsonl"
            with watching.unwatched():
                self._metrics = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.write(self._metrics, line.encode() + b"\n")

    def log_artifact(self, path: str | Path, name: str | None = None) -> None:
        """Keep a file or a folder as it is now, under `name` or its own name.

        Raises:
            InvalidRequest: there is no such file, or the name leads elsewhere.
        """
        folder, source = self._open(), Path(path)
        place = Path(name or source.name)
        if place.is_absolute() or ".." in place.parts or not place.parts:
            raise InvalidRequest(f"{name!r} cannot name an artefact; give a relative path such as plots/roc.png")
        if not source.exists():
            raise InvalidRequest(f"{path}: there is no such file or folder to keep")
        target = folder.files / "artifacts" / place
        with watching.unwatched():
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copyfile(source, target)
            folder.tell(artifact=str(place))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Keep texts to search by."""
        self._open().tell(tags={str(name): str(value) for name, value in tags.items()})

    def data(self, ref: str) -> Path:
        """The files of a dataset version, in a folder that lasts as long as the run.

        Without a number it is the version that the run was said to read (``--data flights@2``), else the newest one.

        Raises:
            DatasetNotFound, VersionNotFound: there is no such version.
            DataDamaged: its content is not what was stored.
        """
        folder = self._open()
        with watching.unwatched():
            return _checked_out(folder, ref)

    def pack(self, estimator: Any, *, sample: Any, name: str | None = None, **options: Any) -> Version:
        """Pack a model as the next version of the model `name`, by default of the run's own name; see `my.pack`."""
        from modelyard.packing import pack

        return pack(estimator, sample=sample, name=name or self.name, home=self._open().home, **options)

    def _begin(self) -> None:
        from modelyard.runs.beginning import Asked, begin

        home = Home.locate(self._home)
        command = getattr(sys, "orig_argv", sys.argv)
        folder = begin(home, Asked(self.name, command, self._data, self._tags, self._note))
        self._folder, self._is_joined, self._clock = folder, False, time.monotonic()
        current.enter(folder)
        for each in ("stdout", "stderr"):
            stream, output = getattr(sys, each), Output(folder.files / "output" / f"{each}.txt")
            tee = Tee(stream, output)
            setattr(sys, each, tee)
            self._tees.append((each, stream, tee, output))
        watching.begin(str(folder.path))

    def _join(self, folder: RunFolder) -> None:
        """What is said here is added to what `modelyard train` knows; a name given there stays."""
        self._folder, self._is_joined, self._clock = folder, True, time.monotonic()
        current.enter(folder)
        with watching.unwatched():
            for ref in _declared(folder, self._data) if self._data else ():
                folder.tell(declared=ref)
            folder.tell(name=self.name)
            if self._note:
                folder.tell(note=self._note)
        if self._tags:
            self.set_tags(self._tags)

    def _give_streams_back(self) -> None:
        for name, stream, tee, output in self._tees:
            if getattr(sys, name) is tee:
                setattr(sys, name, stream)
            output.close()
        self._tees = []

    def _open(self) -> RunFolder:
        if self._folder is None:
            raise InvalidRequest(f"the run {self.name!r} is not under way: use it as a context, or start it first")
        return self._folder


def run(
    name: str,
    *,
    data: Sequence[str] = (),
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    note: str = "",
    home: str | Path | Home | None = None,
) -> ActiveRun:
    """A recorded run of this process, from ``with`` on to the end of the block.

    Args:
        name: What the run is called, and by default the model that it packs.
        data: Dataset versions that it is meant to read, such as ``flights@2``.
        params: Parameters to keep.
        tags: Texts to search by.
        note: A line to keep.
        home: Where the registry is; see `Home.locate`. Inside `modelyard train` it is that of the run.

    Raises:
        InvalidRequest: the name cannot be one.
    """
    return ActiveRun(name, data=data, params=params, tags=tags, note=note, home=home)


def _declared(folder: RunFolder, data: Sequence[str]) -> tuple[str, ...]:
    from modelyard.runs.beginning import declare
    from modelyard.runs.yard import opened

    with opened(folder.home) as yard:
        return declare(yard, data)


def _checked_out(folder: RunFolder, ref: str) -> Path:
    from modelyard.datasets.checkout import check_out
    from modelyard.runs.yard import opened

    with opened(folder.home) as yard:
        declared = (each for each in folder.begun().data.declared if each.partition("@")[0] == ref)
        version = yard.datasets.version(next(declared, ref))
        place = folder.path / "data" / version.dataset / str(version.number)
        if not place.exists():
            check_out(yard.datasets.tree(version.ref), place, yard.datasets.store)
            folder.tell(checkout=version.ref)
    return place


def _param(value: Any) -> Value:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else repr(value)
    if len(text) > LONGEST_TEXT:
        warnings.warn(f"a parameter has {len(text)} letters; {LONGEST_TEXT} are kept", stacklevel=4)
    return text[:LONGEST_TEXT]


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"metric {name!r}: {value!r} is no number; keep texts with log_params") from error


def _said(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}"[:500] if text else type(error).__name__
