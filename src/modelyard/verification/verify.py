"""One verification: its stages in order, each ending in a report whatever happens."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

from modelyard.bundle import environment, ready_golden
from modelyard.bundle.layout import Bundle, open_bundle
from modelyard.bundle.parity import Mode, Predict, replay
from modelyard.bundle.runtimes import open_compiled, open_native
from modelyard.domain.compare import SHOWN, pick
from modelyard.domain.golden import GoldenSet
from modelyard.domain.parity import ParityReport, Stage, StageReport
from modelyard.errors import BundleRefused, ModelyardError
from modelyard.home import Home
from modelyard.verification.bulk import fits_csv, through_files
from modelyard.verification.facts import host_facts
from modelyard.verification.wire import ServerUnderTest, as_json_has_it
from modelyard.verification.worktree import moved_on

Progress: TypeAlias = Callable[[str], None]
"""Is told in a few words what is being done."""

OnStage: TypeAlias = Callable[[StageReport], None]
"""Gets the report of each stage as soon as it is over."""


def verify(
    bundle: Bundle | Path,
    ref: str,
    *,
    home: Home | Path | str | None = None,
    digest: str | None = None,
    overrides: Sequence[str] = (),
    python: Path | None = None,
    work: Path | None = None,
    progress: Progress | None = None,
    on_stage: OnStage | None = None,
) -> ParityReport:
    """Find out whether a version answers as training did, everywhere it will be used.

    The bundle's files are compared with their digests; its environment is rebuilt in a clean folder and compared with
    the one written down; the golden set is replayed with the compiled form in this process, with the native form in the
    rebuilt environment, through HTTP on the real server one row at a time and in batches, and through files in bulk.
    A stage that cannot be carried out fails with the reason; nothing is raised for it.

    Args:
        bundle: The version's bundle, or the folder of one.
        ref: What to call it in the report.
        home: Where rebuilt environments are made; see `Home.locate`.
        digest: What the bundle must hash to, as the registry recorded it.
        overrides: Packages to exchange in the rebuilt environment (``name==version``): a what-if run, never a proof.
        python: Use the environment of this interpreter, compared all the same, instead of rebuilding one.
        work: The user's working tree, to note packed modules that were edited there; None: the current folder.
        progress: Is told what is being done.
        on_stage: Gets each stage's report when it is over.

    Raises:
        InvalidRequest: an override is malformed or not in the environment.
    """
    say, tell = progress or (lambda words: None), on_stage or (lambda report: None)
    folder = bundle if isinstance(bundle, Path) else bundle.path
    expected = digest or (None if isinstance(bundle, Path) else bundle.digest)
    say("comparing every file with its digest")
    opened, integrity = _integrity(folder, expected, work or Path.cwd())
    tell(integrity)
    if opened is None:
        return ParityReport(ref, expected or "", "", False, (integrity,), overrides=tuple(overrides))
    environment.overridden(opened.manifest.environment, overrides)
    place = Home.locate(home)
    with _clean_folder(place) as clean:
        run = _Run(opened, clean, place, tuple(overrides), python, say, tell)
        stages = (integrity, *run.stages())
        passed = all(stage.passed for stage in stages)
        run.settle(passed)
    facts = host_facts(opened.manifest.environment)
    return ParityReport(ref, opened.digest, opened.manifest.runtime, passed, stages, facts, tuple(overrides))


def _integrity(folder: Path, digest: str | None, work: Path) -> tuple[Bundle | None, StageReport]:
    started = time.perf_counter()
    try:
        bundle = open_bundle(folder, expect_digest=digest)
        golden = bundle.golden()
    except (BundleRefused, OSError) as error:
        return None, StageReport("integrity", False, reason=str(error), seconds=time.perf_counter() - started)
    notes = moved_on(bundle, work)
    rows, seconds = golden.inputs.rows, time.perf_counter() - started
    return bundle, StageReport("integrity", True, rows=rows, notes=notes, seconds=seconds)


@contextmanager
def _clean_folder(home: Home) -> Iterator[Path]:
    """A new folder on the same disk as the environments, so that packages can be linked instead of copied.

    What verifications that were killed have left behind is cleared away: nobody holds the lock of such a folder.
    """
    parent = home.create().environments
    for left in parent.glob(f"{_PREFIX}*.held"):
        with left.open("w") as handle, suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _clear(left.with_suffix(""))
    folder = parent / f"{_PREFIX}{uuid4().hex[:12]}"
    with folder.with_suffix(".held").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        folder.mkdir()
        try:
            yield folder
        finally:
            _clear(folder)


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".held").unlink(missing_ok=True)


_PREFIX = "verify-"
_ENVIRONMENT = "environment"


@dataclass(slots=True)
class _Run:
    """The stages after integrity, sharing the opened bundle and the rebuilt environment."""

    bundle: Bundle
    clean: Path
    home: Home
    overrides: tuple[str, ...]
    python: Path | None
    say: Progress
    tell: OnStage
    golden: GoldenSet = field(init=False)
    kept: Path | None = None
    """The new environment, where it was made in the place that serving will look in."""

    def __post_init__(self) -> None:
        self.golden = ready_golden.keep(self.bundle, self.home)

    def settle(self, passed: bool) -> None:
        """A new environment that proved itself stays for serving; one that did not goes."""
        if self.kept is not None and not passed:
            environment.discard(self.kept)

    def stages(self) -> tuple[StageReport, ...]:
        """Carry out all stages that this version has."""
        manifest = self.bundle.manifest
        done: list[StageReport] = []
        with ExitStack() as parts:
            if manifest.runtime == "onnx":  # it needs no environment, so it can load while that is rebuilt
                server = parts.enter_context(self._server())
                done.append(self._stage("in process", self._in_process))
            has_environment = manifest.native is not None and manifest.native.format != "onnx"
            if has_environment or manifest.runtime == "python":
                done.append(self._stage("environment", self._environment))
            if manifest.runtime == "python":
                if self.python is None:
                    return (*done, *self._without_environment())
                server = parts.enter_context(self._server())
            if has_environment or manifest.runtime == "python":
                done.append(self._stage("rebuilt", self._rebuilt))
            done.append(self._stage("http single", lambda stage: self._http_single(stage, server)))
            done.append(self._stage("http batch", lambda stage: self._http_batch(stage, server)))
        done.append(self._stage("bulk", self._bulk))
        return tuple(sorted(done, key=lambda report: _ORDER.index(report.stage)))

    def _stage(self, stage: Stage, carry_out: Callable[[Stage], StageReport]) -> StageReport:
        started = time.perf_counter()
        try:
            report = carry_out(stage)
        except ModelyardError as error:
            report = StageReport(stage, False, reason=str(error))
        report = self._blamed(replace(report, seconds=time.perf_counter() - started))
        self.tell(report)
        return report

    def _blamed(self, report: StageReport) -> StageReport:
        """In a what-if run, a failure names what was exchanged."""
        if report.passed or not self.overrides or self.python is None or report.stage == "environment":
            return report
        remarks = environment.remarks(self.bundle.manifest.environment, self.python, overrides=self.overrides)
        return replace(report, reason="; ".join([report.reason, *remarks]))

    def _without_environment(self) -> Iterator[StageReport]:
        for stage in ("rebuilt", "http single", "http batch", "bulk"):
            report = StageReport(stage, False, reason="not tried: the environment could not be rebuilt")
            self.tell(report)
            yield report

    def _environment(self, stage: Stage) -> StageReport:
        locked = self.bundle.manifest.environment
        notes = list[str]()
        if self.python is None:
            directory = self._new_folder()
            self.python = environment.rebuild(
                locked, directory, overrides=self.overrides, progress=self.say, wheels=self.home.wheels
            )
        else:
            notes.append("an environment was given, none was rebuilt")
        self.say("comparing the environment with the one written down")
        found = environment.differences(locked, self.python, overrides=self.overrides)
        if not found and not self.overrides and self.python.is_relative_to(self.clean):
            known = environment.place_of(locked, self.home)
            environment.share_bytecode(known, self.clean / _ENVIRONMENT)
        notes += environment.remarks(locked, self.python, overrides=self.overrides)
        count = len(locked.distributions)
        return StageReport(stage, not found, rows=count, reason="; ".join(found), notes=tuple(notes))

    def _new_folder(self) -> Path:
        """Where to rebuild: where serving will look, if nothing is there yet, so that it need not be done twice."""
        place = environment.place_of(self.bundle.manifest.environment, self.home)
        if self.overrides or place.exists():
            return self.clean / _ENVIRONMENT
        self.kept = place
        return place

    def _in_process(self, stage: Stage) -> StageReport:
        self.say("replaying with the compiled form in this process")
        runtime = open_compiled(self.bundle)
        try:
            return self._both(runtime.predict, stage)
        finally:
            runtime.close()

    def _rebuilt(self, stage: Stage) -> StageReport:
        self.say("replaying with the native form in the rebuilt environment")
        if self.python is None:
            return StageReport(stage, False, reason="not tried: the environment could not be rebuilt")
        runtime = open_native(self.bundle, self.python)
        try:
            return self._both(runtime.predict, stage)
        finally:
            runtime.close()

    def _server(self) -> ServerUnderTest:
        own = self.python if self.bundle.manifest.runtime == "python" else None
        return ServerUnderTest(self.bundle, self.clean / "server", own)

    def _http_single(self, stage: Stage, server: ServerUnderTest) -> StageReport:
        self.say("starting the server")
        server.wait_ready()
        self.say("replaying over HTTP, one row at a time")
        return self._replay(server.ask_rows, "single", stage, as_json_has_it(self.golden), checked=False)

    def _http_batch(self, stage: Stage, server: ServerUnderTest) -> StageReport:
        server.wait_ready()
        self.say("replaying over HTTP, in batches")
        as_rows = self._replay(server.ask_rows, "batch", stage, as_json_has_it(self.golden), checked=False)
        as_tensors = self._replay(server.ask_protocol, "batch", stage, self.golden, checked=False)
        return joined([as_rows, as_tensors])

    def _bulk(self, stage: Stage) -> StageReport:
        self.say("scoring the golden rows from files")
        native = self.bundle.manifest.runtime == "python"
        if native and self.python is None:
            return StageReport(stage, False, reason="not tried: the environment could not be rebuilt")
        runtime = open_native(self.bundle, self.python) if native and self.python else open_compiled(self.bundle)
        schema = self.bundle.manifest.schema
        try:
            parts, notes = list[StageReport](), list[str]()
            for ending in ("parquet", "csv"):
                if ending == "csv" and not fits_csv(schema):
                    notes.append("not as CSV: it has no cells for arrays")
                    continue
                ask = through_files(runtime.predict, schema, self.clean / "bulk", ending)
                parts.append(self._replay(ask, "batch", stage, self.golden, checked=False))
                parts.append(self._replay(ask, "single", stage, only_refused(self.golden), checked=False))
            return replace(joined(parts), notes=tuple(notes))
        finally:
            runtime.close()

    def _both(self, predict: Predict, stage: Stage) -> StageReport:
        modes: tuple[Mode, ...] = ("single", "batch")
        return joined([self._replay(predict, mode, stage, self.golden) for mode in modes])

    def _replay(
        self, predict: Predict, mode: Mode, stage: Stage, golden: GoldenSet, *, checked: bool = True
    ) -> StageReport:
        manifest = self.bundle.manifest
        return replay(predict, golden, manifest.schema, manifest.tolerance, mode, stage, checked=checked)


_ORDER: tuple[Stage, ...] = (
    "integrity",
    "environment",
    "in process",
    "rebuilt",
    "http single",
    "http batch",
    "bulk",
)


def only_refused(golden: GoldenSet) -> GoldenSet:
    """The rows that must be refused."""
    rows = [row for row, reason in enumerate(golden.refused) if reason is not None]
    return GoldenSet(
        golden.inputs.take(rows),
        tuple(golden.origins[row] for row in rows),
        tuple(golden.refused[row] for row in rows),
        pick(golden.single, rows),
        pick(golden.batch, rows),
    )


def joined(parts: Sequence[StageReport]) -> StageReport:
    """Several replays of one stage as one: it passes if all do, and says why the first that does not."""
    first_bad = next((part for part in parts if not part.passed), parts[0])
    return StageReport(
        parts[0].stage,
        passed=all(part.passed for part in parts),
        rows=sum(part.rows for part in parts),
        largest_abs=max(part.largest_abs for part in parts),
        largest_rel=max(part.largest_rel for part in parts),
        largest_ulp=max(part.largest_ulp for part in parts),
        flips=sum(part.flips for part in parts),
        excused=sum(part.excused for part in parts),
        refused=sum(part.refused for part in parts),
        mismatched=sum(part.mismatched for part in parts),
        mismatches=tuple(one for part in parts for one in part.mismatches)[:SHOWN],
        reason=first_bad.reason,
        notes=tuple(note for part in parts for note in part.notes),
        seconds=sum(part.seconds for part in parts),
    )
