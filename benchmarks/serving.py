"""How fast the data plane answers, beside the same HTTP server with a fixed reply.

    python -m benchmarks.serving [--seconds 5] [--connections 16] [--json]

A logistic pipeline over 14 numbers (with missing values) and 6 texts is packed and served by a real process; one more
process loads it over keep-alive connections, each sending its next request when it has the last answer. The floor is
uvicorn with an application that sends a fixed reply to the same requests. `cpu us` is processor time of the serving
process a request, which other work on the machine moves less than requests per second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop

REPLY = b'{"model":"flights","version":1,"rows":[{"predict":"late","predict_proba":{"late":0.75,"on time":0.25}}]}'


@dataclass(frozen=True)
class Load:
    """One kind of request."""

    name: str
    path: str
    body: bytes
    rows: int


@dataclass(frozen=True)
class Result:
    """What one kind of request cost."""

    name: str
    rows: int
    requests_per_second: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """The floor: read the body, send a fixed reply."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(REPLY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": REPLY})


class Caller(asyncio.Protocol):
    """One connection that always has one request under way."""

    def __init__(self, request: bytes, latencies: list[float]) -> None:
        self.request, self.latencies = request, latencies
        self.received, self.missing, self.sent_at = b"", -1, 0.0
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.sent_at = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.missing < 0:
            head, found, _ = self.received.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                raise SystemExit(f"the server answered {self.received[:500]!r}")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
            self.missing = len(head) + 4 + length
        if len(self.received) >= self.missing:
            self.latencies.append(time.perf_counter() - self.sent_at)
            self.received, self.missing = b"", -1
            self.send()


async def drive(port: int, load: Load, connections: int, seconds: float, pid: int) -> Result:
    """Load the server for a while, after a short warm-up."""
    head = f"POST {load.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(load.body)}\r\n\r\n"
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Caller(head.encode() + load.body, latencies), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.sleep(min(1.0, seconds / 3))
    latencies.clear()
    cpu, started = cpu_seconds(pid), time.perf_counter()
    await asyncio.sleep(seconds)
    taken, used, counted = time.perf_counter() - started, cpu_seconds(pid) - cpu, len(latencies)
    for transport, _ in made:
        transport.close()
    ordered = sorted(latencies[:counted])
    return Result(
        load.name,
        load.rows,
        counted / taken,
        used / counted * 1e6,
        ordered[len(ordered) // 2] * 1e3,
        ordered[int(len(ordered) * 0.99)] * 1e3,
    )


def cpu_seconds(pid: int) -> float:
    """Processor time that a process and those it started have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(cpu_seconds(int(child)) for child in children)


@contextlib.contextmanager
def running(*arguments: str, announce: Path) -> Iterator[tuple[int, int]]:
    """A server process; its port and process id."""
    process = subprocess.Popen([sys.executable, *arguments])
    try:
        deadline = time.monotonic() + 60
        while not announce.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the server did not start")
            time.sleep(0.02)
        yield int(json.loads(announce.read_bytes())["url"].rpartition(":")[2]), process.pid
    finally:
        process.terminate()
        process.wait()


def packed(folder: Path) -> tuple[Path, list[Load]]:
    """A packed pipeline and the requests to send it."""
    import numpy as np
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from modelyard.bundle.pack import build_bundle
    from modelyard.bundle.tabular import to_frame
    from modelyard.protocol import oip, rows

    random, size = np.random.default_rng(0), 2000
    numbers, texts = [f"x{at}" for at in range(14)], [f"c{at}" for at in range(6)]
    table = pd.DataFrame(
        {name: random.normal(size=size) for name in numbers}
        | {name: random.choice(list("abc"), size) for name in texts}
    )
    table.loc[::7, "x0"] = np.nan
    late = table["x1"] + (table["c0"] == "a") + random.normal(size=size) > 0
    steps = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers), (OneHotEncoder(handle_unknown="ignore"), texts)
    )
    model = make_pipeline(steps, LogisticRegression()).fit(table, np.where(late, "late", "on time"))
    bundle = build_bundle(model, sample=table, name="flights", into=folder / "bundle", runtime="onnx")
    schema = bundle.manifest.schema
    loads = []
    for count in (1, 100):
        frame = to_frame(table.head(count), schema)
        body = oip.write_request(frame, schema, outputs=["predict", "predict_proba"])
        loads.append(Load(f"open inference protocol, {count} rows", "/v2/models/flights/infer", body, count))
        plain = rows.write_request(frame, schema, outputs=["predict", "predict_proba"])
        loads.append(Load(f"plain rows, {count} rows", "/predict/flights", plain, count))
    return bundle.path, loads


def measure(seconds: float, connections: int) -> list[Result]:
    """Run everything; the floor first."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        bundle, loads = packed(folder)
        results = []
        with running("-m", "benchmarks.serving", "--bare", str(folder / "bare"), announce=folder / "bare") as (
            port,
            pid,
        ):
            floor = Load("fixed reply, 1 rows", "/predict/flights", loads[0].body, 0)
            results.append(uvloop.run(drive(port, floor, connections, seconds, pid)))
        serve = ["-m", "modelyard.serving", "--bundle", str(bundle), "--name", "flights", "--port", "0"]
        serve += ["--workers", "1"]  # the floor is one process too
        serve += ["--home", str(folder / "home"), "--announce", str(folder / "serving")]
        with running(*serve, announce=folder / "serving") as (port, pid):
            wait_until_ready(port)
            results += [uvloop.run(drive(port, load, connections, seconds, pid)) for load in loads]
        return results


def wait_until_ready(port: int) -> None:
    """Wait until the server answers for its version."""
    import httpx

    deadline = time.monotonic() + 120
    while httpx.get(f"http://127.0.0.1:{port}/v2/health/ready", trust_env=False).status_code != 200:
        if time.monotonic() > deadline:
            raise SystemExit("the server is not ready")
        time.sleep(0.05)


def serve_bare(announce: Path) -> None:
    """Serve the fixed reply on a free port."""
    import uvicorn

    from modelyard.serving.desired import write_whole
    from modelyard.serving.server import listen, url_of

    listener = listen("127.0.0.1", 0)
    write_whole(announce, json.dumps({"url": url_of(listener)}).encode())
    config = uvicorn.Config(bare, lifespan="off", ws="none", log_config=None, access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare is not None:
        serve_bare(options.bare)
        return
    results = measure(options.seconds, options.connections)
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
        return
    floor = results[0]
    print(f"{'':34}{'requests/s':>12}{'of floor':>10}{'cpu us':>9}{'p50 ms':>9}{'p99 ms':>9}")
    for one in results:
        share = one.requests_per_second / floor.requests_per_second
        print(
            f"{one.name:34}{one.requests_per_second:12,.0f}{share:10.2f}{one.cpu_us:9.0f}"
            f"{one.p50_ms:9.2f}{one.p99_ms:9.2f}"
        )


if __name__ == "__main__":
    main()
