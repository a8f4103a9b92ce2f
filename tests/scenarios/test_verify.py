"""What ``modelyard verify`` proves, and what it finds when a version is not what it was."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import compiled_bundles
from handmade_wheels import write_wheel
from modelyard.bundle import environment, golden, uv
from modelyard.bundle.layout import Bundle, write
from modelyard.cli.app import app
from modelyard.domain.manifest import Manifest
from modelyard.domain.parity import ParityReport, StageReport
from modelyard.registry import Registry, Version
from modelyard.verification import verify

PACKAGE = "handmadecelsius"

FEATURES = f'''
"""Features of the weather model."""
import {PACKAGE}
from sklearn.base import BaseEstimator, TransformerMixin


class Celsius(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return X.assign(temp={PACKAGE}.convert(X["temp"]))[["temp", "wind"]]
'''

TRAIN = """
import numpy as np
import pandas as pd
import modelyard as my
from features import Celsius
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

rng = np.random.default_rng(0)
X = pd.DataFrame({"temp": rng.normal(60, 20, 300), "wind": rng.normal(5, 2, 300)})
X.loc[::11, "wind"] = np.nan
y = np.where(X["temp"] + rng.normal(0, 20, 300) > 60, "warm", "cold")
model = make_pipeline(Celsius(), SimpleImputer(), LogisticRegression()).fit(X, y)
print(my.pack(model, sample=X, name="weather", golden_rows=24).ref)
"""


@dataclass(frozen=True)
class Yard:
    """A home with one version, packed by a program in `work` with version 1.0 of a package that also has a 2.0."""

    home: Path
    work: Path
    version: Version
    bundle: Bundle

    def python(self) -> Path:
        """The version's environment, kept between tests."""
        return environment.cached(self.bundle.manifest.environment, self.home)

    def resealed(self, folder: Path, edit: Callable[[dict[str, bytes | Path], Manifest], Manifest]) -> Bundle:
        """A copy in which `edit` changed files or manifest, with all digests computed anew, as a forger would."""
        files: dict[str, bytes | Path] = {name: self.bundle.path / name for name in self.bundle.manifest.files}
        return write(folder, files, edit(files, self.bundle.manifest))


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    root = tmp_path_factory.mktemp("yard")
    for version, offset in (("1.0", 32), ("2.0", 30)):
        code = f"def convert(fahrenheit):\n    return (fahrenheit - {offset}) / 1.8\n"
        write_wheel(root / "wheels", PACKAGE, version, {f"{PACKAGE}.py": code})
    work, site = root / "work", root / "site"
    work.mkdir()
    (work / "features.py").write_text(FEATURES)
    (work / "train.py").write_text(TRAIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_FIND_LINKS", str(root / "wheels"))
        patch.setenv("MODELYARD_HOME", str(root / "home"))
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        patch.setenv("UV_CACHE_DIR", uv.run(["cache", "dir"]).strip())
        patch.chdir(root)
        uv.run(["pip", "install", "--quiet", "--no-deps", "--offline", "--target", str(site), f"{PACKAGE}==1.0"])
        trained = subprocess.run(
            [sys.executable, work / "train.py"],
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
        )
        assert trained.returncode == 0, trained.stderr
        with Registry.open() as registry:
            version = registry.version("weather@1")
            yield Yard(root / "home", work, version, registry.bundle(version))


def cli(*arguments: str) -> tuple[int, ParityReport]:
    """Run ``modelyard verify ... --json``; the exit status and the report."""
    import msgspec

    done = CliRunner().invoke(app, ["verify", *arguments, "--json"])
    assert done.exit_code in (0, 1), done.output
    return done.exit_code, msgspec.convert(json.loads(done.stdout), ParityReport)


def stage(report: ParityReport, name: str) -> StageReport:
    return next(one for one in report.stages if one.stage == name)


def failed(report: ParityReport) -> list[str]:
    return [one.stage for one in report.stages if not one.passed]


def test_an_untouched_version_is_proven_everywhere_and_an_edit_beside_it_is_only_noted(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PACKAGE in [one.name for one in yard.bundle.manifest.environment.distributions]
    (yard.work / "features.py").write_text(FEATURES.replace("fahrenheit", "degrees") + "\n# a new idea\n")
    monkeypatch.chdir(yard.work)
    status, report = cli("weather@1")
    assert (status, failed(report)) == (0, [])
    assert [one.stage for one in report.stages] == [
        "integrity",
        "environment",
        "rebuilt",
        "http single",
        "http batch",
        "bulk",
    ]
    answered = len(yard.bundle.golden().answered())
    assert stage(report, "rebuilt").rows == 2 * answered
    assert stage(report, "http single").rows == answered
    assert stage(report, "rebuilt").refused == yard.bundle.manifest.golden_rows - answered
    assert report.facts["cpu"]
    (note,) = stage(report, "integrity").notes
    assert "module features was edited since it was packed: features.py in your folder differs" in note
    with Registry.open() as registry:
        assert registry.proof("weather@1") == report
    assert [path.name for path in (yard.home / "environments").iterdir() if path.name.startswith("verify-")] == []


def test_a_changed_byte_in_any_file_is_found_and_the_file_is_named(yard: Yard, tmp_path: Path) -> None:
    names = ["manifest.json", *yard.bundle.manifest.files]
    assert {"code/features.py", "golden/answers.parquet", "model/native.skops"} <= set(names)
    for name in names:
        copy = tmp_path / "copy"
        shutil.copytree(yard.bundle.path, copy)
        contents = bytearray((copy / name).read_bytes())
        contents[len(contents) // 2] ^= 1
        (copy / name).write_bytes(contents)
        report = verify(copy, "weather@1", home=yard.home, digest=yard.version.digest)
        assert failed(report) == ["integrity"]
        assert name in stage(report, "integrity").reason
        shutil.rmtree(copy)


def test_a_registered_version_whose_module_was_edited_in_place_fails_and_is_no_longer_proven(yard: Yard) -> None:
    module = yard.bundle.path / "code/features.py"
    before = module.read_bytes()
    module.write_bytes(before.replace(b'"wind"', b'"temp"'))
    try:
        status, report = cli("weather@1")
        with Registry.open() as registry:
            assert registry.proof("weather@1") is None
    finally:
        module.write_bytes(before)
    assert (status, failed(report)) == (1, ["integrity"])
    assert "code/features.py was changed" in stage(report, "integrity").reason


def test_another_version_of_a_dependency_gives_other_answers_and_is_blamed(yard: Yard) -> None:
    status, report = cli("weather@1", "--with", f"{PACKAGE}==2.0")
    assert status == 1
    assert {"rebuilt", "http single", "http batch", "bulk"} == set(failed(report))
    for name in ("rebuilt", "bulk"):
        reason = stage(report, name).reason
        assert re.search(r"row \d+ \(sample\), output 'predict.*': expected .*, got ", reason)
        assert reason.endswith(f"{PACKAGE} is 2.0 here as asked, 1.0 in training")
    assert stage(report, "environment").notes == (f"{PACKAGE} is 2.0 here as asked, 1.0 in training",)
    assert not report.proves


def test_a_what_if_run_that_changes_nothing_says_so_but_proves_nothing(yard: Yard) -> None:
    report = verify(yard.bundle, "weather@1", home=yard.home, overrides=[f"{PACKAGE}==1.0"], python=yard.python())
    assert [(one.stage, one.reason) for one in report.stages if not one.passed] == []
    assert (report.passed, report.proves) == (True, False)


@pytest.mark.parametrize("what", ["pandas", "six==1.0", f"{PACKAGE}>=1"])
def test_a_what_if_that_makes_no_sense_is_wrong_usage(yard: Yard, what: str) -> None:
    done = CliRunner().invoke(app, ["verify", "weather@1", "--with", what])
    assert done.exit_code == 5
    assert "NAME==VERSION" in done.stderr or "is not in this version's environment" in done.stderr


def test_an_environment_that_does_not_match_fails_by_package_and_by_answers(yard: Yard, tmp_path: Path) -> None:
    other = environment.rebuild(yard.bundle.manifest.environment, tmp_path / "env", overrides=[f"{PACKAGE}==2.0"])
    report = verify(yard.bundle, "weather@1", home=yard.home, python=other)
    assert {"environment", "rebuilt"} <= set(failed(report))
    assert stage(report, "environment").reason == f"{PACKAGE} is 2.0 here, 1.0 in training"
    assert stage(report, "rebuilt").mismatched > 0


def test_a_manifest_forged_to_name_another_package_version_fails(yard: Yard, tmp_path: Path) -> None:
    def forge(files: dict[str, bytes | Path], manifest: Manifest) -> Manifest:
        locked = manifest.environment
        others = tuple(
            replace(one, version="2.0", wheels=()) if one.name == PACKAGE else one for one in locked.distributions
        )
        return replace(manifest, environment=replace(locked, distributions=others))

    forged = yard.resealed(tmp_path / "forged", forge)
    report = verify(forged.path, "forged", home=yard.home)
    assert f"{PACKAGE} 2.0: the installed files are not those of training" in stage(report, "environment").reason
    assert stage(report, "rebuilt").mismatched > 0
    assert failed(verify(forged.path, "weather@1", home=yard.home, digest=yard.version.digest)) == ["integrity"]


def test_a_package_that_cannot_be_had_is_named(yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forge(files: dict[str, bytes | Path], manifest: Manifest) -> Manifest:
        locked = manifest.environment
        others = tuple(replace(one, version="9.9") if one.name == PACKAGE else one for one in locked.distributions)
        return replace(manifest, environment=replace(locked, distributions=others))

    monkeypatch.setenv("UV_OFFLINE", "1")
    report = verify(yard.resealed(tmp_path / "forged", forge).path, "forged", home=yard.home)
    assert failed(report) == ["environment", "rebuilt", "http single", "http batch", "bulk"]
    assert f"{PACKAGE} 9.9 cannot be installed here" in stage(report, "environment").reason
    assert "://" not in str(report)


def test_an_edited_module_under_recomputed_digests_is_found_by_its_answers(yard: Yard, tmp_path: Path) -> None:
    def edit(files: dict[str, bytes | Path], manifest: Manifest) -> Manifest:
        files["code/features.py"] = FEATURES.replace('convert(X["temp"])', 'convert(X["temp"]) + 1').encode()
        return manifest

    forged = yard.resealed(tmp_path / "forged", edit)
    report = verify(forged.path, "forged", home=yard.home, python=yard.python())
    assert stage(report, "integrity").passed
    assert {"rebuilt", "http single", "http batch", "bulk"} == set(failed(report))
    reason = stage(report, "rebuilt").reason
    assert re.search(r"row \d+ \(sample\), output 'predict.*': expected .*, got ", reason)
    assert re.search(r"the server does not take the version: .*row \d+ \(sample\)", stage(report, "http single").reason)

    known = verify(forged.path, "weather@1", home=yard.home, digest=yard.version.digest)
    assert failed(known) == ["integrity"]
    assert "manifest.json" in stage(known, "integrity").reason
    assert "is not the one that was recorded" in stage(known, "integrity").reason


def test_a_golden_answer_altered_under_recomputed_digests_is_found_with_row_expected_and_got(
    yard: Yard, tmp_path: Path
) -> None:
    recorded = yard.bundle.golden()
    true = float(recorded.single["predict_proba"][5, 0])

    def alter(files: dict[str, bytes | Path], manifest: Manifest) -> Manifest:
        single = {name: array.copy() for name, array in recorded.single.items()}
        single["predict_proba"][5, 0] = 0.123
        for name, raw in golden.encoded(replace(recorded, single=single), manifest.schema).items():
            files[f"golden/{name}"] = raw
        return manifest

    forged = yard.resealed(tmp_path / "forged", alter)
    report = verify(forged.path, "forged", home=yard.home, python=yard.python())
    (found,) = stage(report, "rebuilt").mismatches
    assert (found.row, found.origin, found.output) == (5, "sample", "predict_proba[cold]")
    assert found.expected == "0.123"
    assert float(found.got) == pytest.approx(true)
    assert stage(report, "rebuilt").mismatched == 1


def test_a_compiled_version_with_an_altered_answer_fails_in_process_too(tmp_path: Path) -> None:
    honest = compiled_bundles.write_compiled(tmp_path / "honest")
    assert failed(verify(honest, "toy", home=tmp_path / "home")) == []
    altered = compiled_bundles.write_compiled(tmp_path / "altered", shift=0.01)
    report = verify(altered.path, "toy", home=tmp_path / "home")
    assert failed(report) == ["in process", "http single", "http batch", "bulk"]
    assert "expected" in stage(report, "in process").reason
    assert "the server does not take the version" in stage(report, "http single").reason


def test_people_see_each_stage_and_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))
    honest = compiled_bundles.write_compiled(tmp_path / "honest")
    done = CliRunner().invoke(app, ["verify", str(honest.path)])
    assert done.exit_code == 0, done.output
    for words in ("integrity", "in process", "http single", "http batch", "bulk", "is proven"):
        assert words in done.stdout
    altered = compiled_bundles.write_compiled(tmp_path / "altered", shift=0.01)
    done = CliRunner().invoke(app, ["verify", str(altered.path)])
    assert done.exit_code == 1
    assert "is not proven: in process, http single, http batch, bulk" in done.stdout.replace("\n", " ")


def test_a_bundle_that_is_not_one_is_refused_with_the_reason(tmp_path: Path) -> None:
    report = verify(tmp_path, "nothing", home=tmp_path / "home")
    assert failed(report) == ["integrity"]
    assert "it has no manifest.json" in stage(report, "integrity").reason
