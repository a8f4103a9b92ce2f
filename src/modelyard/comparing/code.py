"""The code of a version as text: all of it where its repository is at hand, else what was kept."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from modelyard.bundle.git import run_git
from modelyard.bundle.layout import Bundle
from modelyard.comparing.differing import Code
from modelyard.runs.repository import LOADED, PATCH, UNTRACKED

_TEXT_BYTES = 1 << 20


def files_of(folder: Path) -> dict[str, bytes]:
    """What a run kept of its code, by its name among the files of the run."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.is_relative_to(folder / "code")
    }


def of_bundle(bundle: Bundle) -> Code:
    """The modules that the model needs and the script that packed it."""
    files = {
        name.partition("/")[2]: _text((bundle.path / name).read_bytes())
        for name in bundle.manifest.files
        if name.startswith(("code/", "script/")) and not name.endswith("changes.patch")
    }
    whole = {name: text for name, text in files.items() if text is not None}
    return Code(whole, "what the versions keep", bundle.manifest.code.commit)


def pair(
    repository: Path,
    before: tuple[Bundle, str | None, Mapping[str, bytes]],
    after: tuple[Bundle, str | None, Mapping[str, bytes]],
) -> tuple[Code, Code]:
    """The code of two versions, each given by bundle, commit of its run, and what the run kept.

    Both are taken from the repository where it has both commits, so that they can be compared; else from the bundles.
    """
    commits = (before[1], after[1])
    if all(commit is not None and _has(repository, commit) for commit in commits):
        paths = _touched(repository, str(commits[0]), str(commits[1]), before[2], after[2])
        codes = [_at(repository, str(commit), kept, paths) for _, commit, kept in (before, after)]
        return codes[0], codes[1]
    found = [_kept(bundle, commit, kept) for bundle, commit, kept in (before, after)]
    return found[0], found[1]


def _has(repository: Path, commit: str) -> bool:
    return run_git(repository, "cat-file", "-e", f"{commit}^{{commit}}") is not None


def _touched(
    repository: Path, one: str, other: str, before: Mapping[str, bytes], after: Mapping[str, bytes]
) -> tuple[str, ...]:
    """Files that may differ: between the commits, or changed or untracked in either run."""
    between = run_git(repository, "diff", "--name-only", "-z", "--no-renames", one, other) or b""
    names = {name for name in between.decode("utf-8", "surrogateescape").split("\0") if name}
    for kept in (before, after):
        names |= set(_patched(kept.get(PATCH, b"")))
        names |= set(_below(kept, UNTRACKED)) | set(_below(kept, LOADED))
    return tuple(sorted(names))


def _patched(patch: bytes) -> Iterable[str]:
    for line in patch.decode("utf-8", "surrogateescape").splitlines():
        if line.startswith(("--- a/", "+++ b/")):
            yield line[6:].split("\t")[0]


def _below(kept: Mapping[str, bytes], place: str) -> dict[str, bytes]:
    return {name.removeprefix(f"{place}/"): raw for name, raw in kept.items() if name.startswith(f"{place}/")}


def _at(repository: Path, commit: str, kept: Mapping[str, bytes], paths: Iterable[str]) -> Code:
    """Files at a commit, with the changes and the untracked files of the run."""
    top = run_git(repository, "rev-parse", "--show-toplevel")
    root = Path(top.decode().rstrip("\n")) if top else repository
    raw: dict[str, bytes] = {}
    for path in paths:
        shown = run_git(root, "show", f"{commit}:{path}")
        if shown is not None:
            raw[path] = shown
    missing: list[str] = []
    if PATCH in kept:
        raw, missing = _with_patch(raw, kept[PATCH])
    raw |= _below(kept, LOADED) | _below(kept, UNTRACKED)
    texts = {path: _text(content) for path, content in raw.items()}
    return Code(
        {path: text for path, text in texts.items() if text is not None},
        "the repository, with the changes that were in no commit",
        commit,
        (*missing, *(f"{path} (no text)" for path, text in texts.items() if text is None)),
    )


def _with_patch(raw: Mapping[str, bytes], patch: bytes) -> tuple[dict[str, bytes], list[str]]:
    """The files after the patch, applied in a folder of its own."""
    with TemporaryDirectory(prefix="modelyard-") as name:
        folder = Path(name)
        for path, content in raw.items():
            if not _is_inside(folder, path):
                continue
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        # Without the ceiling git would look for a repository above, and leave out what lies outside of that.
        done = subprocess.run(
            ["git", "apply", "--whitespace=nowarn", "-"],
            input=patch,
            cwd=folder,
            env={"PATH": _path(), "GIT_CEILING_DIRECTORIES": str(folder.parent), "LC_ALL": "C"},
            capture_output=True,
            check=False,
            timeout=60,
        )
        if done.returncode != 0:
            return dict(raw), ["changes in no commit: the patch does not apply"]
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}, []


def _path() -> str:
    import os

    return os.environ.get("PATH", os.defpath)


def _is_inside(folder: Path, path: str) -> bool:
    return (folder / path).resolve().is_relative_to(folder.resolve())


def _kept(bundle: Bundle, commit: str | None, kept: Mapping[str, bytes]) -> Code:
    """Without the repository: modules and script of the bundle, files that the run kept, and its patch as it is."""
    code = of_bundle(bundle)
    files = dict(code.files)
    for path, content in {**_below(kept, LOADED), **_below(kept, UNTRACKED)}.items():
        text = _text(content)
        if text is not None:
            files[path] = text
    patch = _text(kept.get(PATCH, b""))
    if patch:
        files["(changes in no commit)"] = patch
    return Code(
        files, "what versions and runs keep: the repository with both commits is not here", commit or code.commit
    )


def _text(raw: bytes) -> str | None:
    if len(raw) > _TEXT_BYTES or b"\0" in raw:
        return None
    return raw.decode("utf-8", "replace")
