"""Parts of windows that are shipped and that are not: each once, and only the days that are asked for."""

from __future__ import annotations

from pathlib import Path

from live_records import calls, hour, register
from modelyard.home import Home
from modelyard.monitoring.recounting import differing, recounted
from modelyard.monitoring.shipments import ship_all, shipments
from modelyard.monitoring.sources import PartSource
from modelyard.monitoring.versions import KnownVersions
from modelyard.registry import Registry


def test_what_is_shipped_and_what_is_not_is_seen_once(tmp_path: Path) -> None:
    with Registry.open(Home(tmp_path / "home")) as registry:
        register(registry, tmp_path)
        source = PartSource(registry.home, KnownVersions(registry), lambda name: 3600.0)
        seen = []
        for hours in (range(30), range(29, 60)):
            calls(registry, hours)
            source.refresh()
            before = source.deployments(), source.newest("live", hour(1000).timestamp()), source.parts("live")
            ship_all(registry.home.records, shipments(registry.home, registry))
            source.refresh()
            after = source.deployments(), source.newest("live", hour(1000).timestamp()), source.parts("live")
            assert before[:2] == after[:2] == (["live"], int(hour(hours[-1]).timestamp()))
            assert {place: part.calls for place, part in before[2].items()} == {
                place: part.calls for place, part in after[2].items()
            }
            seen.append(sum(part.calls.rows for part in after[2].values()))
        assert seen == [900, 1830]
        again = recounted(registry.home.records, KnownVersions(registry).counted, lambda name: 3600.0)
        assert len(again) == 60
        assert differing(source, again) == []
        calls(registry, range(1))  # one more call makes a difference
        assert [place.began_ns // 10**9 for place in differing(source, again)] == [int(hour(0).timestamp())]
        source.refresh()
        late = source.parts("live", int(hour(50).timestamp()))
        assert sorted(place.began_ns // 10**9 for place in late) == [int(hour(at).timestamp()) for at in range(50, 60)]
        assert source.newest("live", hour(40).timestamp()) == int(hour(39).timestamp())
