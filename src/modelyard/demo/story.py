"""The whole story on the flights: train, pack, verify, deploy, stream the year beside its twin, watch, update."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console

from modelyard.demo.telling import FIRST_LIVE_DAY, MODEL, TWIN, step
from modelyard.errors import Conflict, Failed, ParityFailed

if TYPE_CHECKING:
    import pandas as pd

    from modelyard.control.up import Running
    from modelyard.demo.live import Streams, Years
    from modelyard.demo.updates import Retraining, Updates, Yard
    from modelyard.demo.watching import Watched
    from modelyard.domain.parity import ParityReport
    from modelyard.domain.reproduction import Reproduction
    from modelyard.home import Home
    from modelyard.registry import Registry, Version

MARKER = ".modelyard-demo"
PROJECT = "project"

AGAIN, MISTAKE, SHORT = "2013-07-01", "2013-08-01", "2013-11-15"
"""When the model is trained again, when a harmful version comes, and when one is trained on a few days only."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What the demo prints at the end. Latencies in milliseconds, as the client saw them."""

    dataset: str
    run: str
    metrics: dict[str, float]
    version: str
    digest: str
    runtime: str
    trained_on: int
    parity: ParityReport
    reproduction: str
    requests: int
    failed: int
    first_error: str | None
    latency_p50_ms: float
    latency_p99_ms: float
    flights_a_second: float
    records: int
    labels: int
    flights: int
    watched: Watched
    twin: Watched
    updates: Updates | None
    """None where too few weeks were sent for them."""
    lineage: tuple[str, ...]
    addresses: dict[str, str]
    seconds: float


def fresh_home(home: Path) -> Path:
    """An empty home for the demo: what an earlier demo left at `home` is removed, anything else is refused.

    Raises:
        Conflict: when the folder holds something that no demo wrote.
    """
    if home.exists() and any(home.iterdir()):
        if not (home / MARKER).exists():
            raise Conflict(f"{home} holds something else; name an empty folder with --home")
        shutil.rmtree(home)
    home.mkdir(parents=True, exist_ok=True)
    (home / MARKER).touch()
    return home


def snapshot(past: pd.DataFrame, home: Home, console: Console) -> str:
    """Make a project beside the registry: the training program and its data, which becomes ``flights@1``."""
    from modelyard import data
    from modelyard.demo import training

    project = home.path / PROJECT
    (project / "data").mkdir(parents=True)
    shutil.copyfile(training.__file__, project / "train.py")
    past.to_parquet(project / training.DATA)
    with step(console, "make a version of the data") as said:
        made = data.snapshot(project / training.DATA, "flights", key=["flight_id"], home=home)
        said.append(f"{made.ref}, {len(past)} flights, {made.version.bytes / 1e6:.1f} MB")
    return made.ref


@dataclass(frozen=True, slots=True)
class Trained:
    """A recorded run of the training program, and the version that it made."""

    id: str
    made: str
    metrics: dict[str, float]


def trained(home: Home, dataset: str, console: Console) -> Trained:
    """Run the training program as a recorded run, as a user would.

    Raises:
        Failed: when the program does.
    """
    command = [sys.executable, "-P", "-m", "modelyard.cli.app", "train", "--data", dataset, "--json", "--"]
    environment = {
        **os.environ,
        "MODELYARD_HOME": str(home.path),
        "GIT_CEILING_DIRECTORIES": str(home.path),  # the project is nobody's repository, wherever the demo is run
    }
    with step(console, "train on January and February, recorded; pack what came of it") as said:
        done = subprocess.run(
            [*command, sys.executable, "train.py"],
            cwd=home.path / PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Failed(f"the training program failed: {done.stderr.strip()[-500:]}")
        run = msgspec.json.decode(done.stdout)["run"]
        metrics = {name: metric["last"] for name, metric in run["metrics"].items()}
        said.append(f"{run['versions'][0]}, AUC {metrics['auc']:.3f} on the last week, held back")
    return Trained(run["id"], run["versions"][0], metrics)


def prove(registry: Registry, version: Version, console: Console) -> ParityReport:
    """Verify `version`, store the report, and stop the story if it does not pass.

    Raises:
        ParityFailed: when any stage of the verification failed.
    """
    from modelyard.verification import verify

    ref = version.ref
    with step(console, f"verify {ref} in a rebuilt environment, over the wire and in bulk") as said:
        report = verify(registry.bundle(version), ref, home=registry.home)
        registry.add_report(version, report)
        rows = sum(stage.rows for stage in report.stages)
        furthest = max(stage.largest_abs for stage in report.stages)
        said.append(f"{len(report.stages)} stages, {rows} answers compared, largest difference {furthest:.1e}")
    if not report.passed:
        reasons = "; ".join(f"{stage.stage}: {stage.reason}" for stage in report.stages if not stage.passed)
        raise ParityFailed(f"{ref} does not give the answers of training: {reasons}")
    return report


def percentiles(latencies: list[float]) -> tuple[float, float]:
    """Median and 99th percentile, in milliseconds, of latencies in seconds.

    >>> percentiles([0.001, 0.001, 0.001])
    (1.0, 1.0)
    """
    if len(latencies) < 2:
        only = latencies[0] * 1e3 if latencies else float("nan")
        return only, only
    return median(latencies) * 1e3, quantiles(latencies, n=100)[98] * 1e3


def look_back(home: Home, console: Console) -> tuple[int, int]:
    """Ask the log with SQL how many records there are, and how many labels."""
    from modelyard.records.query import RecordDatabase

    with step(console, "ask the prediction log with SQL"), RecordDatabase(home.records) as log:
        counts = "SELECT (SELECT count(*) FROM predictions), (SELECT count(*) FROM labels)"
        records, labels = log.query(counts).to_pandas().iloc[0]
        return int(records), int(labels)


def tell(
    home: Home, weeks: int, limit: int | None, port: int, console: Console, done: Callable[[Summary], None]
) -> None:
    """Play the story on an empty `home`, at most `limit` flights; `done` is called while everything is still up."""
    from modelyard.demo import flights as data
    from modelyard.demo.live import Streams, Years, look_on, put_to_work, services
    from modelyard.demo.stream import Traffic, twin
    from modelyard.demo.updates import Yard
    from modelyard.registry import Registry

    begin = perf_counter()
    with step(console, "read the flights of New York, 2013") as said:
        flights = data.load()
        past = data.between(flights, "2013-01-01", FIRST_LIVE_DAY)
        live = data.between(flights, FIRST_LIVE_DAY, _after(weeks)).head(limit or len(flights))
        said.append(f"{len(past)} to train on, {len(live)} to come")
    dataset = snapshot(past, home, console)
    run = trained(home, dataset, console)
    with Registry.open(home) as registry:
        version = registry.version(run.made)
        report = prove(registry, version, console)
        reproduction = train_again(version, home, console)
        with services(home, port, console) as there:
            put_to_work(registry, version, there.data.url, console)
            years = Years(live, twin(past, live))
            with (
                Traffic(years.flights, there.data.url, MODEL) as mine,
                Traffic(years.twin, there.data.url, TWIN) as twins,
            ):
                streams = Streams(registry, mine, twins, console)
                yard = Yard(home, home.path / PROJECT)
                updates = updated(registry, yard, streams, years, console) if _reaches(live, SHORT) else None
                streams.until(None, len(live))
            used = (version.ref, *_promoted(updates))
            flights_watched, twin_watched = look_on(home, registry, years, used, console)
            records, labels = look_back(home, console)
            page, tree = draw_lineage(version, home, console)
            tally = streams.tally
            p50, p99 = percentiles(tally.latencies)
            done(
                Summary(
                    dataset=dataset,
                    run=run.id,
                    metrics=run.metrics,
                    version=version.ref,
                    digest=version.digest,
                    runtime=version.runtime,
                    trained_on=int(past["late"].notna().sum()),
                    parity=report,
                    reproduction=reproduction.verdict,
                    requests=tally.requests,
                    failed=tally.failed,
                    first_error=tally.first_error,
                    latency_p50_ms=p50,
                    latency_p99_ms=p99,
                    flights_a_second=streams.sent / streams.seconds if streams.seconds else 0.0,
                    records=records,
                    labels=labels,
                    flights=tally.flights,
                    watched=flights_watched,
                    twin=twin_watched,
                    updates=updates,
                    lineage=tree,
                    addresses=_addresses(there, page, flights_watched, twin_watched, updates),
                    seconds=perf_counter() - begin,
                )
            )


def updated(registry: Registry, yard: Yard, streams: Streams, years: Years, console: Console) -> Updates:
    """July: trained again for an alert. August: a mistake. November: trained on the last days only.

    Raises:
        Failed: a step of the story cannot be carried out.
    """
    import pandas as pd

    from modelyard.demo import updates
    from modelyard.demo.live import wait_for_monitor
    from modelyard.retraining.turns import Turns

    def send(day: str) -> None:
        streams.until(day, int((years.flights["sched"] < pd.Timestamp(day)).sum()) - streams.flights.tally.flights)

    send(AGAIN)
    wait_for_monitor(registry, pd.Timestamp(AGAIN) - pd.Timedelta(days=1), console)
    yard.plan()
    retrained = updates.retrain(yard, _alerted(registry), pd.Timestamp(AGAIN), console)
    rolled_out = updates.roll_out(yard, registry, streams.flights, console) if _goes_on(retrained) else None
    send(MISTAKE)
    data = Turns(registry.database).get(deployment=MODEL).data
    candidate = updates.spoiled(yard, data.ref if data is not None else "", console)
    prove(registry, registry.version(candidate), console)
    updates.deploy_by_steps(yard, candidate)
    harmful = updates.roll_out(yard, registry, streams.flights, console)
    send(SHORT)
    yard.plan(updates.RETRAIN + updates.SHORT)
    short = updates.retrain(yard, "what is usual now is all that counts", pd.Timestamp(SHORT), console)
    short_out = updates.roll_out(yard, registry, streams.flights, console) if _goes_on(short) else None
    return updates.Updates(retrained, rolled_out, harmful, short, short_out)


def _alerted(registry: Registry) -> str:
    """The alerts that go on, as a reason to train again."""
    from modelyard.monitoring.alerts import Alerts

    there = Alerts(registry.database).listed(MODEL)
    return f"alert {there[-1].id}, {there[-1].title}" if there else "a new quarter"


def _goes_on(found: Retraining) -> bool:
    return found.state == "accepted"


def _promoted(found: Updates | None) -> tuple[str, ...]:
    """Versions that took over, in their order."""
    if found is None:
        return ()
    ways = (found.rolled_out, found.harmful, found.short_rolled_out)
    return tuple(each.candidate for each in ways if each is not None and each.state == "promoted")


def _reaches(flights: pd.DataFrame, day: str) -> bool:
    import pandas as pd

    return bool(len(flights)) and bool(flights["sched"].max() >= pd.Timestamp(day))


def _addresses(there: Running, page: Path, mine: Watched, twin: Watched, found: Updates | None) -> dict[str, str]:
    addresses = {
        "predictions": there.data.url,
        "status": f"{there.data.url}/status",
        "control API": f"{there.control.url}/docs",
        "lineage": str(page),
        "monitoring": mine.report,
        "the twin's": twin.report,
    }
    if found is not None:
        addresses |= {"retraining": found.retrained.report, "declined": found.short.report}
    return addresses


def train_again(version: Version, home: Home, console: Console) -> Reproduction:
    """Rebuild code, data and environment of `version`, train once more, and say how alike the result is."""
    from modelyard.reproducing import reproduce

    with step(console, "train again from the record: same environment, code and data") as said:
        found = reproduce(version.ref, home=home)
        learned, answers = found.learned, found.answers
        if learned is not None and answers is not None:
            said.append(f"{found.verdict}, {learned.parts} parts learned, {answers.rows} answers compared")
    return found


def draw_lineage(version: Version, home: Home, console: Console) -> tuple[Path, tuple[str, ...]]:
    """From the data to the predictions: a page with a picture, and the same as a tree of text."""
    from modelyard.provenance import picture, text
    from modelyard.tracing import lineage

    file = home.path / "lineage.html"
    with step(console, "draw what came of which data, code and run"):
        graph = lineage(version.ref, home=home)
        file.write_text(picture.page(graph), "utf-8")
    return file, tuple(text.lines(graph))


def _after(weeks: int) -> str:
    import pandas as pd

    return f"{pd.Timestamp(FIRST_LIVE_DAY) + pd.Timedelta(weeks=weeks):%Y-%m-%d}"
