"""What a running data plane does, as it does it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.output import Json, emit, out, reported_errors

if TYPE_CHECKING:
    import httpx
    from rich.console import Group
    from rich.table import Table

    from modelyard.control.traffic import Look, Traffic, VersionTraffic, WorkerTraffic

app = typer.Typer()


@app.command()
def top(
    url: Annotated[
        str | None, typer.Option("--url", help="The server; that of `modelyard up` on this home otherwise.")
    ] = None,
    interval: Annotated[float, typer.Option("--interval", min=0.5, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look twice, print once; --json does the same.")] = False,
    as_json: Json = False,
) -> None:
    """Watch a running server: requests, latencies and refusals of each version, and its workers, until Ctrl-C.

    Numbers are of the time between two looks; queue, compute and batch are means.

    Example: modelyard top --interval 1
    """
    with reported_errors(as_json):
        import httpx

        from modelyard.cli.predict import server_address

        with httpx.Client(base_url=server_address(url), timeout=10.0, trust_env=False) as client:
            if once or as_json:
                _print_once(client, interval, as_json)
            else:
                _watch(client, interval)


def _print_once(client: httpx.Client, interval: float, as_json: bool) -> None:
    from modelyard.control.traffic import between, look

    before = look(client)
    time.sleep(interval)
    seen = between(before, look(client))
    emit(seen, as_json, lambda: _put(seen, str(client.base_url)))


def _put(seen: Traffic, url: str) -> None:
    from modelyard.cli.cards import put

    out.print(_headline(seen, url), markup=False)
    for body in (_versions(seen.versions), _workers(seen.workers)):
        out.print()
        put(body)


def _watch(client: httpx.Client, interval: float) -> None:
    """Show what happens until Ctrl-C. A server that goes away is waited for."""
    from rich.live import Live
    from rich.text import Text

    from modelyard.control.traffic import between, look
    from modelyard.errors import ServiceUnreachable

    before: Look = look(client)
    first = Text(f"{client.base_url}: the first numbers come in {interval:g} s")
    try:
        with Live(first, console=out, auto_refresh=False, screen=out.is_terminal) as live:
            while True:
                time.sleep(interval)
                try:
                    after = look(client)
                except ServiceUnreachable as error:
                    live.update(Text(str(error)), refresh=True)
                    continue
                live.update(_group(between(before, after), str(client.base_url)), refresh=True)
                before = after
    except KeyboardInterrupt:
        return


def _group(seen: Traffic, url: str) -> Group:
    from rich.console import Group
    from rich.text import Text

    return Group(
        Text(_headline(seen, url), style="bold"), Text(), _versions(seen.versions), Text(), _workers(seen.workers)
    )


def _headline(seen: Traffic, url: str) -> str:
    rate = sum(one.requests_per_second for one in seen.versions)
    state = "ready" if seen.ready else f"not ready: {seen.reason}"
    return f"{url}  {state}  {rate:,.1f} requests/s over {seen.seconds:.1f} s"


def _versions(versions: tuple[VersionTraffic, ...]) -> Table:
    from modelyard.cli.cards import table

    headings = ["deployment", "version", "req/s", "refused/s", "p50 ms", "p99 ms", "queue ms", "compute ms"]
    headings += ["in flight", "batch", "restarts", "memory"]
    return table(headings, [_version_row(one) for one in versions if one.deployment or one.refused_per_second])


def _version_row(one: VersionTraffic) -> list[str]:
    return [
        one.deployment or "(none)",
        f"{one.model}@{one.version}" if one.model else "-",
        f"{one.requests_per_second:,.1f}",
        f"{one.refused_per_second:,.1f}",
        *(_number(value) for value in (one.p50_ms, one.p99_ms, one.queue_ms, one.compute_ms)),
        str(one.in_flight),
        _number(one.batch_rows),
        str(one.restarts),
        _memory(one.memory_bytes),
    ]


def _workers(workers: tuple[WorkerTraffic, ...]) -> Table:
    from modelyard.cli.cards import table

    rows = [
        [
            str(one.worker),
            str(one.pid),
            "ready" if one.ready else "not ready",
            str(one.connections),
            f"{one.requests_per_second:,.1f}",
            _memory(one.memory_bytes),
        ]
        for one in workers
    ]
    return table(["worker", "pid", "state", "connections", "req/s", "memory"], rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _memory(size: int | None) -> str:
    return "-" if size is None else f"{size / 1024**2:,.0f} MiB"
