"""What all scenarios share: the models, the servers chosen, how long to measure, and the report."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.serving.forms import Form
from benchmarks.serving.load import Load, Result
from benchmarks.serving.models import Model, batches, trained
from benchmarks.serving.peers import Peer
from benchmarks.serving.processes import NotStarted
from benchmarks.serving.report import Measured, Report, divided
from benchmarks.serving.servers import Running, Server, serving, wrong_answers


@dataclass(frozen=True)
class Drive:
    """One load on one server. `wrong` counts answers that differ from training's among those kept."""

    result: Result
    cpu_us: float
    wrong: int

    @property
    def failed(self) -> int:
        """Wrong answers, and requests without a good one."""
        return self.result.failed + self.wrong


@dataclass(frozen=True)
class Contender:
    """A running server, asked in one form."""

    name: str
    running: Running
    form: Form


@dataclass
class Bench:
    """One run of the benchmark.

    Args:
        folder: For models and what servers write.
        models: Names of the models to measure.
        peers: Whom to measure ours beside.
        seconds: How long each load is counted.
        rounds: How often all servers are driven, in turn.
    """

    folder: Path
    models: Sequence[str]
    peers: Sequence[Peer]
    seconds: float
    rounds: int
    report: Report = field(default_factory=Report)
    _trained: dict[str, Model] = field(default_factory=dict)

    def say(self, what: str) -> None:
        """Tell how far it is."""
        print(what, file=sys.stderr, flush=True)

    def model(self, name: str) -> Model:
        """A trained model."""
        if name not in self._trained:
            self._trained[name] = trained(name, self.folder / "models")
        return self._trained[name]

    @contextlib.contextmanager
    def running(self, servers: Sequence[Server], model: Model) -> Iterator[list[Running]]:
        """Those of the servers that come up, all at the same time; the others are told with the reason."""
        folder = self.folder / model.name.replace(" ", "-")
        with contextlib.ExitStack() as stack:
            up = []
            for server in servers:
                try:
                    up.append(stack.enter_context(serving(server, model, folder)))
                except NotStarted as problem:
                    self.left_out(f"{server.name}, {model.name}", problem)
            yield up

    def left_out(self, name: str, problem: Exception) -> None:
        """Tell in the report what was not measured, and why."""
        self.report.missing[name] = str(problem) or type(problem).__name__
        self.say(f"  {name}: {problem}")

    def drive(
        self,
        contender: Contender,
        size: int,
        *,
        connections: int = 16,
        rate: float = 0.0,
        late: float = 3600.0,
        seconds: float | None = None,
    ) -> Drive:
        """Load one server with requests of `size` rows and check its answers."""
        running = contender.running
        chosen = batches(len(running.model.rows), size)
        messages = [contender.form.message([running.model.rows[at] for at in batch]) for batch in chosen]
        before = running.process.cpu_seconds()
        seconds = seconds or self.seconds
        result = Load(running.port, messages, connections=connections, rate=rate, late=late, seconds=seconds).result()
        spent = running.process.cpu_seconds() - before
        wrong = 0
        if running.server.kind != "floor":
            wrong = wrong_answers(contender.form, running.model, chosen, result.answers)
        return Drive(result, divided(spent * 1e6, result.all_answered), wrong)

    def race(self, scenario: str, contenders: Sequence[Contender], size: int) -> dict[str, list[Drive]]:
        """Drive all in turn, several rounds, and put the medians into the report."""
        drives: dict[str, list[Drive]] = {contender.name: [] for contender in contenders}
        for _ in range(self.rounds):
            for contender in contenders:
                drives[contender.name].append(self.drive(contender, size))
        for contender in contenders:
            measured = summary(scenario, contender, drives[contender.name])
            self.report.measured.append(measured)
            self.say(f"  {scenario:12} {contender.name:28} {measured.per_second:9,.0f}/s p99 {measured.p99_ms:.2f} ms")
        return drives


def summary(scenario: str, contender: Contender, drives: Sequence[Drive]) -> Measured:
    """Medians over the rounds, and failures of all of them."""
    return Measured(
        scenario,
        contender.running.model.name,
        contender.name,
        median(drive.result.rate for drive in drives),
        median(drive.result.ms(0.5) for drive in drives),
        median(drive.result.ms(0.99) for drive in drives),
        median(drive.cpu_us for drive in drives),
        sum(drive.failed for drive in drives),
    )


def rates(drives: Sequence[Drive]) -> float:
    """Median requests a second; NaN without a round."""
    return median(drive.result.rate for drive in drives) if drives else math.nan


def ratio(drives: Mapping[str, Sequence[Drive]], one: str, other: str) -> float:
    """How many times as many requests a second `one` answers as `other`: the median over the rounds."""
    pairs = zip(drives.get(one, ()), drives.get(other, ()), strict=False)
    ratios = [divided(first.result.rate, second.result.rate) for first, second in pairs]
    return median(ratios) if ratios else math.nan
