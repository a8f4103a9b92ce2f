"""The whole story on the flights: train, pack, verify, serve, deploy, stream, label, look."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, perf_counter, sleep
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console

from modelyard.errors import Conflict, Failed, ParityFailed

if TYPE_CHECKING:
    import pandas as pd

    from modelyard.control.up import Running
    from modelyard.demo.stream import Tally
    from modelyard.domain.parity import ParityReport
    from modelyard.domain.reproduction import Reproduction
    from modelyard.home import Home
    from modelyard.registry import Registry, Version

MODEL = "flights-delay"
MARKER = ".modelyard-demo"
PROJECT = "project"
FIRST_LIVE_DAY = "2013-03-01"
START_SECONDS = 60.0


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
    requests_per_second: float
    records: int
    labels: int
    auc_by_week: dict[str, float]
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


@contextmanager
def step(console: Console, text: str) -> Iterator[list[str]]:
    """Show `text` with a spinner while the block runs, then the time it took and what the block appended."""
    said: list[str] = []
    start = perf_counter()
    with console.status(text):
        yield said
    result = f": {' '.join(said)}" if said else ""
    console.print(f"[green]✓[/] [dim]{perf_counter() - start:6.1f} s[/]  {text}{result}", soft_wrap=True)


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


def auc_by_week(records: pd.DataFrame) -> dict[str, float]:
    """Area under the ROC curve for each week, from columns ``prediction_id``, ``score`` and ``late``."""
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    day = pd.to_datetime(records["prediction_id"].str[:8], format="%Y%m%d")
    week = (day - pd.Timestamp(FIRST_LIVE_DAY)).dt.days // 7
    found = {}
    for number, rows in records.groupby(week):
        start = pd.Timestamp(FIRST_LIVE_DAY) + pd.Timedelta(days=7 * int(str(number)))
        if rows["late"].nunique() == 2:
            found[f"{start:%d %b}"] = float(roc_auc_score(rows["late"], rows["score"]))
    return found


def stream(flights: pd.DataFrame, url: str, console: Console) -> tuple[Tally, float]:
    """Send the flights to the deployment with a progress bar; also the seconds it took."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from modelyard.demo.stream import play

    start = perf_counter()
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("streaming", total=len(flights))

        def show(moment: pd.Timestamp, tally: Tally) -> None:
            if tally.requests % 50 == 0:
                bar.update(
                    task, completed=tally.requests, description=f"{moment:%d %b %H:%M}  {tally.labels} labels known"
                )

        tally = play(flights, url, MODEL, show)
    return tally, perf_counter() - start


@contextmanager
def services(home: Home, port: int, console: Console) -> Iterator[Running]:
    """Both planes on `home`, as ``modelyard up`` starts them; stopped when the block is left.

    Raises:
        Failed: when they do not come up.
    """
    from modelyard.control.up import running

    command = [sys.executable, "-P", "-m", "modelyard.cli.app", "up", "--port", str(port), "--json"]
    environment = {**os.environ, "MODELYARD_HOME": str(home.path)}
    # Ctrl-C is for the demo, which then stops the services in order: hence a session of their own.
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        with step(console, "start the control plane and the data plane") as said:
            until = monotonic() + START_SECONDS
            while (there := running(home)) is None:
                if process.poll() is not None or monotonic() > until:
                    raise Failed(f"the services did not start: {_last_words(process)}")
                sleep(0.05)
            said.append(there.data.url)
        yield there
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=START_SECONDS)


def _last_words(process: subprocess.Popen[bytes]) -> str:
    process.kill()
    return process.communicate()[1].decode(errors="replace").strip()[-500:] or "they said nothing"


def put_to_work(registry: Registry, version: Version, url: str, console: Console) -> None:
    """Deploy `version` and wait until it answers.

    Raises:
        Failed: when the data plane refuses it.
    """
    from modelyard.control.deployments import deploy
    from modelyard.control.watch import wait_until_done

    with step(console, f"deploy {version.ref}; the server replays the recorded answers before it answers"):
        decision = deploy(registry, version.ref, MODEL, by="demo")
        progress = wait_until_done(url, decision, START_SECONDS, tell=lambda _: None)
    if progress.state != "done":
        raise Failed(f"{version.ref} is not served: {progress.reason}")


def look_back(home: Home, console: Console) -> tuple[int, int, dict[str, float]]:
    """Ask the log with SQL: how many records, how many labels, and the area under the ROC curve by week."""
    from modelyard.records.query import RecordDatabase

    with step(console, "ask the prediction log with SQL"), RecordDatabase(home.records) as log:
        counts = "SELECT (SELECT count(*) FROM predictions), (SELECT count(*) FROM labels)"
        records, labels = log.query(counts).to_pandas().iloc[0]
        scored = log.query(
            "SELECT prediction_id, CAST(outputs->'predict_proba'->>'1' AS DOUBLE) AS score, label_number AS late "
            "FROM joined WHERE outcome = 'ok' AND label IS NOT NULL"
        )
        return int(records), int(labels), auc_by_week(scored.to_pandas())


def tell(
    home: Home, weeks: int, limit: int | None, port: int, console: Console, done: Callable[[Summary], None]
) -> None:
    """Play the story on an empty `home`, at most `limit` flights; `done` is called while everything is still up."""
    from modelyard.demo import flights as data
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
            tally, seconds = stream(live, there.data.url, console)
            console.print(f"[green]✓[/] [dim]{seconds:6.1f} s[/]  stream {tally.requests} flights in time order")
            records, labels, auc = look_back(home, console)
            page, tree = draw_lineage(version, home, console)
            p50, p99 = percentiles(tally.latencies)
            addresses = {
                "predictions": there.data.url,
                "status": f"{there.data.url}/status",
                "control API": f"{there.control.url}/docs",
                "lineage": str(page),
            }
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
                    requests_per_second=tally.requests / seconds,
                    records=records,
                    labels=labels,
                    auc_by_week=auc,
                    lineage=tree,
                    addresses=addresses,
                    seconds=perf_counter() - begin,
                )
            )


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
