from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelyard.bundle.layout import open_bundle
from modelyard.domain.names import Ref
from modelyard.errors import AliasNotFound, BundleRefused, InvalidRequest, ModelNotFound, VersionNotFound
from modelyard.registry import Registry
from small_bundles import report, write_bundle


def test_versions_are_numbered_from_one(registry: Registry, tmp_path: Path) -> None:
    numbers = [registry.register(write_bundle(tmp_path / str(n), content=b"%d" % n)).number for n in range(3)]
    assert numbers == [1, 2, 3]
    assert [version.ref for version in registry.versions("toy")] == ["toy@1", "toy@2", "toy@3"]


def test_a_version_carries_the_facts_of_its_bundle(registry: Registry, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    version = registry.register(bundle)
    assert (version.model, version.digest, version.runtime) == ("toy", bundle.digest, "python")
    assert version.tags == {"team": "tests"}
    assert timedelta(0) <= datetime.now(UTC) - version.created_at < timedelta(minutes=1)
    assert registry.version("toy@1") == version


def test_the_same_bundle_again_is_the_same_version(registry: Registry, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    assert registry.register(bundle) == registry.register(bundle)
    assert len(registry.versions("toy")) == 1


def test_the_stored_folder_is_a_bundle_by_itself(registry: Registry, tmp_path: Path) -> None:
    version = registry.register(write_bundle(tmp_path / "b"))
    assert open_bundle(version.path, expect_digest=version.digest).manifest.name == "toy"


def test_a_changed_file_is_refused_and_registering_again_repairs_it(registry: Registry, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    version = registry.register(bundle)
    (version.path / "card.md").write_bytes(b"# tax\n")
    with pytest.raises(BundleRefused, match=r"card\.md"):
        registry.bundle(version)
    registry.register(bundle)
    assert registry.bundle("toy@1").digest == bundle.digest


def test_a_bundle_that_changed_after_it_was_opened_is_not_registered(registry: Registry, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    (bundle.path / "card.md").write_bytes(b"# tax\n")
    with pytest.raises(BundleRefused):
        registry.register(bundle)
    assert registry.models() == ()


def test_what_a_killed_process_left_is_replaced(registry: Registry, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    left = registry.folder(bundle.digest)
    (left / "model").mkdir(parents=True)
    (left / "model" / "native.skops#1").write_bytes(b"half")
    version = registry.register(bundle)
    assert registry.bundle(version).digest == bundle.digest


def test_references_find_the_newest_a_number_or_an_alias(registry: Registry, tmp_path: Path) -> None:
    for content in (b"1", b"2"):
        registry.register(write_bundle(tmp_path / content.decode(), content=content))
    registry.set_alias("toy", "champion", 1)
    assert registry.version("toy").number == 2
    assert registry.version(Ref("toy", version=1)).number == 1
    assert registry.version("toy@champion").number == 1


def test_what_does_not_exist_is_answered_with_what_does(registry: Registry, tmp_path: Path) -> None:
    registry.register(write_bundle(tmp_path / "b"))
    with pytest.raises(ModelNotFound, match="no model 'tax'; there are: toy"):
        registry.version("tax@1")
    with pytest.raises(VersionNotFound, match="'toy' has no version 7; newest: 1"):
        registry.version("toy@7")
    with pytest.raises(AliasNotFound, match="it has no alias"):
        registry.version("toy@champion")


def test_models_come_with_versions_and_aliases(registry: Registry, tmp_path: Path) -> None:
    registry.register(write_bundle(tmp_path / "a", name="b-model"))
    registry.register(write_bundle(tmp_path / "b", name="a-model"))
    registry.set_alias("b-model", "champion", 1)
    listed = registry.models()
    assert [(model.name, model.versions, model.newest) for model in listed] == [("a-model", 1, 1), ("b-model", 1, 1)]
    assert listed[1].aliases == {"champion": 1}


def test_an_alias_remembers_every_change(registry: Registry, tmp_path: Path) -> None:
    for content in (b"1", b"2"):
        registry.register(write_bundle(tmp_path / content.decode(), content=content))
    registry.set_alias("toy", "champion", 1, by="ada", why="first")
    registry.set_alias("toy", "champion", 2, by="bob", why="better")
    registry.remove_alias("toy", "champion", by="ada")
    changes = [(one.version, one.previous, one.by, one.why) for one in registry.alias_history("toy")]
    assert changes == [(1, None, "ada", "first"), (2, 1, "bob", "better"), (None, 2, "ada", "")]
    assert registry.aliases("toy") == {}


def test_an_alias_points_at_what_exists_and_is_no_number(registry: Registry, tmp_path: Path) -> None:
    registry.register(write_bundle(tmp_path / "b"))
    with pytest.raises(VersionNotFound):
        registry.set_alias("toy", "champion", 2)
    with pytest.raises(InvalidRequest, match="version number"):
        registry.set_alias("toy", "12", 1)
    with pytest.raises(AliasNotFound):
        registry.remove_alias("toy", "champion")


def test_reports_come_back_as_they_were_with_infinities(registry: Registry, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    version = registry.register(bundle)
    given = [report(bundle, passed=False), report(bundle)]
    for one in given:
        registry.add_report(version, one)
    assert list(registry.reports("toy@1")) == given


def test_proof_is_the_newest_real_report_if_it_passed(registry: Registry, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    version = registry.register(bundle)
    assert registry.proof(version) is None
    registry.add_report(version, report(bundle))
    assert registry.proof(version) == report(bundle)
    registry.add_report(version, report(bundle, passed=False, overrides=("numpy==1.0",)))
    assert registry.proof(version) is not None
    registry.add_report(version, report(bundle, passed=False))
    assert registry.proof(version) is None


def test_a_what_if_run_proves_nothing(registry: Registry, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    registry.register(bundle)
    registry.add_report("toy@1", report(bundle, overrides=("numpy==1.0",)))
    assert registry.proof("toy@1") is None


def test_a_report_on_other_content_proves_nothing(registry: Registry, tmp_path: Path) -> None:
    registry.register(write_bundle(tmp_path / "a"))
    registry.add_report("toy@1", report(write_bundle(tmp_path / "b", content=b"other")))
    assert registry.proof("toy@1") is None


def _register(home: Path, bundle: Path) -> int:
    with Registry.open(home) as registry:
        return registry.register(open_bundle(bundle)).number


def test_processes_that_register_at_once_get_different_numbers(tmp_path: Path) -> None:
    bundles = [write_bundle(tmp_path / str(n), content=b"%d" % n).path for n in range(8)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=spawn) as pool:  # none of them finds a database: they also race to make it
        numbers = list(pool.map(_register, [tmp_path / "yard"] * 8, bundles))
    assert sorted(numbers) == list(range(1, 9))
