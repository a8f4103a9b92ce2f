from dataclasses import replace
from pathlib import Path

import pytest

from modelyard.bundle.trust import code_in
from modelyard.domain.manifest import Code, Manifest, NativeForm
from small_bundles import write_bundle


@pytest.fixture
def plain(tmp_path: Path) -> Manifest:
    return write_bundle(tmp_path / "b").manifest


def test_plain_data_runs_nothing(plain: Manifest) -> None:
    assert code_in(plain) == ()
    assert code_in(replace(plain, native=None)) == ()


def test_a_pickle_runs_code_whatever_the_manifest_says_of_it(plain: Manifest) -> None:
    liar = NativeForm("cloudpickle", "model/native.pkl", runs_code=False)
    assert "loading it runs code" in code_in(replace(plain, native=liar))[0]


def test_modules_and_foreign_types_are_listed(plain: Manifest) -> None:
    native = NativeForm("skops", "model/native.skops", ("sklearn.svm.SVC", "os.system"), runs_code=False)
    code = Code(modules={"steps": "code/steps.py"})
    listed = code_in(replace(plain, native=native, code=code))
    assert listed == ("model/native.skops (skops): it builds a os.system", "code/steps.py: module steps")
