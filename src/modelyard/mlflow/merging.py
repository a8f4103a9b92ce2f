"""What a program logged with MLflow becomes part of its run here: parameters, metrics, artefacts, models."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from modelyard.domain.run import Run
from modelyard.errors import ModelyardError
from modelyard.mlflow import mlmodel
from modelyard.mlflow.documents import plain_files
from modelyard.mlflow.importing import Options, import_model
from modelyard.mlflow.sources import open_source
from modelyard.mlflow.taking import Taker, metric_lines, notes_of
from modelyard.mlflow.tracking import Chosen, LoggedModel, RegisteredVersion, TrackedRun, TrackingStore
from modelyard.registry import Registry
from modelyard.runs import reads
from modelyard.runs.folder import RunFolder, append
from modelyard.runs.yard import opened

Progress: TypeAlias = Callable[[str], None]
"""Is told in a few words what is being done."""

_OWN_TAGS = ("mlflow.user", "mlflow.source.", "mlflow.log-model.history", "mlflow.runName", "mlflow.loggedArtifacts")
_LARGEST_SAMPLE = 256 * 2**20
_GENERIC = ("model", "artifacts")


def merge(folder: RunFolder, address: str, say: Progress) -> None:
    """Add what was logged at `address`, a tracking folder or database, while the run was under way.

    Raises:
        InvalidRequest: it is neither, as where it was logged to a tracking server.
        Failed: it cannot be read.
    """
    store = open_source(address, is_selected=True)
    if not isinstance(store, Path):
        try:
            _Merging(folder, folder.begun(), store, say).merge()
        finally:
            store.close()


@dataclass(slots=True)
class _Merging:
    """One recorded run, and the store that its program logged to."""

    folder: RunFolder
    begun: Run
    store: TrackingStore
    say: Progress

    def merge(self) -> None:
        """The only run, or the only one that is no child of another, becomes this run; the others runs of their own."""
        runs = [run for run in self.store.runs(Chosen()) if self._is_of_this(run)]
        roots = [run for run in runs if "mlflow.parentRunId" not in run.tags]
        main = roots[0] if len(roots) == 1 else None
        others = [run for run in runs if run is not main]
        if main is not None:
            self._add(main)
            self._pack(main)
        if others:
            self._take(others, main)

    def _is_of_this(self, run: TrackedRun) -> bool:
        """Of a store that others use too: what was started while the program ran."""
        return self.begun.started_at.timestamp() * 1000 - 1000 <= run.started <= time.time() * 1000 + 1000

    def _add(self, main: TrackedRun) -> None:
        if main.experiment != "Default":
            self.folder.tell(name=mlmodel.default_name(Path(main.experiment)))
        self.folder.tell(params=dict(main.params))
        own = {name: text for name, text in main.tags.items() if not name.startswith(_OWN_TAGS)}
        self.folder.tell(tags={**own, "mlflow.runName": main.name, "mlflow.run_id": main.id})
        for line in metric_lines(main.metrics):
            append(self.folder.path / "metrics.jsonl", line)
        for note in notes_of(main):
            self.folder.tell(note=note)
        if main.artifacts is not None:
            self._keep(main.artifacts, "artifacts")
        for model in main.models:
            if model.folder is not None and model.id:
                self._keep(model.folder, f"models/{model.id}")

    def _keep(self, source: Path, below: str) -> None:
        for name, path in sorted(plain_files(source)):
            target = self.folder.files / below / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            if below == "artifacts":
                self.folder.tell(artifact=name)

    def _take(self, others: Sequence[TrackedRun], main: TrackedRun | None) -> None:
        with opened(self.folder.home) as yard, Registry.open(self.folder.home) as registry:
            taker = Taker(self.store, yard, registry, Options(trust_code=True), self.say)
            taken = taker.take_runs(others, {"modelyard.run": self.begun.id})
        kept = [one.run for one in taken if one.run]
        which = "those that are children of it" if main is not None else "all"
        if kept:
            shown = ", ".join(kept[:10]) + (" …" if len(kept) > 10 else "")
            self.folder.tell(note=f"it logged {len(others)} more runs with MLflow ({which}), kept apart: {shown}")

    # models -----------------------------------------------------------------------------------------------------------

    def _pack(self, main: TrackedRun) -> None:
        registered = [one for one in self.store.versions() if one.run_id == main.id and one.folder is not None]
        of_folder = {one.folder: one for one in registered}
        models = {model.folder: model for model in main.models if model.folder is not None}
        wanted = [*of_folder, *(folder for folder in models if folder not in of_folder)]
        with Registry.open(self.folder.home) as registry:
            for folder in wanted:
                if folder is not None:
                    name = self._name(models.get(folder), of_folder.get(folder), alone=len(wanted) == 1)
                    self._pack_one(folder, name, registry, of_folder.get(folder))

    def _name(self, model: LoggedModel | None, registered: RegisteredVersion | None, *, alone: bool) -> str:
        if registered is not None:
            return mlmodel.default_name(Path(registered.model))
        own = self.folder.journal().name or self.begun.name
        logged = "" if model is None or model.name in _GENERIC else model.name
        return own if alone or not logged else mlmodel.default_name(Path(f"{own}-{logged}"))

    def _pack_one(self, folder: Path, name: str, registry: Registry, registered: RegisteredVersion | None) -> None:
        self.say(f"packing the model that the program logged, as {name}")
        tags = {} if registered is None else {"mlflow.registered": registered.ref}
        try:
            sample = self._sample(folder)
            options = Options(name=name, trust_code=True, tags=tags, sample=sample)
            taken = import_model(folder, options, registry, self.say)
        except ModelyardError as error:
            sys.stderr.write(
                f"modelyard: the model that the program logged is kept with the run, not packed: {error}\n"
            )
            self.folder.tell(note=f"the model {name} that it logged with MLflow is not packed: {error}")
            return
        self.folder.tell(version=taken.version.ref)
        if sample is not None:
            read = f"{sample.name}, which the program read"
            self.folder.tell(note=f"the golden rows of {taken.version.ref} are from {read}")

    def _sample(self, folder: Path) -> Path | None:
        """For a model without an input example: a table that the program read and that has all its columns."""
        model = mlmodel.read(folder)
        example = model.example or {}
        if example.get("artifact_path") or not model.inputs or any(one.name is None for one in model.inputs):
            return None
        wanted = {str(one.name) for one in model.inputs if one.required}
        found = (Path(path) for path in reads.opened(self.folder).data)
        return next((path for path in found if wanted <= set(_columns(path))), None)


def _columns(path: Path) -> Iterator[str]:
    """Names of the columns of a table that can be a sample; none for anything else."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    try:
        if path.stat().st_size > _LARGEST_SAMPLE:
            return
        if path.name.endswith(".csv"):
            with pa.csv.open_csv(path) as reader:
                yield from reader.schema.names
        elif path.name.endswith((".parquet", ".pq")):
            yield from pa.parquet.read_schema(path).names
    except (OSError, pa.ArrowInvalid):
        return
