"""Which deployments are looked after here: a file of the home for each, as projects are folders of this machine."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from modelyard.domain.names import check_name
from modelyard.errors import NotFound
from modelyard.home import Home


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment, the project that says how its model is trained again, and since when it is looked after."""

    deployment: str
    project: str
    by: str
    since: datetime
    labelled: int = 0
    """Labelled rows that it had then."""


_WATCHES = msgspec.json.Decoder(Watch)


def folder(home: Home) -> Path:
    """Where registrations and pages of reports are."""
    return home.path / "retraining"


def watch(home: Home, deployment: str, project: Path, by: str, labelled: int = 0) -> Watch:
    """Look after a deployment; a project that was named before is forgotten."""
    made = Watch(
        deployment=check_name(deployment, "deployment"),
        project=str(project.expanduser().absolute()),
        by=by,
        since=datetime.now(UTC),
        labelled=labelled,
    )
    home.create()
    place = folder(home)
    place.mkdir(exist_ok=True)
    draft = place / f".{deployment}.{os.getpid()}"
    draft.write_bytes(msgspec.json.encode(made))
    draft.replace(_file(home, deployment))
    return made


def unwatch(home: Home, deployment: str) -> Watch:
    """Look after it no more.

    Raises:
        NotFound: it was not.
    """
    known = watch_of(home, deployment)
    if known is None:
        there = ", ".join(each.deployment for each in watches(home)) or "none"
        raise NotFound(f"{deployment!r} is not watched for retraining; watched are: {there}")
    _file(home, deployment).unlink(missing_ok=True)
    return known


def watch_of(home: Home, deployment: str) -> Watch | None:
    """How a deployment is looked after; None: it is not."""
    try:
        return _WATCHES.decode(_file(home, deployment).read_bytes())
    except FileNotFoundError:
        return None


def watches(home: Home) -> tuple[Watch, ...]:
    """All that are looked after, by deployment."""
    found = (watch_of(home, file.stem) for file in sorted(folder(home).glob("[!.]*.json")))
    return tuple(each for each in found if each is not None)


def _file(home: Home, deployment: str) -> Path:
    return folder(home) / f"{deployment}.json"
