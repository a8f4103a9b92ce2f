"""Writing an environment down, rebuilding it, and telling where one differs."""

import hashlib
import platform
import subprocess
import sys
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from modelyard.bundle import distributions, environment, uv
from modelyard.domain.environment import Distribution, Environment
from modelyard.errors import EnvironmentFailed, InvalidRequest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Keeps what is remembered apart, but uv's cache of wheels where it is."""
    monkeypatch.setenv("UV_CACHE_DIR", uv.run(["cache", "dir"]).strip())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def put(site: Path, name: str, version: str, files: dict[str, str], requires=(), origin: str | None = None) -> None:
    """A distribution as an installer leaves it."""
    records = []
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
        digest = urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        records.append(f"{path},sha256={digest},{len(text)}")
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"] + [f"Requires-Dist: {one}" for one in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "RECORD").write_text("\n".join([*records, f"{info.name}/RECORD,,"]) + "\n")
    if origin is not None:
        (info / "direct_url.json").write_text(origin)


@pytest.fixture
def site(tmp_path):
    put(
        tmp_path,
        "trees",
        "1.0",
        {"trees/__init__.py": "x = 1\n", "_fast.cpython-311.so": ""},
        ["arrays>=2", "gui; extra=='ui'"],
    )
    put(
        tmp_path,
        "arrays",
        "2.1",
        {"arrays.py": ""},
        ["compat[all]; python_version >= '3'", "win; sys_platform == 'win32'"],
    )
    put(tmp_path, "compat", "0.1", {"compat/__init__.py": ""}, ["extras-part; extra == 'all'"])
    put(tmp_path, "extras-part", "5", {"extras_part.py": ""})
    put(tmp_path, "gui", "9", {"gui.py": ""})
    put(tmp_path, "mine", "0.0", {}, origin='{"url": "file:///somewhere", "dir_info": {"editable": true}}')
    return tmp_path


def names(found) -> list[str]:
    return [one.name for one in found]


def test_modules_are_traced_to_their_distributions(site):
    catalogue = distributions.installed([str(site)])
    assert distributions.providers(["trees", "_fast", "arrays", "nowhere"], catalogue) == (
        {"trees", "arrays"},
        {"nowhere"},
    )


def test_dependencies_are_followed_with_markers_and_extras(site):
    catalogue = distributions.installed([str(site)])
    found = distributions.closed_over_dependencies(["trees"], catalogue)
    assert names(found) == ["arrays", "compat", "extras-part", "trees"]


def test_what_is_not_installed_is_said(site):
    with pytest.raises(EnvironmentFailed, match="'forest', which is not installed here"):
        distributions.closed_over_dependencies(["forest"], distributions.installed([str(site)]))


def test_a_distribution_from_a_local_folder_is_known_as_such(site):
    catalogue = distributions.installed([str(site)])
    assert catalogue["mine"].is_local
    assert not catalogue["trees"].is_local


def test_the_content_digest_moves_with_any_byte_and_names_the_file(site):
    before = distributions.installed([str(site)])["trees"]
    digest = before.content()
    assert before.content() == digest
    assert before.edited_files() == ()
    (site / "trees/__init__.py").write_text("x = 2\n")
    after = distributions.installed([str(site)])["trees"]
    assert after.content() != digest
    assert after.edited_files() == ("trees/__init__.py",)


def test_the_content_digest_does_not_depend_on_place_or_compiled_caches(site, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    put(other, "trees", "1.0", {"trees/__init__.py": "x = 1\n", "_fast.cpython-311.so": ""})
    (other / "trees/__pycache__").mkdir()
    (other / "trees/__pycache__/__init__.cpython-311.pyc").write_bytes(b"anything")
    here, there = (distributions.installed([str(place)])["trees"] for place in (site, other))
    assert here.content() == there.content()


def test_this_process_is_locked_with_dependencies_hashes_and_facts():
    import sklearn.linear_model  # noqa: F401

    locked = environment.lock(["sklearn", "json"], ["skops"])
    by_name = {one.name: one for one in locked.distributions}
    assert {"scikit-learn", "numpy", "scipy", "joblib", "threadpoolctl", "skops"} <= set(by_name)
    assert "pytest" not in by_name
    assert locked.python == platform.python_version()
    assert all(len(one.content) == 64 for one in locked.distributions)
    assert locked.threads["openblas"] >= 1
    assert locked.blas.startswith("openblas")
    assert environment.lock(["sklearn", "json"], ["skops"]) == locked


def test_what_is_written_names_no_address():
    text = environment.requirements(environment.lock(["threadpoolctl"]))
    assert "threadpoolctl==" in text
    assert "://" not in text


def test_a_module_amid_installed_packages_that_nobody_owns_cannot_be_locked(tmp_path, monkeypatch):
    place = tmp_path / "site-packages"
    place.mkdir()
    (place / "stray_module.py").write_text("")
    monkeypatch.syspath_prepend(str(place))
    __import__("stray_module")
    with pytest.raises(EnvironmentFailed, match="'stray_module', which lies among the installed packages"):
        environment.lock(["stray_module"])
    del sys.modules["stray_module"]


@pytest.fixture(scope="module")
def small():
    return environment.lock(["threadpoolctl", "packaging"])


def test_it_is_rebuilt_the_same_and_used_again(small, tmp_path):
    said = []
    python = environment.rebuild(small, tmp_path / "env", progress=said.append)
    assert environment.differences(small, python) == ()
    assert environment.remarks(small, python) == ()
    assert subprocess.run([python, "-I", "-c", "import threadpoolctl, packaging"], check=False).returncode == 0
    assert environment.rebuild(small, tmp_path / "env", progress=said.append) == python
    assert len(said) == 2


def test_a_half_built_one_is_built_again(small, tmp_path):
    (tmp_path / "env/bin").mkdir(parents=True)
    (tmp_path / "env/bin/python").write_text("not one")
    python = environment.rebuild(small, tmp_path / "env")
    assert environment.differences(small, python) == ()


def test_the_cached_one_is_shared_by_its_contents(small, tmp_path):
    first = environment.cached(small, tmp_path)
    assert environment.cached(small, tmp_path) == first
    other = Environment(small.python, small.platform, small.distributions[:1])
    assert environment.cached(other, tmp_path) != first


def test_an_edited_file_in_it_is_noticed(small, tmp_path):
    python = environment.rebuild(small, tmp_path / "env")
    file = next((tmp_path / "env").rglob("threadpoolctl.py"))
    text = file.read_text()
    file.unlink()  # it is a hard link to the file in uv's cache
    file.write_text(text + "\n")
    (said,) = environment.differences(small, python)
    assert "threadpoolctl" in said
    assert "changed since it was installed: threadpoolctl.py" in said


def test_another_version_is_noticed(small, tmp_path):
    python = environment.rebuild(small, tmp_path / "env")
    pin = small.distributions[0]
    wanted = Environment(
        small.python,
        small.platform,
        (Distribution(pin.name, "99.1"), Distribution("absent", "1"), *small.distributions[1:]),
    )
    assert environment.differences(wanted, python) == (
        f"{pin.name} is {pin.version} here, 99.1 in training",
        "absent 1 is not installed here",
    )


def test_what_cannot_be_had_is_named(small, tmp_path, monkeypatch):
    monkeypatch.setenv("UV_OFFLINE", "1")
    wanted = Environment(small.python, small.platform, (Distribution("surely-no-such-thing", "1.0"),))
    with pytest.raises(EnvironmentFailed, match=r"surely-no-such-thing 1\.0 cannot be installed here") as caught:
        environment.rebuild(wanted, tmp_path / "env")
    assert "://" not in str(caught.value)


def test_a_python_that_is_not_there_is_named(small, tmp_path):
    with pytest.raises(EnvironmentFailed, match=r"trained on Python 3\.2\.1, and no Python 3\.2 is on this machine"):
        environment.rebuild(Environment("3.2.1", small.platform, ()), tmp_path / "env")


@pytest.mark.parametrize("text", ["six", "six>=1", "six==1,!=2", "==", "six==1.*", "a b"])
def test_an_override_has_to_say_which_version(small, text):
    with pytest.raises(InvalidRequest, match="NAME==VERSION"):
        environment.overridden(small, [text])


def test_an_override_of_something_else_lists_what_there_is(small):
    with pytest.raises(InvalidRequest, match="'six' is not in this version's environment; there are: packaging"):
        environment.overridden(small, ["six==1.0"])


def test_what_is_read_quickly_is_what_the_whole_metadata_says():
    """Of everything that is installed here."""
    catalogue = distributions.installed()
    assert len(catalogue) > 50
    for one in catalogue.values():
        assert one.name == distributions.canonicalize_name(one._source.metadata["Name"])
        assert one.version == one._source.version
        assert one.modules == {distributions._module_name(file.path) for file in one.files} - {""}


def test_odd_metadata_is_read_all_the_same(tmp_path):
    put(
        tmp_path,
        "plain",
        "1.0",
        {"plain/__init__.py": "", "plain/a,b.py": "", "single.py": "", "x.so": "", "d.pth": ""},
    )
    put(tmp_path, "windows", "2.0", {"windows.py": ""})
    file = tmp_path / "windows-2.0.dist-info" / "METADATA"
    file.write_bytes(b"Metadata-Version: 2.1\r\nname: Windows\r\nVersion:  2.0\r\n\r\nName: other\r\nVersion: 9\r\n")
    nameless = tmp_path / "nameless-1.dist-info"
    nameless.mkdir()
    (nameless / "METADATA").write_text("Metadata-Version: 2.1\n\nName: described\n")
    found = distributions.installed([str(tmp_path)])
    assert {one.name: (one.version, one.modules) for one in found.values()} == {
        "plain": ("1.0", {"plain", "single", "x"}),
        "windows": ("2.0", {"windows"}),
    }
