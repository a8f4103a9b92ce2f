"""What each worker tells of itself, as a small file, and what all of them together come to.

Every worker of a data plane publishes a `Board` in one folder now and then; whoever is asked how the data plane does
reads all of them and merges them. Counts are added, those of workers that are gone included, and what is said of a
deployment holds for every worker that lives.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import msgspec

from modelyard.serving.meters import KEPT_CLOSED, MeterSnapshot, fold, merge
from modelyard.serving.status import DeploymentStatus, PlaneStatus, State, VersionStatus

_BOARD, _RETIRED, _CREW = ".board", "retired", "crew"

TOLD_SECONDS = 300.0
"""How long the counts of a version are told after it stopped answering everywhere; whoever reads them sees the last."""

TOLD_ENDED = 24
"""How many versions that stopped answering are told at most, the latest of them.

Fewer than any process keeps: what is told has not been put together anywhere, so that nothing that is told goes back.
"""


class VersionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One open version in one worker.

    `memory_bytes` is the resident memory of the model's own process (`pid`) or, of a model that the worker computes
    itself, what was measured as it was loaded; None where it is not known.
    """

    deployment: str
    model: str
    version: int
    digest: str
    runtime: str = ""
    pid: int | None = None
    memory_bytes: int | None = None


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker tells of itself; counts are since it began.

    `started` is seconds since 1970, `written` of ``time.monotonic()``, which all processes of a machine share. `life`,
    from `new_life`, tells this worker from an earlier one with the same number and process id.
    """

    worker: int
    pid: int
    life: str
    started: float
    written: float
    status: PlaneStatus
    orders: int = 0
    """The revision of the orders that it follows."""
    meters: tuple[MeterSnapshot, ...] = ()
    versions: tuple[VersionFacts, ...] = ()
    connections: int = 0
    accepted: int = 0
    memory_bytes: int | None = None
    processor_seconds: float = 0.0
    records_written: int = 0
    records_failed: int = 0
    loads: int = 0
    evictions: int = 0
    """How often a version was loaded, and how often one was unloaded for memory."""
    budget_bytes: int = 0
    budgeted_bytes: int = 0
    """What the worker and its models may hold (0: whatever they do), and what was last measured to be held."""


class Retired(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of workers that are gone. `lives` are those whose boards may still lie there, and are in here."""

    lives: tuple[str, ...] = ()
    workers: int = 0
    meters: tuple[MeterSnapshot, ...] = ()
    accepted: int = 0
    records_written: int = 0
    records_failed: int = 0
    loads: int = 0
    evictions: int = 0


class Crew(msgspec.Struct, frozen=True, kw_only=True):
    """What the process that starts the workers tells: who lives, how many there should be, and what happened.

    `starting` are those on their way, who are not counted while others serve.
    """

    pid: int
    started: float
    wanted: int
    pids: tuple[int, ...]
    starting: tuple[int, ...] = ()
    restarts: int = 0
    reason: str = ""


class Boards(msgspec.Struct, frozen=True, kw_only=True):
    """All that lies in the folder, read once."""

    workers: tuple[Board, ...] = ()
    retired: Retired = Retired()
    crew: Crew | None = None


class WorkerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One living worker in short. `reason` says why it is not ready, `calls` how many it has taken, answered or not.

    `processor_seconds` is the processor time that it has used.
    """

    worker: int
    pid: int
    started: float
    age_seconds: float
    ready: bool
    reason: str
    connections: int
    accepted: int
    calls: int
    memory_bytes: int | None
    processor_seconds: float


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """The whole data plane: what holds for all living workers, and all counts there ever were.

    `versions` has one entry a version that some living worker has open, its memory added over workers; `current` are
    the keys of the meters that are told one by one: see `told`.
    """

    status: PlaneStatus
    workers: tuple[WorkerFacts, ...]
    meters: tuple[MeterSnapshot, ...]
    versions: tuple[VersionFacts, ...]
    current: frozenset[tuple[str, str, int, str]]
    accepted: int
    worker_restarts: int
    records_written: int
    records_failed: int
    loads: int = 0
    evictions: int = 0
    budget_bytes: int = 0
    budgeted_bytes: int = 0

    def told(self) -> tuple[MeterSnapshot, ...]:
        """The counts to tell one by one: of each version, and of the calls that reached none (with empty names).

        A version that stopped answering is left out some time later (see `TOLD_SECONDS`), as a series that ends is.
        """
        return merge(msgspec.structs.replace(meter, digest="") for meter in self.meters if meter.key in self.current)


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a board says of its worker's state."""

    worker: int
    pid: int
    life: str
    written: float
    status: PlaneStatus


class _Lives(msgspec.Struct, frozen=True):
    """Whose counts are among the retired ones."""

    lives: tuple[str, ...] = ()


_ENCODER = msgspec.msgpack.Encoder()
_SAID, _LIVES = msgspec.msgpack.Decoder(_Said), msgspec.msgpack.Decoder(_Lives)
_DECODER = msgspec.msgpack.Decoder(Board)
_RETIRED_DECODER = msgspec.msgpack.Decoder(Retired)
_CREW_DECODER = msgspec.msgpack.Decoder(Crew)


STALE_SECONDS = 10.0
"""A living worker that has told nothing for so long is not ready."""


def new_life(worker: int) -> str:
    """A name for one life of a worker that no other life has."""
    return f"{worker}-{os.getpid()}-{os.urandom(4).hex()}"


def publish(folder: Path, board: Board) -> None:
    """Put up a worker's board in place of its last one; readers see the old or the new one, never a part.

    It is not forced to disk: after a power cut nobody is left to ask. A folder in memory (``/dev/shm``) is best.

    Raises:
        OSError: the folder cannot be written.
    """
    _put(folder, f"worker-{board.life}", _ENCODER.encode(board))


def publish_crew(folder: Path, crew: Crew) -> None:
    """Put up what the process that starts the workers tells; as `publish`."""
    _put(folder, _CREW, _ENCODER.encode(crew))


def read_all(folder: Path) -> Boards:
    """All boards in the folder; what cannot be read, or vanishes meanwhile, is left out.

    Retired counts are read last: a board that is taken down between two looks is in them by then.
    """
    workers = [
        board for path in sorted(folder.glob(f"worker-*{_BOARD}")) if (board := _read(path, _DECODER)) is not None
    ]
    crew = _read(folder / f"{_CREW}{_BOARD}", _CREW_DECODER)
    retired = _read(folder / f"{_RETIRED}{_BOARD}", _RETIRED_DECODER) or Retired()
    return Boards(workers=tuple(workers), retired=retired, crew=crew)


def read_status(folder: Path) -> Boards:
    """As `read_all`, without the counts, which take most of the time."""
    said = [one for path in sorted(folder.glob(f"worker-*{_BOARD}")) if (one := _read(path, _SAID)) is not None]
    workers = [
        Board(worker=one.worker, pid=one.pid, life=one.life, started=0.0, written=one.written, status=one.status)
        for one in said
    ]
    crew = _read(folder / f"{_CREW}{_BOARD}", _CREW_DECODER)
    lives = _read(folder / f"{_RETIRED}{_BOARD}", _LIVES) or _Lives()
    return Boards(workers=tuple(workers), retired=Retired(lives=lives.lives), crew=crew)


def retire(folder: Path, pids: Collection[int]) -> None:
    """Add the counts of workers that are gone (by process id) to the retired ones and take their boards down.

    Only one process may do this, the one that starts the workers. Killed in between, the counts are still there once.

    Raises:
        OSError: the folder cannot be written.
    """
    boards = read_all(folder)
    gone = [board for board in boards.workers if board.pid in pids]
    there = {board.life for board in boards.workers}
    counted = {life for life in boards.retired.lives if life in there}
    fresh = [board for board in gone if board.life not in counted]
    if fresh or len(counted) != len(boards.retired.lives):
        lives = (*sorted(counted), *(board.life for board in fresh))
        retired = with_gone(boards.retired, fresh)
        kept = {meter.key for board in boards.workers if board not in gone for meter in board.meters}
        kept |= {meter.key for meter in _latest(retired.meters, KEPT_CLOSED)}
        retired = msgspec.structs.replace(retired, lives=lives, meters=fold(retired.meters, kept))
        _put(folder, _RETIRED, _ENCODER.encode(retired))
    for board in gone:
        (folder / f"worker-{board.life}{_BOARD}").unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether there is a process of that id (a killed one that nobody has waited for counts as gone)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in (b"Z", b"X")


def living(boards: Boards, alive: Callable[[int], bool] = is_alive) -> frozenset[int]:
    """The process ids of the workers that live: as the crew tells, without those that died since."""
    known = {board.pid for board in boards.workers}
    if boards.crew is not None:
        known &= set(boards.crew.pids)
    return frozenset(pid for pid in known if alive(pid))


def all_living(boards: Boards, alive: Callable[[int], bool] = is_alive) -> frozenset[int]:
    """As `living`, with those on their way, and with those that have put up no board yet."""
    starting = () if boards.crew is None else (*boards.crew.pids, *boards.crew.starting)
    return living(boards, alive) | frozenset(pid for pid in starting if alive(pid))


def with_gone(retired: Retired, gone: Iterable[Board]) -> Retired:
    """The retired counts with those of more workers that are gone."""
    for board in gone:
        retired = Retired(
            lives=retired.lives,
            workers=retired.workers + 1,
            meters=merge([*retired.meters, *(meter.left(board.written) for meter in board.meters)]),
            accepted=retired.accepted + board.accepted,
            records_written=retired.records_written + board.records_written,
            records_failed=retired.records_failed + board.records_failed,
            loads=retired.loads + board.loads,
            evictions=retired.evictions + board.evictions,
        )
    return retired


def combine(boards: Boards, alive: Collection[int], now: float) -> Merged:
    """What all boards come to, when the processes `alive` live and it is `now` (of ``time.monotonic()``).

    Counts of dead workers stay in, what they said of themselves does not.
    """
    counted = frozenset(boards.retired.lives)
    there = sorted((board for board in boards.workers if board.life not in counted), key=lambda board: board.worker)
    here = [board for board in there if board.pid in alive]
    retired = with_gone(boards.retired, (board for board in there if board.pid not in alive))
    meters = merge([*retired.meters, *(meter for board in here for meter in board.meters)])
    return Merged(
        status=merge_status([(board.worker, _told(board, now)) for board in here]),
        workers=tuple(_worker(board, now) for board in here),
        meters=meters,
        versions=_versions(here),
        current=_current(meters, now),
        accepted=retired.accepted + sum(board.accepted for board in here),
        worker_restarts=boards.crew.restarts if boards.crew is not None else 0,
        records_written=retired.records_written + sum(board.records_written for board in here),
        records_failed=retired.records_failed + sum(board.records_failed for board in here),
        loads=retired.loads + sum(board.loads for board in here),
        evictions=retired.evictions + sum(board.evictions for board in here),
        budget_bytes=sum(board.budget_bytes for board in here),
        budgeted_bytes=sum(board.budgeted_bytes for board in here),
    )


def _current(meters: Sequence[MeterSnapshot], now: float) -> frozenset[tuple[str, str, int, str]]:
    """The keys of the meters that are told one by one."""
    there = [meter for meter in meters if not meter.deployment or (meter.version and not meter.ended)]
    gone = [one for one in _latest(meters, TOLD_ENDED) if now - one.ended < TOLD_SECONDS]
    return frozenset(meter.key for meter in (*there, *gone))


def _latest(meters: Iterable[MeterSnapshot], most: int) -> list[MeterSnapshot]:
    """The versions that stopped answering last."""
    ended = (meter for meter in meters if meter.version and meter.ended)
    return sorted(ended, key=lambda meter: (meter.ended, meter.key), reverse=True)[:most]


def _told(board: Board, now: float) -> PlaneStatus:
    """What a worker says of itself; that it is not ready, when it last said anything long ago."""
    silent = now - board.written
    if silent <= STALE_SECONDS or not board.status.ready:
        return board.status
    return replace(board.status, ready=False, reason=f"it has told nothing for {silent:.0f} s")


def merge_status(told: Sequence[tuple[int, PlaneStatus]]) -> PlaneStatus:
    """What holds for all workers, of which each (by its number) has told its own status.

    It is ready when all are. A version of a deployment is READY when all of them answer with it; while some answer with
    an older one, that is shown as answering, and the wanted one as loading. A reason names the worker it is from.
    """
    if not told:
        return PlaneStatus(False, "no worker answers", -1, ())
    if len(told) == 1:
        return told[0][1]
    names = sorted({deployment.name for _, status in told for deployment in status.deployments})
    troubled = [(worker, status.reason) for worker, status in told if not status.ready]
    return PlaneStatus(
        not troubled,
        _from_worker(*troubled[0]) if troubled else "",
        min(status.generation for _, status in told),
        tuple(_deployment(name, told) for name in names),
    )


def _deployment(name: str, told: Sequence[tuple[int, PlaneStatus]]) -> DeploymentStatus:
    """One deployment as all workers together have it."""
    seen: list[tuple[int, DeploymentStatus]] = []
    missing: list[int] = []
    troubled: list[tuple[int, State, str]]
    for worker, status in told:
        found = next((one for one in status.deployments if one.name == name), None)
        if found is None:
            missing.append(worker)
        else:
            seen.append((worker, found))
    wanted = _wanted(seen, newest_of=told)
    # What answers and is not what is wanted goes first: it is what is being replaced.
    # Of workers that have it loaded and others that load it on request, one of the former speaks.
    shown = max(
        (one for _, one in seen), key=lambda one: (one.state == "READY", not _is(one, wanted), not one.unloaded)
    )
    troubled = [(worker, one.state, one.reason or one.state.lower()) for worker, one in seen if one.state != "READY"]
    troubled += [(worker, "LOADING", "it is not known there yet") for worker in missing]
    if not troubled or (not missing and len({(one.state, one.reason) for _, one in seen}) == 1):
        return replace(shown, wanted=wanted)
    worker, state, reason = min(troubled, key=lambda trouble: trouble[1] != "UNAVAILABLE")
    return replace(shown, state=state, reason=_from_worker(worker, reason), wanted=wanted)


def _wanted(
    seen: Sequence[tuple[int, DeploymentStatus]], newest_of: Sequence[tuple[int, PlaneStatus]]
) -> VersionStatus | None:
    """What the newest desired state that a worker knows asks for, READY only when every worker answers with it."""
    generation = {worker: status.generation for worker, status in newest_of}
    _, newest = max(seen, key=lambda told: (generation[told[0]], not told[1].unloaded, -told[0]))
    wanted = newest.wanted
    if wanted is None:
        return None
    ready = [worker for worker, one in seen if one.state == "READY" and _is(one, wanted)]
    if len(ready) == len(newest_of):
        return wanted
    for worker, one in seen:
        theirs = one.wanted
        if theirs is not None and _same(theirs, wanted) and theirs.state == "UNAVAILABLE":
            return replace(theirs, reason=_from_worker(worker, theirs.reason))
    return replace(wanted, state="LOADING", reason=f"{len(ready)} of {len(newest_of)} workers answer with it")


def _is(shown: DeploymentStatus, wanted: VersionStatus | None) -> bool:
    return wanted is not None and (shown.model, shown.version, shown.digest) == _name(wanted)


def _same(one: VersionStatus, other: VersionStatus) -> bool:
    return _name(one) == _name(other)


def _name(version: VersionStatus) -> tuple[str, int, str]:
    return version.model, version.version, version.digest


def _from_worker(worker: int, reason: str) -> str:
    return f"worker {worker}: {reason}"


def _worker(board: Board, now: float) -> WorkerFacts:
    status = _told(board, now)
    return WorkerFacts(
        worker=board.worker,
        pid=board.pid,
        started=board.started,
        age_seconds=round(max(0.0, now - board.written), 3),
        ready=status.ready,
        reason=status.reason,
        connections=board.connections,
        accepted=board.accepted,
        calls=sum(meter.answered + meter.not_answered for meter in board.meters),
        memory_bytes=board.memory_bytes,
        processor_seconds=board.processor_seconds,
    )


def _versions(boards: Sequence[Board]) -> tuple[VersionFacts, ...]:
    """One entry a version, memory added; a process that several workers share counts once."""
    found: dict[tuple[str, str, int, str], dict[int | str, VersionFacts]] = {}
    for board in boards:
        for facts in board.versions:
            key = (facts.deployment, facts.model, facts.version, facts.digest)
            found.setdefault(key, {})[facts.pid or board.life] = facts
    return tuple(_together(list(found[key].values())) for key in sorted(found))


def _together(parts: Sequence[VersionFacts]) -> VersionFacts:
    known = [part.memory_bytes for part in parts if part.memory_bytes is not None]
    return msgspec.structs.replace(parts[0], memory_bytes=sum(known) if known else None)


_Kind = TypeVar("_Kind")


def _read(path: Path, decoder: msgspec.msgpack.Decoder[_Kind]) -> _Kind | None:
    try:
        return decoder.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None


def _put(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}-{os.getpid()}"
    try:
        temporary.write_bytes(content)
        temporary.replace(folder / f"{name}{_BOARD}")
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
