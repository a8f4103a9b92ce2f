from dataclasses import replace
from pathlib import Path

import pytest

from modelyard.bundle.trust import code_in, require_trust
from modelyard.domain.manifest import Code, Manifest, NativeForm
from modelyard.errors import PolicyDenied
from modelyard.finding import find_bundle
from modelyard.home import Home
from modelyard.registry import Registry
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


def test_a_bundle_with_code_is_refused_unless_it_is_trusted(tmp_path: Path, plain: Manifest) -> None:
    foreign = write_bundle(tmp_path / "foreign", runs_code=True).manifest
    with pytest.raises(PolicyDenied, match=r"model/native\.skops.*runs code(.|\n)*--trust-code"):
        require_trust(foreign, trusted=False)
    require_trust(foreign, trusted=True)
    require_trust(plain, trusted=False)


def test_a_folder_is_trusted_when_its_bundle_is_registered_here(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    foreign = write_bundle(tmp_path / "foreign", runs_code=True)
    with pytest.raises(PolicyDenied, match="not registered here"):
        find_bundle(foreign.path, home)
    assert find_bundle(foreign.path, home, trust_code=True).digest == foreign.digest
    with Registry.open(home) as registry:
        registry.register(foreign)
    assert find_bundle(foreign.path, home).digest == foreign.digest
