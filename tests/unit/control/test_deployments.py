from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.control.deployments import deploy, desired_state, generation, history, in_force, undeploy
from modelyard.domain.desired import Deployment
from modelyard.errors import BundleRefused, DeploymentNotFound, InvalidRequest, PolicyDenied, VersionNotFound
from modelyard.registry import Registry
from small_bundles import report, write_bundle


def proven(registry: Registry, folder: Path, content: bytes = b"1") -> str:
    bundle = write_bundle(folder, content=content)
    version = registry.register(bundle)
    registry.add_report(version, report(bundle, version.number))
    return version.ref


def test_a_proven_version_is_asked_for(registry: Registry, tmp_path: Path) -> None:
    ref = proven(registry, tmp_path / "b")
    decision = deploy(registry, ref, "live", by="ada")
    version = registry.version(ref)
    assert (decision.generation, decision.deployment, decision.version, decision.by) == (1, "live", 1, "ada")
    state = desired_state(registry)
    assert state.generation == 1
    assert state.deployments == (Deployment("live", "toy", 1, version.digest, str(version.path)),)


def test_an_unproven_version_is_refused_and_nothing_changes(registry: Registry, tmp_path: Path) -> None:
    registry.register(write_bundle(tmp_path / "b"))
    with pytest.raises(PolicyDenied, match="modelyard verify toy@1"):
        deploy(registry, "toy@1", "live")
    with pytest.raises(PolicyDenied):
        deploy(registry, "toy@1", "live", override_reason="  ")
    assert generation(registry) == 0


def test_an_override_is_recorded_with_its_reason(registry: Registry, tmp_path: Path) -> None:
    registry.register(write_bundle(tmp_path / "b"))
    deploy(registry, "toy@1", "live", override_reason="fire drill", by="ada")
    assert desired_state(registry).deployments[0].unproven == "fire drill"
    assert history(registry, "live")[0].unproven == "fire drill"


def test_a_reason_given_for_a_proven_version_is_not_an_override(registry: Registry, tmp_path: Path) -> None:
    assert deploy(registry, proven(registry, tmp_path / "b"), "live", override_reason="hurry").unproven is None


def test_every_decision_is_kept_in_order(registry: Registry, tmp_path: Path) -> None:
    first, second = proven(registry, tmp_path / "1", b"1"), proven(registry, tmp_path / "2", b"2")
    for ref in (first, second, first):
        deploy(registry, ref, "live")
    undeploy(registry, "live", by="bob")
    kept = [(one.generation, one.version) for one in history(registry, "live")]
    assert kept == [(1, 1), (2, 2), (3, 1), (4, None)]
    assert desired_state(registry).deployments == ()
    assert in_force(registry) == ()


def test_asking_again_is_a_new_decision_so_that_what_failed_is_tried_again(registry: Registry, tmp_path: Path) -> None:
    ref = proven(registry, tmp_path / "b")
    assert [deploy(registry, ref, "live").generation for _ in range(2)] == [1, 2]
    assert len(in_force(registry)) == 1


def test_deployments_are_separate(registry: Registry, tmp_path: Path) -> None:
    first, second = proven(registry, tmp_path / "1", b"1"), proven(registry, tmp_path / "2", b"2")
    deploy(registry, first, "live")
    deploy(registry, second, "trial")
    assert [(one.deployment, one.version) for one in in_force(registry)] == [("live", 1), ("trial", 2)]


def test_what_cannot_be_deployed_says_why(registry: Registry, tmp_path: Path) -> None:
    ref = proven(registry, tmp_path / "b")
    with pytest.raises(VersionNotFound):
        deploy(registry, "toy@2", "live")
    with pytest.raises(InvalidRequest, match="cannot name a deployment"):
        deploy(registry, ref, "a/b")
    with pytest.raises(DeploymentNotFound, match="nothing is deployed"):
        undeploy(registry, "live")
    with pytest.raises(DeploymentNotFound):
        history(registry, "live")


def test_a_version_whose_files_changed_is_not_deployed(registry: Registry, tmp_path: Path) -> None:
    ref = proven(registry, tmp_path / "b")
    (registry.version(ref).path / "card.md").write_bytes(b"# tax\n")
    with pytest.raises(BundleRefused):
        deploy(registry, ref, "live")
