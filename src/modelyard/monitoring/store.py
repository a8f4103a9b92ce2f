"""What monitoring keeps in the metadata database: settings, closed windows, states of watches, findings."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from modelyard.errors import Conflict
from modelyard.monitoring.calls import Calls
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.windows import Profile, decode
from modelyard.registry.database import Database
from modelyard.registry.monitor_tables import monitor_findings, monitor_settings, monitor_states, monitor_windows

_CALLS = msgspec.msgpack.Decoder(Calls)
_FINDINGS = msgspec.msgpack.Decoder(Finding)


@dataclass(frozen=True, slots=True)
class Window:
    """A closed window of a version in a deployment; `began` in seconds since 1970 by event time."""

    deployment: str
    digest: str
    began: int
    seconds: float
    model: str
    number: int
    calls: Calls
    raw: bytes | None = None
    """Its profile as it is kept; None where nothing was answered."""

    @property
    def profile(self) -> Profile | None:
        """Its counts."""
        return None if self.raw is None else decode(zlib.decompress(self.raw))

    @property
    def at(self) -> datetime:
        """When it began (UTC)."""
        return datetime.fromtimestamp(self.began, UTC)

    @property
    def version(self) -> str:
        """As in ``flights-delay@3``; empty where no version was reached."""
        return f"{self.model}@{self.number}" if self.digest else ""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a watch has gathered, and how far it has looked."""

    reached: int
    state: bytes


class MonitorStore:
    """The monitoring of one registry. Safe to use from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # settings ---------------------------------------------------------------------------------------------------------

    def settings(self, deployment: str) -> Settings:
        """Those of a deployment; the defaults where nothing was set."""
        table = monitor_settings.c
        with self._database.read() as connection:
            document = connection.execute(select(table.document).where(table.deployment == deployment)).scalar()
        return Settings() if document is None else msgspec.convert(document, Settings)

    def change_settings(self, deployment: str, said: Mapping[str, str], by: str = "") -> Settings:
        """Change some; see `Settings.changed`. Gives all of them.

        Raises:
            InvalidRequest: there is no such setting, or that is no value for it.
        """
        table = monitor_settings.c
        with self._database.write() as connection:
            there = connection.execute(select(table.document).where(table.deployment == deployment)).scalar()
            before = Settings() if there is None else msgspec.convert(there, Settings)
            after = before.changed(said)
            facts = {"document": msgspec.to_builtins(after), "by": by, "at": datetime.now(UTC)}
            if there is None:
                connection.execute(insert(monitor_settings).values(deployment=deployment, **facts))
            else:
                connection.execute(update(monitor_settings).where(table.deployment == deployment).values(**facts))
        return after

    # windows ----------------------------------------------------------------------------------------------------------

    def deployments(self) -> tuple[str, ...]:
        """Those that have windows."""
        table = monitor_windows.c
        with self._database.read() as connection:
            return tuple(connection.execute(select(table.deployment).distinct().order_by(table.deployment)).scalars())

    def windows(self, deployment: str, since: int = 0, until: int = 2**62, digest: str | None = None) -> list[Window]:
        """Windows that begin from `since` on and before `until` (seconds since 1970), oldest first."""
        table = monitor_windows.c
        asked = select(monitor_windows).where(
            (table.deployment == deployment) & (table.began >= since) & (table.began < until)
        )
        if digest is not None:
            asked = asked.where(table.digest == digest)
        with self._database.read() as connection:
            return [_window(row) for row in connection.execute(asked.order_by(table.began, table.digest))]

    def newest(self, deployment: str) -> int | None:
        """When the newest window began."""
        table = monitor_windows.c
        with self._database.read() as connection:
            found: int | None = connection.execute(
                select(func.max(table.began)).where(table.deployment == deployment)
            ).scalar()
            return found

    # looking ----------------------------------------------------------------------------------------------------------

    def states(self, deployment: str) -> dict[tuple[str, str], Gathered]:
        """What watches have gathered, by the version's digest and the watch's name."""
        table = monitor_states.c
        with self._database.read() as connection:
            rows = connection.execute(select(monitor_states).where(table.deployment == deployment)).all()
        return {(row.digest, row.watch): Gathered(row.reached, zlib.decompress(row.state)) for row in rows}

    def keep(
        self,
        deployment: str,
        windows: Iterable[Window],
        states: Mapping[tuple[str, str], Gathered],
        findings: Sequence[Finding],
        reached: tuple[int, int],
    ) -> None:
        """Keep what one step of the monitor came to: all of it or, if it is killed meanwhile, nothing.

        `reached` says how far the deployment had been looked at before the step, and how far it is now. Of findings
        that do not alarm, those of each watch's last look are kept.

        Raises:
            Conflict: another monitor has looked at these windows meanwhile.
        """
        before, after = reached
        with self._database.write() as connection:
            if _reached(connection, deployment) != before:
                raise Conflict(f"another monitor looks at {deployment} too; this one reads again what that one found")
            _put_state(connection, deployment, "", "", Gathered(after, b""))
            for window in windows:
                _put_window(connection, window)
            for (digest, watch), gathered in states.items():
                _put_state(connection, deployment, digest, watch, gathered)
            for watch in {watch for _, watch in states}:
                table = monitor_findings.c
                named = (table.watch == watch) | table.watch.startswith(f"{watch}.")
                quiet = (table.deployment == deployment) & named & ~table.alarm
                connection.execute(delete(monitor_findings).where(quiet))
            if findings:
                connection.execute(insert(monitor_findings), [_finding_row(finding) for finding in findings])

    def reached(self, deployment: str) -> int:
        """Up to which moment (seconds since 1970) windows were looked at; 0 before the first."""
        with self._database.read() as connection:
            return _reached(connection, deployment)

    # findings ---------------------------------------------------------------------------------------------------------

    def findings(self, deployment: str, since: int = 0, *, alarms: bool = False, limit: int = 1000) -> list[Finding]:
        """What was said about windows from `since` on, the newest first; with `alarms` only what alarmed."""
        table = monitor_findings.c
        asked = select(table.document).where((table.deployment == deployment) & (table.began >= since))
        if alarms:
            asked = asked.where(table.alarm)
        with self._database.read() as connection:
            rows = connection.execute(asked.order_by(table.began.desc(), table.id.desc()).limit(limit)).scalars()
            return [_FINDINGS.decode(zlib.decompress(raw)) for raw in rows]


def _reached(connection: Connection, deployment: str) -> int:
    table = monitor_states.c
    here = (table.deployment == deployment) & (table.digest == "") & (table.watch == "")
    found: int | None = connection.execute(select(table.reached).where(here)).scalar()
    return found or 0


def packed(profile: Profile | None) -> bytes | None:
    """A profile in the form in which closed windows are kept."""
    return None if profile is None else zlib.compress(profile.publish(), 1)


def _put_window(connection: Connection, window: Window) -> None:
    table = monitor_windows.c
    here = (table.deployment == window.deployment) & (table.digest == window.digest) & (table.began == window.began)
    connection.execute(delete(monitor_windows).where(here))
    connection.execute(
        insert(monitor_windows).values(
            deployment=window.deployment,
            digest=window.digest,
            began=window.began,
            seconds=window.seconds,
            model=window.model,
            number=window.number,
            rows=window.calls.rows,
            calls=zlib.compress(msgspec.msgpack.encode(window.calls), 1),
            profile=window.raw,
        )
    )


def _put_state(connection: Connection, deployment: str, digest: str, watch: str, gathered: Gathered) -> None:
    table = monitor_states.c
    here = (table.deployment == deployment) & (table.digest == digest) & (table.watch == watch)
    connection.execute(delete(monitor_states).where(here))
    connection.execute(
        insert(monitor_states).values(
            deployment=deployment,
            digest=digest,
            watch=watch,
            reached=gathered.reached,
            state=zlib.compress(gathered.state, 1),
        )
    )


def _window(row: Any) -> Window:
    return Window(
        row.deployment,
        row.digest,
        row.began,
        row.seconds,
        row.model,
        row.number,
        _CALLS.decode(zlib.decompress(row.calls)),
        row.profile,
    )


def _finding_row(finding: Finding) -> dict[str, Any]:
    return {
        "deployment": finding.deployment,
        "watch": finding.watch,
        "began": int(finding.window.timestamp()) if finding.window else 0,
        "alarm": finding.alarm,
        "document": zlib.compress(msgspec.msgpack.encode(finding), 1),
    }
