"""What a running data plane does, as it does it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
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

    Numbers are of the time between two looks; queue, compute and batch are means, processor is the share of a core.
    Where the terminal is narrow, columns are left out; --json has everything.

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
    for body in (_versions(seen.versions, out.width if out.is_terminal else None), _workers(seen.workers)):
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

    tables = (_versions(seen.versions, out.width), _workers(seen.workers))
    return Group(Text(_headline(seen, url), style="bold"), Text(), tables[0], Text(), tables[1])


def _headline(seen: Traffic, url: str) -> str:
    rate = sum(one.requests_per_second for one in seen.versions)
    state = "ready" if seen.ready else f"not ready: {seen.reason}"
    words = [url, state, f"{rate:,.1f} requests/s over {seen.seconds:.1f} s"]
    if len(seen.workers) != seen.workers_wanted:
        words.append(f"{len(seen.workers)} of {seen.workers_wanted} workers")
    if seen.worker_restarts:
        words.append(f"workers started again: {seen.worker_restarts}")
    return "  ".join(words)


_TEXTS = ("deployment", "version", "state")
_LESSER = ("restarts", "queue ms", "batch", "compute ms", "in flight", "memory", "state")
"""Columns to leave out where the terminal is too narrow, in that order."""


def _versions(versions: tuple[VersionTraffic, ...], width: int | None = None) -> Table:
    """The versions as a table of at most that width, those with something to tell first."""
    shown = [one for one in versions if one.deployment or one.refused_per_second]
    rows = [_version_row(one) for one in sorted(shown, key=_quiet)]
    left_out: list[str] = []
    table = _table(rows, left_out)
    for heading in _LESSER if width is not None else ():
        if table.__rich_measure__(out, out.options.update(max_width=10_000)).maximum <= (width or 0):
            break
        left_out.append(heading)
        table = _table(rows, left_out)
    return table


def _quiet(one: VersionTraffic) -> bool:
    return not (one.requests_per_second or one.refused_per_second or one.in_flight or one.reason)


def _table(rows: list[dict[str, str]], left_out: Sequence[str] = ()) -> Table:
    """Numbers to the right, so that they can be compared."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    headings = [heading for heading in (rows[0] if rows else ()) if heading not in left_out]
    for heading in headings:
        text = heading in _TEXTS
        made.add_column(heading, overflow="fold", no_wrap=not text, justify="left" if text else "right")
    for row in rows:
        made.add_row(*(Text(row[heading]) for heading in headings))
    return made


def _version_row(one: VersionTraffic) -> dict[str, str]:
    return {
        "deployment": one.deployment or "(none)",
        "version": f"{one.model}@{one.version}" if one.model else "-",
        "state": f"{one.state or 'replaced'}: {one.reason}" if one.reason else one.state or "-",
        "req/s": f"{one.requests_per_second:,.1f}",
        "refused/s": _refused(one.refused),
        "p50 ms": _number(one.p50_ms),
        "p99 ms": _number(one.p99_ms),
        "queue ms": _number(one.queue_ms),
        "compute ms": _number(one.compute_ms),
        "in flight": str(one.in_flight),
        "batch": _number(one.batch_rows),
        "restarts": str(one.restarts),
        "memory": _memory(one.memory_bytes),
    }


def _refused(by_reason: Mapping[str, float]) -> str:
    """The refusals a second, with their most frequent reason.

    >>> _refused({"overload": 12.5, "gone": 0.5}), _refused({})
    ('13.0 overload, ...', '0.0')
    """
    if not by_reason:
        return "0.0"
    first, *others = by_reason
    return f"{sum(by_reason.values()):,.1f} {first}" + (", ..." if others else "")


def _workers(workers: tuple[WorkerTraffic, ...]) -> Table:
    return _table(
        [
            {
                "worker": str(one.worker),
                "pid": str(one.pid),
                "state": "ready" if one.ready else "not ready",
                "connections": str(one.connections),
                "req/s": f"{one.requests_per_second:,.1f}",
                "processor": "-" if one.processor is None else f"{one.processor:.0%}",
                "memory": _memory(one.memory_bytes),
            }
            for one in workers
        ]
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _memory(size: int | None) -> str:
    if size is None:
        return "-"
    mebibytes = size / 1024**2
    return f"{mebibytes:,.0f} MiB" if mebibytes >= 10 else f"{mebibytes:.1f} MiB"
