"""From MLflow's runs and registered models to runs, versions and aliases here, each once."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from blake3 import blake3

from modelyard.bundle.git import without_credentials
from modelyard.datasets.scan import find
from modelyard.datasets.snapshot import store_tree, take
from modelyard.domain.names import Ref
from modelyard.domain.run import CodeState, DataUse, Machine, Metric, Outcome, Process, Run, State
from modelyard.errors import InvalidRequest, ModelNotFound, ModelyardError, RunNotFound
from modelyard.mlflow.documents import plain_files
from modelyard.mlflow.importing import Options, import_model
from modelyard.mlflow.tracking import Chosen, LoggedModel, Point, RegisteredVersion, TrackedRun, TrackingStore
from modelyard.registry import Registry, Version
from modelyard.registry.again import again
from modelyard.runs.repository import shown_command
from modelyard.runs.yard import Yard

Progress: TypeAlias = Callable[[str], None]
"""Is told in a few words what is being done."""

Became: TypeAlias = Literal["new", "known", "changed", "not over", "refused"]
"""``known``: taken in before; ``changed``: that too, but it is otherwise in MLflow now; ``not over``: it runs there."""

STATE_TAG = "mlflow.state"
"""The tag of a run that says what MLflow knew of it when it was taken in, part by part, as digests."""

REGISTERED_TAG = "mlflow.registered"
_STATES: dict[str, State] = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}
_MOST_NAMED = 200


@dataclass(frozen=True, slots=True)
class RunTaken:
    """What became of one run of MLflow. `run` is its id here, `why` what changed or why it is not taken in."""

    mlflow: str
    name: str
    became: Became
    run: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class VersionTaken:
    """What became of one model of MLflow: a registered version (``churn/3``) or one that a run logged."""

    mlflow: str
    became: Became
    ref: str = ""
    aliases: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """All that was taken in. `logged` counts models of these runs that are not registered, and were left."""

    runs: tuple[RunTaken, ...]
    versions: tuple[VersionTaken, ...]
    logged: int = 0
    notes: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether nothing had to be left."""
        return "refused" not in [*(one.became for one in self.runs), *(one.became for one in self.versions)]


@dataclass(slots=True)
class Taker:
    """Takes in what a tracking store has. `options` say how models are."""

    store: TrackingStore
    yard: Yard
    registry: Registry
    options: Options
    say: Progress = field(default=lambda words: None)

    def take(self, chosen: Chosen) -> Taken:
        """Take in what is asked for: first models, then the runs that made them.

        Raises:
            InvalidRequest: an experiment, run or model that was named is not there.
        """
        known = list(self.store.versions())
        by_model = [one.run_id for one in known if chosen.models and chosen.takes_version(one, ()) and one.run_id]
        runs = list(self.store.runs(chosen, besides=by_model)) if not chosen.models or by_model or chosen.runs else []
        self._require(chosen, runs, known)
        ids = [run.id for run in runs]
        versions = [one for one in known if chosen.takes_version(one, ids if not chosen.models else ())]
        made: dict[str, list[str]] = {}
        taken = [self._registered(one, made) for one in versions]
        registered = {one.folder for one in known if one.folder is not None}
        loose = [(run, model) for run in runs for model in run.models if model.folder not in registered]
        picked = [(run, model) for run, model in loose if run.id in chosen.runs]
        taken += [self._logged(run, model, made) for run, model in picked]
        done = [self._run(run, made.get(run.id, []), is_named=run.id in chosen.runs) for run in runs]
        self._point(versions, taken)
        troubles = tuple(getattr(self.store, "troubles", ()))
        return Taken(tuple(done), tuple(taken), len(loose) - len(picked), troubles)

    def take_runs(self, runs: Sequence[TrackedRun], tags: Mapping[str, str]) -> tuple[RunTaken, ...]:
        """Take in these runs, over or not, with `tags` besides their own, and none of their models."""
        tagged = [replace(run, tags={**run.tags, **tags}) for run in runs]
        return tuple(self._run(run, (), is_named=True) for run in tagged)

    def _require(self, chosen: Chosen, runs: Sequence[TrackedRun], versions: Sequence[RegisteredVersion]) -> None:
        there = {
            "run": {run.id for run in runs},
            "model": {one.model for one in versions} | {one.ref for one in versions},
        }
        for what, names in (("run", chosen.runs), ("model", chosen.models)):
            if lacking := [name for name in names if name not in there[what]]:
                listed = f"; there are: {', '.join(sorted(there['model'])[:20])}" if what == "model" else ""
                raise InvalidRequest(f"MLflow has no {what} {lacking[0]!r} here{listed}")
        known = self.store.experiments()
        if lacking := [name for name in chosen.experiments if name not in known and not name.isdigit()]:
            raise InvalidRequest(f"MLflow has no experiment {lacking[0]!r} here; there are: {', '.join(known[:20])}")

    # models -----------------------------------------------------------------------------------------------------------

    def _registered(self, one: RegisteredVersion, made: dict[str, list[str]]) -> VersionTaken:
        tags = {REGISTERED_TAG: one.ref, **_described(one)}
        before = self._taken_before(_safe_name(one.model), one.ref)
        if before is not None:
            made.setdefault(one.run_id, []).append(before.ref)
            return VersionTaken(one.ref, "known", before.ref)
        self.say(f"model {one.ref}")
        return self._model(
            one.ref, _safe_name(one.model), one.folder, one.source, tags, made.setdefault(one.run_id, [])
        )

    def _logged(self, run: TrackedRun, model: LoggedModel, made: dict[str, list[str]]) -> VersionTaken:
        name = _safe_name(self.options.name or model.name)
        self.say(f"model {model.name} of run {run.id}")
        tags = {"mlflow.run_id": run.id}
        return self._model(f"{run.id}/{model.name}", name, model.folder, "", tags, made.setdefault(run.id, []))

    def _model(
        self, what: str, name: str, folder: Path | None, source: str, tags: Mapping[str, str], made: list[str]
    ) -> VersionTaken:
        if folder is None:
            where = f" ({source})" if source else ""
            return VersionTaken(
                what, "refused", why=f"its files cannot be reached{where}; name their folder with --artifacts"
            )
        options = replace(self.options, name=name, tags={**self.options.tags, **tags})
        try:
            taken = import_model(folder, options, self.registry, self.say)
        except ModelyardError as error:
            return VersionTaken(what, "refused", why=str(error))
        made.append(taken.version.ref)
        return VersionTaken(what, "new" if taken.is_new else "known", taken.version.ref, why="; ".join(taken.notes))

    def _taken_before(self, name: str, ref: str) -> Version | None:
        try:
            versions = self.registry.versions(name)
        except ModelNotFound:
            return None
        return next((one for one in versions if one.tags.get(REGISTERED_TAG) == ref), None)

    def _point(self, versions: Sequence[RegisteredVersion], taken: list[VersionTaken]) -> None:
        """Aliases and stages, where nothing here has that alias yet: what was pointed here by hand stays."""
        for at, one in enumerate(versions):
            done = taken[at]
            if done.ref:
                taken[at] = replace(
                    done, aliases=tuple(self._alias(one, alias, done.ref) for alias in _aliases_of(one))
                )

    def _alias(self, one: RegisteredVersion, alias: str, ref: str) -> str:
        here = Ref.parse(ref)
        known = self.registry.aliases(here.model)
        if alias not in known and here.version is not None:
            try:
                self.registry.set_alias(here.model, alias, here.version, by="MLflow", why=f"so in MLflow for {one.ref}")
            except InvalidRequest:
                return f"{alias}: cannot be an alias here"
            return alias
        return alias if known.get(alias) == here.version else f"{alias}: points at {here.model}@{known.get(alias)} here"

    # runs -------------------------------------------------------------------------------------------------------------

    def _run(self, tracked: TrackedRun, versions: Sequence[str], *, is_named: bool) -> RunTaken:
        name = f"{tracked.experiment}: {tracked.name or tracked.id}"
        run_id = f"mlflow-{tracked.id}"
        try:
            state = _state(tracked)
        except (ModelyardError, OSError) as error:  # a link among its artefacts
            return RunTaken(tracked.id, name, "refused", why=str(error))
        try:
            before = self.yard.runs.run(run_id)
        except RunNotFound:
            before = None
        if before is not None and before.id == run_id:
            self._link(before, versions)
            changed = _changed(before.tags.get(STATE_TAG, ""), state)
            return RunTaken(tracked.id, name, "changed" if changed else "known", run_id, changed)
        if not tracked.is_over and not is_named:
            return RunTaken(tracked.id, name, "not over", why=f"MLflow has it as {tracked.status}; name it with --run")
        self.say(f"run {name}")
        try:
            self._store(tracked, replace(_record(tracked, state), id=run_id, versions=tuple(dict.fromkeys(versions))))
        except (ModelyardError, OSError) as error:
            return RunTaken(tracked.id, name, "refused", why=str(error))
        where = f"its artefacts at {tracked.unreached} cannot be reached" if tracked.unreached else ""
        return RunTaken(tracked.id, name, "new", run_id, where)

    def _link(self, before: Run, versions: Sequence[str]) -> None:
        more = [ref for ref in versions if ref not in before.versions]
        if more:
            self.yard.runs.add_versions(before, more)

    def _store(self, tracked: TrackedRun, run: Run) -> None:
        with tempfile.TemporaryDirectory(dir=self.yard.home.cache, prefix="mlflow-") as folder:
            run = replace(run, artifacts=tuple(_put_files(tracked, run, Path(folder))))
            again(lambda: self._keep(run, folder))

    def _keep(self, run: Run, folder: str) -> None:
        files = take(find([folder]), self.yard.datasets.store, self.yard.seen)
        tree = store_tree(files.tree, self.yard.datasets.store)
        self.yard.runs.adopt(run, files.tree.digest, tree, files.tree.chunks())


def _described(one: RegisteredVersion) -> dict[str, str]:
    """What MLflow says of a version, as tags."""
    said = {
        "mlflow.run_id": one.run_id,
        "mlflow.stage": one.stage,
        "mlflow.description": one.description,
        "mlflow.model_description": one.model_description,
    }
    return {name: text for name, text in said.items() if text} | dict(one.model_tags) | dict(one.tags)


def _aliases_of(one: RegisteredVersion) -> Iterator[str]:
    yield from one.aliases
    if one.stage in ("Staging", "Production"):
        yield one.stage.lower()


def _safe_name(name: str) -> str:
    """A name of MLflow as one of ours.

    >>> _safe_name("Ad clicks (EU)"), _safe_name("/Users/me/churn")
    ('Ad-clicks-EU', 'Users-me-churn')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:128] or "mlflow"


def _state(tracked: TrackedRun) -> str:
    files = (
        [] if tracked.artifacts is None else [(name, path.stat().st_size) for name, path in _files(tracked.artifacts)]
    )
    parts = {
        "outcome": [tracked.status, tracked.ended],
        "params": tracked.params,
        "metrics": {name: [(p.at, p.step, repr(p.value)) for p in points] for name, points in tracked.metrics.items()},
        "tags": tracked.tags,
        "artefacts": files,
    }
    encoded = {name: msgspec.json.encode(part, order="deterministic") for name, part in parts.items()}
    return " ".join(f"{name}:{blake3(raw).hexdigest()[:12]}" for name, raw in encoded.items())


def _changed(before: str, now: str) -> str:
    """Which parts of a state differ.

    >>> _changed("params:ab tags:cd", "params:ab tags:ef")
    'tags changed in MLflow since it was taken in'
    """
    old = dict(part.split(":", 1) for part in before.split() if ":" in part)
    differing = [
        part.partition(":")[0] for part in now.split() if old.get(part.partition(":")[0]) != part.partition(":")[2]
    ]
    return f"{', '.join(differing)} changed in MLflow since it was taken in" if differing else ""


def _record(tracked: TrackedRun, state: str) -> Run:
    """A run of MLflow as one of ours. What MLflow does not know (machine, environment, files read) stays unknown."""
    tags = {name: text for name, text in tracked.tags.items() if name not in _NOT_TAGS}
    remote = tracked.tags.get("mlflow.source.git.repoURL")
    ended = tracked.started if tracked.ended is None else tracked.ended
    return Run(
        id="",
        name=_safe_name(tracked.experiment),
        started_at=datetime.fromtimestamp(tracked.started / 1000, UTC),
        by=tracked.user[:256],
        command=shown_command((tracked.source,)) if tracked.source else (),
        code=CodeState(
            commit=tracked.commit or None,
            branch=tracked.tags.get("mlflow.source.git.branch"),
            remote=without_credentials(remote) if remote else None,
        ),
        machine=Machine("", "", "", 0),
        process=Process(0, 0, "", ""),
        settings={},
        data=DataUse(watched="not watched"),
        outcome=Outcome(_STATES.get(tracked.status, "lost")),
        seconds=None if tracked.ended is None else max(0.0, (ended - tracked.started) / 1000),
        params=dict(tracked.params),
        metrics={name: summary(points) for name, points in tracked.metrics.items() if points},
        tags={"mlflow.runName": tracked.name, **tags, STATE_TAG: state},
        note=tracked.tags.get("mlflow.note.content", ""),
        notes=tuple(notes_of(tracked)),
    )


_NOT_TAGS = {"mlflow.note.content", "mlflow.log-model.history", "mlflow.loggedArtifacts"}


def notes_of(tracked: TrackedRun) -> Iterator[str]:
    """What is known of a run's inputs, and what could not be had."""
    for one in tracked.inputs:
        context = f" for {one.context}" if one.context else ""
        kind = f", a source of the kind {one.source_type}" if one.source_type else ""
        yield f"it read the dataset {one.name}{context} (digest {one.digest} in MLflow{kind})"
    if tracked.unreached:
        yield f"its artefacts at {tracked.unreached} could not be reached"


def summary(points: Sequence[Point]) -> Metric:
    """Last, least, most and count of a metric."""
    numbers = [point.value for point in points if point.value == point.value] or [float("nan")]
    last = max(points, key=lambda point: (point.step, point.at))
    return Metric(last.value, min(numbers), max(numbers), len(points), last.step)


def _put_files(tracked: TrackedRun, run: Run, folder: Path) -> Iterable[str]:
    """Artefacts as links to where they lie (their files were looked at one by one), series of metrics, the record."""
    named: list[str] = []
    if tracked.artifacts is not None and any(True for _ in _files(tracked.artifacts)):
        named += [name for name, _ in _files(tracked.artifacts)]
        (folder / "artifacts").symlink_to(tracked.artifacts.resolve())
    for model in tracked.models:
        if model.folder is not None and model.id and any(True for _ in _files(model.folder)):
            (folder / "models").mkdir(exist_ok=True)
            (folder / "models" / model.id).symlink_to(model.folder.resolve())
    lines = [json.dumps(line) for line in metric_lines(tracked.metrics)]
    if lines:
        (folder / "metrics.jsonl.gz").write_bytes(gzip.compress("\n".join([*lines, ""]).encode(), mtime=0))
    (folder / "run.json").write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")
    return named[:_MOST_NAMED]


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    return iter(sorted(plain_files(folder)))


def metric_lines(metrics: Mapping[str, Sequence[Point]]) -> Iterator[dict[str, object]]:
    """Metrics as a run's own file has them: one line a time and step, in order."""
    grouped: dict[tuple[int, int], dict[str, float]] = {}
    for name, points in metrics.items():
        for point in points:
            grouped.setdefault((point.at, point.step), {})[name] = point.value
    for (at, step), values in sorted(grouped.items()):
        yield {"at": at / 1000, "step": step, "values": values}
