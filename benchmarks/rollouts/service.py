"""Updates and rollbacks of every strategy, one after the other, under load: does anybody notice?

Both planes run as ``modelyard up`` starts them, with records, and are asked for rows at half of what they manage.
Before each update is a rest. Calls that were due in an update (from the decision until nothing is left of the version
that goes) are compared with those that were due in the rests, of the same run. Every answer is checked: all its rows
have to come from the version that it names.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.forms import OURS
from benchmarks.serving.load import Answered, Load, read_journal
from benchmarks.serving.models import Model, batches, trained
from benchmarks.serving.processes import ONE_THREAD, Process, start
from benchmarks.serving.servers import OUR_PATHS, PATIENCE, TOLERANCE
from modelyard.control import deployments, rollouts, up
from modelyard.control.deployments import Decision
from modelyard.control.watch import Sighting, judge
from modelyard.domain.desired import CANDIDATE
from modelyard.errors import RolloutNotFound
from modelyard.home import Home
from modelyard.registry import Registry

CHANGES = 200
CONNECTIONS, ROWS = 32, 4
DEPLOYMENT = "bench"
LIMIT = 1.5
"""How many times as long the slowest hundredth of the calls may take during an update."""

REST_SECONDS = 0.75
CAPACITY_SECONDS = 3.0
LOOK_SECONDS = 0.02
UNPROVEN = "both versions belong to the benchmark"

Change: TypeAlias = Callable[["Yard", str], None]


@dataclass
class Yard:
    """Both planes, and the registry they work with."""

    registry: Registry
    port: int
    decided: int = 0
    followed: int = 0

    def roll_back(self, awaited: Callable[[], Decision]) -> None:
        """Decide that the candidate goes, and wait until all workers do as the decision in `awaited` says."""
        self.decided = time.monotonic_ns()
        with contextlib.suppress(RolloutNotFound):  # it was closed a moment before
            rollouts.rollback(self.registry, DEPLOYMENT)
        self.await_(awaited())
        self.followed = time.monotonic_ns()

    def await_(self, decision: Decision) -> None:
        """Wait until the data plane has done it."""
        self._until(lambda seen: judge(decision, seen).state == "done", f"{decision}")

    def await_gone(self) -> None:
        """Wait until nothing is left of the candidate."""
        self._until(lambda seen: seen.find(DEPLOYMENT + CANDIDATE) is None, "the candidate is gone")

    def await_closed(self) -> None:
        """Wait until the control plane has closed the promotion."""
        self._until(lambda _: not rollouts.shown(self.registry, DEPLOYMENT).is_live, "the promotion is closed")

    def _until(self, condition: Callable[[Sighting], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition(seen := self._look()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"it did not happen in {PATIENCE:.0f} s: {what}; there is {seen}")
            time.sleep(LOOK_SECONDS)

    def _look(self) -> Sighting:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/status")
            return msgspec.json.decode(connection.getresponse().read(), type=Sighting)


def _replace(yard: Yard, ref: str) -> None:
    yard.await_(deployments.deploy(yard.registry, ref, DEPLOYMENT, UNPROVEN))


def _begin(yard: Yard, ref: str, strategy: rollouts.Strategy) -> None:
    yard.await_(rollouts.begin(yard.registry, ref, DEPLOYMENT, strategy, override_reason=UNPROVEN).awaited())


def _promote(strategy: rollouts.Strategy) -> Change:
    def change(yard: Yard, ref: str) -> None:
        _begin(yard, ref, strategy)
        yard.await_(rollouts.promote(yard.registry, DEPLOYMENT).awaited())
        yard.await_closed()
        yard.await_gone()

    return change


def _roll_back(strategy: rollouts.Strategy) -> Change:
    def change(yard: Yard, ref: str) -> None:
        _begin(yard, ref, strategy)
        yard.roll_back(lambda: rollouts.shown(yard.registry, DEPLOYMENT).awaited())
        yard.await_gone()

    return change


def _regret(strategy: rollouts.Strategy) -> Change:
    """Rolled back when the promotion has begun: the old version comes back to a place that it may have left."""

    def change(yard: Yard, ref: str) -> None:
        _begin(yard, ref, strategy)
        rollouts.promote(yard.registry, DEPLOYMENT)
        yard.roll_back(lambda: deployments.history(yard.registry, DEPLOYMENT)[-1])
        yard.await_gone()

    return change


CHANGES_OF: dict[str, Change] = {
    "replace": _replace,
    "canary, rolled back": _roll_back("canary"),
    "ab, promoted": _promote("ab"),
    "ab, rolled back": _roll_back("ab"),
    "blue-green, promoted": _promote("blue-green"),
    "blue-green, rolled back": _roll_back("blue-green"),
    "blue-green, rolled back late": _regret("blue-green"),
    "shadow, promoted": _promote("shadow"),
    "shadow, rolled back": _roll_back("shadow"),
}


@dataclass(frozen=True)
class Span:
    """A stretch of time (``time.monotonic_ns()``): a rest, or one change of the named kind."""

    kind: str
    begun: int
    ended: int
    leaving: int = 0
    """The version that was taken back, where one was; `decided` is when, and `followed` when all workers did so."""
    decided: int = 0
    followed: int = 0


@dataclass
class Back:
    """How soon a decision to roll back was carried out, in seconds from just before it was stored.

    `followed` until all workers were seen to follow it, `last` until the last call was sent that the version answered
    which had to go (0 where none was).
    """

    times: int
    followed_median: float
    followed_most: float
    last_median: float
    last_most: float

    def as_text(self) -> str:
        """In a line."""
        return (
            f"{self.times} decisions to roll back: all workers follow after {self.followed_median:.2f} s (median), "
            f"{self.followed_most:.2f} s (most); the last call that the version answered which had to go was sent "
            f"{self.last_median:.2f} s, {self.last_most:.2f} s after the decision"
        )


@dataclass
class Row:
    """One kind of change: latencies in milliseconds, of calls due in the rests before and during the changes."""

    kind: str
    changes: int
    seconds: float
    calls: int
    failed: int
    mixed: int
    p50_before: float
    p99_before: float
    p50_during: float
    p99_during: float

    @property
    def ratio(self) -> float:
        """How many times as long the slowest hundredth takes."""
        return self.p99_during / self.p99_before


_HEADS = {"change": 29, "times": 5, "seconds": 7, "calls": 8, "failed": 6, "mixed": 6}
_HEADS |= {"p50 before": 10, "p50 during": 10, "p99 before": 10, "p99 during": 10, "ratio": 5}


@dataclass
class Found:
    """What a run came to. `lost` are requests without an answer."""

    capacity: float
    rate: float
    seconds: float
    lost: int
    rows: list[Row] = field(default_factory=list)
    back: Back | None = None

    def as_json(self) -> dict[str, Any]:
        """As a document."""
        rows = [asdict(row) | {"ratio": row.ratio} for row in self.rows]
        return {**asdict(self), "rows": rows}

    def as_text(self) -> str:
        """As a table; its last row is about all changes."""
        lines = [
            f"{self.rate:,.0f} calls of {ROWS} rows a second, of {self.capacity:,.0f} that are answered; "
            f"{self.seconds:.0f} s; {self.lost} calls lost; milliseconds",
            " ".join(head.rjust(width) for head, width in _HEADS.items()),
        ]
        for row in self.rows:
            values = (row.p50_before, row.p50_during, row.p99_before, row.p99_during, row.ratio)
            facts = [row.kind, f"{row.changes}", f"{row.seconds:.2f}", f"{row.calls:,}", f"{row.failed}"]
            facts += [f"{row.mixed}", *(f"{value:.2f}" for value in values)]
            lines.append(" ".join(text.rjust(width) for text, width in zip(facts, _HEADS.values(), strict=True)))
        if self.back is not None:
            lines.append(self.back.as_text())
        return "\n".join(lines)


def measure(folder: Path, changes: int = CHANGES, kinds: Sequence[str] = tuple(CHANGES_OF)) -> Found:
    """Make that many changes, of the kinds in turn, under load."""
    models = [trained("logistic", folder / "models"), trained("logistic", folder / "other", seed=8)]
    home = Home(folder / "home").create()
    with Registry.open(home) as registry:
        refs = [registry.register(model.bundle("onnx")).ref for model in models]
        with _both_planes(home) as port:
            yard = Yard(registry, port)
            yard.await_(deployments.deploy(registry, refs[0], DEPLOYMENT, UNPROVEN))
            return _measure(yard, models, refs, folder / "journal", [*islice(cycle(kinds), changes)])


@contextlib.contextmanager
def _both_planes(home: Home) -> Iterator[int]:
    command = [sys.executable, "-m", "modelyard.cli.app", "up", "--port", "0", "--json"]
    process: Process = start(command, home.path / "up", {**ONE_THREAD, **OUR_PATHS, "MODELYARD_HOME": str(home.path)})
    try:
        deadline = time.monotonic() + PATIENCE
        while (there := up.running(home)) is None:
            if process.root.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"modelyard up does not come up: {process.tail()}")
            time.sleep(0.05)
        yield int(there.data.url.rpartition(":")[2])
    finally:
        process.end()


def _measure(yard: Yard, models: Sequence[Model], refs: Sequence[str], journal: Path, kinds: Sequence[str]) -> Found:
    rows, chosen = models[0].rows, batches(len(models[0].rows), ROWS)
    messages = [OURS.message([rows[at] for at in batch]) for batch in chosen]
    closed = Load(yard.port, messages, seconds=CAPACITY_SECONDS).result()
    load = Load(
        yard.port, messages, connections=CONNECTIONS, seconds=24 * 3600.0, rate=closed.rate / 2, journal=journal
    )
    try:
        spans = [*_changes(yard, refs, kinds)]
    finally:
        result = load.stop()
    versions = [int(ref.rpartition("@")[2]) for ref in refs]
    expected = {one: np.array(model.answers_to(rows))[chosen] for one, model in zip(versions, models, strict=True)}
    calls = _Calls.of(read_journal(journal), expected)
    lost = sum(result.lost.values()) + result.unfinished + result.skipped
    found = Found(closed.rate, closed.rate / 2, result.seconds, lost)
    found.rows = [_row(kind, spans, calls) for kind in dict.fromkeys(kinds)] + [_row("", spans, calls)]
    found.back = _back(spans, calls)
    return found


def _changes(yard: Yard, refs: Sequence[str], kinds: Sequence[str]) -> Iterator[Span]:
    for number, kind in enumerate(kinds, 1):
        rested = time.monotonic_ns()
        time.sleep(REST_SECONDS)
        answering = deployments.in_force(yard.registry)[0].version
        other = next(ref for ref in refs if not ref.endswith(f"@{answering}"))
        begun = time.monotonic_ns()
        CHANGES_OF[kind](yard, other)
        ended = time.monotonic_ns()
        yield Span("", rested, begun)
        is_back = yard.decided > begun
        back = (int(other.rpartition("@")[2]), yard.decided, yard.followed) if is_back else ()
        yield Span(kind, begun, ended, *back)
        if number % 20 == 0:
            print(f"{number} of {len(kinds)} updates and rollbacks", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class _Calls:
    """All calls: when each was due, in how many milliseconds it was answered, and how."""

    due: NDArray[np.int64]
    ms: NDArray[np.float64]
    failed: NDArray[np.bool_]
    mixed: NDArray[np.bool_]
    version: NDArray[np.int64]

    @classmethod
    def of(cls, answers: Iterator[Answered], expected: dict[int, NDArray[np.float64]]) -> _Calls:
        found = []
        for one in answers:
            version, right = _said(one, expected) if one.status == 200 else (0, True)
            found.append((one.due, (one.ended - one.due) / 1e6, one.status != 200, not right, version))
        due, ms, failed, mixed, versions = zip(*found, strict=True)
        return cls(np.array(due), np.array(ms), np.array(failed), np.array(mixed), np.array(versions))

    def within(self, spans: Sequence[Span]) -> NDArray[np.bool_]:
        chosen = np.zeros(len(self.due), bool)
        for span in spans:
            chosen |= (self.due >= span.begun) & (self.due < span.ended)
        return chosen


class _Said(msgspec.Struct):
    predict_proba: dict[str, float]


class _Body(msgspec.Struct):
    version: int
    rows: list[_Said]


_BODIES = msgspec.json.Decoder(_Body)


def _said(answered: Answered, expected: dict[int, NDArray[np.float64]]) -> tuple[int, bool]:
    """The version that an answer names, and whether every row is answered as that version does."""
    body = _BODIES.decode(answered.content.partition(b"\r\n\r\n")[2])
    wanted = expected[body.version][answered.message].tolist()
    said = [row.predict_proba["1"] for row in body.rows]
    right = len(said) == len(wanted) and all(
        abs(one - other) <= TOLERANCE for one, other in zip(said, wanted, strict=True)
    )
    return body.version, right


def _back(spans: Sequence[Span], calls: _Calls) -> Back | None:
    """How soon versions were taken back; None where none was."""
    followed, last = [], []
    for span in spans:
        if span.leaving:
            after = (calls.version == span.leaving) & (calls.due >= span.decided) & (calls.due < span.ended)
            last.append((int(calls.due[after].max()) - span.decided) / 1e9 if after.any() else 0.0)
            followed.append((span.followed - span.decided) / 1e9)
    return Back(len(last), median(followed), max(followed), median(last), max(last)) if last else None


def _row(kind: str, spans: Sequence[Span], calls: _Calls) -> Row:
    """One kind of change, or all with an empty name."""
    pairs = [(rest, span) for rest, span in zip(spans[::2], spans[1::2], strict=True) if kind in ("", span.kind)]
    before, during = (calls.within([pair[at] for pair in pairs]) for at in (0, 1))
    whole = before | during
    return Row(
        kind or "all",
        len(pairs),
        median((span.ended - span.begun) / 1e9 for _, span in pairs),
        int(whole.sum()),
        int(calls.failed[whole].sum()),
        int(calls.mixed[whole].sum()),
        *(_quantile(calls.ms[part], share) for part in (before, during) for share in (0.5, 0.99)),
    )


def _quantile(ms: NDArray[np.float64], share: float) -> float:
    return float(np.quantile(ms, share)) if len(ms) else math.nan


def main(folder: Path, changes: int, *, as_json: bool) -> bool:
    """Measure and print; whether nothing failed, nothing was mixed, and the slowest calls were not much slower."""
    found = measure(folder, changes)
    print(json.dumps(found.as_json(), indent=2) if as_json else found.as_text())
    every = found.rows[-1]
    return not (every.failed or every.mixed or found.lost) and every.ratio <= LIMIT
