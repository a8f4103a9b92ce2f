"""What an MLflow model's requirements ask for, and what of it cannot be rebuilt."""

from pathlib import Path

import pytest

from modelyard.errors import BundleRefused, EnvironmentFailed, InvalidRequest
from modelyard.mlflow.requirements import interpreter_for, stated


def model(folder: Path, requirements: str, **more: str) -> Path:
    (folder / "requirements.txt").write_text(requirements)
    for name, text in more.items():
        (folder / name.replace("_", ".", 1)).write_text(text)
    return folder


def test_lines_are_read_as_pip_reads_them(tmp_path: Path) -> None:
    text = (
        "# by MLflow\nmlflow==3.1.0\nnumpy \\\n  >=2  # why\npandas==2.3 --hash=sha256:ab\n\nfoo; python_version<'3'\n"
    )
    found = stated(model(tmp_path, text), "3.11.4")
    assert found.requirements == ("mlflow==3.1.0", "numpy    >=2", "pandas==2.3", "foo; python_version<'3'")
    assert found.names == ("mlflow", "numpy", "pandas")
    assert found.without({"mlflow"}).names == ("numpy", "pandas")


def test_what_no_index_can_give_is_refused_and_can_be_exchanged(tmp_path: Path) -> None:
    for line in ("-e .", "code/own-1.0-py3-none-any.whl", "own @ git+https://example.org/own", "./own", "-r more.txt"):
        with pytest.raises(BundleRefused, match="--with NAME==VERSION"):
            stated(model(tmp_path, f"numpy\n{line}\n"), None)
    named = model(tmp_path, "numpy==1.20\nown @ git+https://example.org/own\n")
    assert stated(named, None, ["own==2.0", "numpy==2.1"]).requirements == ("own==2.0", "numpy==2.1")
    with pytest.raises(InvalidRequest, match="no requirement"):
        stated(named, None, ["==2"])


def test_where_packages_come_from_is_not_decided_by_the_model(tmp_path: Path) -> None:
    found = stated(model(tmp_path, "--extra-index-url https://elsewhere.example/simple\nnumpy\n"), None)
    assert found.requirements == ("numpy",)
    assert found.notes == (
        "passed over --extra-index-url in its requirements: where packages come from is this machine's setting",
    )


def test_constraints_beside_the_requirements_are_kept_and_others_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("numpy<2.2\n")
    assert stated(model(tmp_path, "numpy\n-c constraints.txt\n"), None).constraints == ("numpy<2.2",)
    with pytest.raises(BundleRefused, match="no file within it"):
        stated(model(tmp_path, "numpy\n-c ../secret.txt\n"), None)


def test_an_environment_of_conda_is_read_where_there_is_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "conda.yaml").write_text(
        "dependencies:\n- python=3.12.1\n- pip<=23\n- conda-forge::scipy=1.14\n- pip:\n  - mlflow==2.9\n  - numpy<3\n"
    )
    found = stated(tmp_path, None)
    assert found.requirements == ("scipy==1.14", "mlflow==2.9", "numpy<3")
    assert (found.python, len(found.notes)) == ("3.12.1", 1)


def test_a_python_that_is_too_old_or_not_here_is_said(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"made with Python 3\.8\.1"):
        interpreter_for("3.8.1")
    with pytest.raises(EnvironmentFailed, match=r"no Python 3\.99 is on this machine"):
        interpreter_for("3.99.0")
    with pytest.raises(InvalidRequest):
        interpreter_for("newest")
