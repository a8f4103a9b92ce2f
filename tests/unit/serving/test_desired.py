"""The desired state is followed, kept on disk, and gone on with when nobody answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.domain.desired import DesiredState
from modelyard.errors import InvalidRequest, ServiceUnreachable
from modelyard.serving.desired import DesiredFollower, DesiredSource, read_cached, write_cached
from serving_process import ControlPlane
from unit.serving.parts import deployment, desired, until


@pytest.fixture
def control() -> Iterator[ControlPlane]:
    control = ControlPlane(desired(1, deployment()))
    control.start()
    yield control
    control.stop()


def test_only_changes_are_heard(control: ControlPlane) -> None:
    source = DesiredSource(control.url)
    assert source.changed() == control.state
    assert source.changed() is None
    assert control.unchanged == 1
    control.state = desired(2)
    assert source.changed() == control.state
    source.close()


def test_a_silent_or_foreign_address_is_unreachable(control: ControlPlane) -> None:
    source = DesiredSource(control.url)
    control.stop()
    with pytest.raises(ServiceUnreachable, match="no desired state from http"):
        source.changed()
    for url in ("https://there/desired", "desired", "http:///x"):
        with pytest.raises(InvalidRequest, match="no address to follow"):
            DesiredSource(url)


def test_the_state_is_kept_whole(tmp_path: Path) -> None:
    file = tmp_path / "run" / "desired.json"
    assert read_cached(file) is None
    write_cached(file, desired(3, deployment()))
    assert read_cached(file) == desired(3, deployment())
    file.write_bytes(b'{"generation":')
    assert read_cached(file) is None


def test_a_follower_hears_changes_and_goes_on_without_the_control_plane(control: ControlPlane, tmp_path: Path) -> None:
    cache, heard = tmp_path / "desired.json", list[DesiredState]()
    follower = DesiredFollower(DesiredSource(control.url), cache, heard.append)
    follower.start()
    until(lambda: heard == [desired(1, deployment())])
    assert follower.facts()["control"]["reachable"]
    url = control.url
    control.stop()
    until(lambda: not follower.facts()["control"]["reachable"])
    assert "no desired state from" in follower.facts()["control"]["reason"]
    control.state = desired(2)
    control.start(int(url.rpartition(":")[2].partition("/")[0]))
    until(lambda: heard[-1] == desired(2))
    until(lambda: follower.facts()["control"]["reachable"])
    follower.close()
    assert read_cached(cache) == desired(2)


def test_a_follower_begins_with_what_is_on_disk_when_nobody_answers(control: ControlPlane, tmp_path: Path) -> None:
    cache, heard = tmp_path / "desired.json", list[DesiredState]()
    write_cached(cache, desired(7, deployment()))
    source = DesiredSource(control.url)
    control.stop()
    follower = DesiredFollower(source, cache, heard.append)
    follower.start()
    until(lambda: heard == [desired(7, deployment())])
    follower.close()
