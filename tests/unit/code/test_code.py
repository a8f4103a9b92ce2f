"""The user's own code travels with the model; secrets, compiled and ignored modules do not."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np  # noqa: F401  # loads its compiled modules
import pytest

from modelyard.bundle import code, git, origins, secrets
from modelyard.bundle.pickling import References
from modelyard.errors import CannotPack

AWS_KEY = "AKIA" + "QWERTYUIOPASDFGH"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of user modules that can be imported, forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def write(project: Path, name: str, text: str = "") -> Path:
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def captured(*modules: str) -> code.Captured:
    return code.capture(References(frozenset(modules), ()))


def test_a_module_and_all_that_it_imports_of_the_users_own_is_captured(project: Path) -> None:
    write(project, "shopfeatures.py", "import math\nimport numpy as np\nfrom shoplib import clean\n")
    write(project, "shoplib/__init__.py")
    write(project, "shoplib/clean.py", "from . import rules\nfrom .deep.more import x\n")
    write(project, "shoplib/rules.py", "def f():\n    import pandas\n")
    write(project, "shoplib/deep/__init__.py")
    write(project, "shoplib/deep/more.py", "x = 1\n")
    write(project, "shoplib/unused.py")
    found = captured("shopfeatures")
    assert sorted(found.files) == [
        "code/shopfeatures.py",
        "code/shoplib/__init__.py",
        "code/shoplib/clean.py",
        "code/shoplib/deep/__init__.py",
        "code/shoplib/deep/more.py",
        "code/shoplib/rules.py",
    ]
    assert found.imports == {"numpy", "pandas"}
    assert found.code.modules["shoplib.deep"] == "code/shoplib/deep/__init__.py"


def test_a_secret_in_a_needed_module_stops_packing_and_is_not_repeated(project: Path) -> None:
    write(project, "leaky.py", f'x = 1\nkey = "{AWS_KEY}"\n')
    with pytest.raises(CannotPack, match=r"leaky\.py:2 looks like a secret \(AWS Access Key\)") as refused:
        captured("leaky")
    assert AWS_KEY not in str(refused.value)


def test_a_line_that_is_said_to_be_harmless_travels(project: Path) -> None:
    write(project, "harmless.py", f'key = "{AWS_KEY}"  # pragma: allowlist secret\n')
    assert "code/harmless.py" in captured("harmless").files


def test_an_ignored_module_stops_packing(project: Path) -> None:
    write(project, ".modelyardignore", "private*.py\n")
    write(project, "private_rules.py")
    with pytest.raises(CannotPack, match="must not travel"):
        captured("private_rules")


def test_a_module_too_large_stops_packing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "MODULE_BYTES", 100)
    write(project, "large.py", "#" * 101)
    with pytest.raises(CannotPack, match="101 bytes"):
        captured("large")


def test_git_says_what_the_commit_does_not_hold(project: Path) -> None:
    def run(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(project), *identity, *arguments], check=True, capture_output=True)

    run("init", "-q")
    write(project, "kept.py", "import edited, added\n")
    write(project, "edited.py", "x = 1\n")
    run("add", ".")
    run("commit", "-q", "-m", "first")
    run("remote", "add", "origin", "https://me:token@git.example.org/team/shop.git")
    write(project, "edited.py", "x = 2\n")
    write(project, "added.py", "y = 1\n")
    found = captured("kept")
    assert found.code.changed == ("edited.py",)
    assert found.code.untracked == ("added.py",)
    assert found.code.remote == "https://git.example.org/team/shop.git"
    assert found.code.commit is not None
    assert b"+x = 2" in found.files["script/changes.patch"]
    assert found.files["code/edited.py"] == b"x = 2\n"


def test_without_a_repository_nothing_is_said_of_git(project: Path) -> None:
    write(project, "alone.py")
    found = captured("alone")
    assert (found.code.commit, found.code.changed, found.code.untracked) == (None, (), ())


def test_nothing_of_the_users_own_is_nothing_captured() -> None:
    found = captured("numpy.linalg", "json")
    assert not found.code.modules
    assert found.imports == {"numpy"}


def test_the_library_that_reads_secrets_is_not_told_to_ask_anyone() -> None:
    assert [secret.kind for secret in secrets.scan(f'k = "{AWS_KEY}"\n'.encode())] == ["AWS Access Key"]


def test_a_path_is_no_remote() -> None:
    assert git.without_credentials("file:///srv/shop.git") is None
    assert git.without_credentials("../shop.git") is None


def test_the_standard_library_and_an_index_are_told_from_the_users_own(project: Path) -> None:
    write(project, "mine.py")
    assert [origins.origin_of(name) for name in ("json", "numpy", "mine")] == ["standard library", "index", "user"]


def test_a_compiled_module_that_goes_by_its_last_name_alone_is_of_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As scikit-learn's ``sklearn._loss._loss`` calls itself ``_loss`` in some releases."""
    monkeypatch.setitem(sys.modules, "_umath_linalg_alone", sys.modules["numpy.linalg._umath_linalg"])
    found = captured("_umath_linalg_alone")
    assert (found.files, found.imports) == ({}, {"numpy"})
