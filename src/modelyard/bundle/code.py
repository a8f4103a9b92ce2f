"""The user's own code that a model needs: found, checked for secrets, and copied into the bundle."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from modelyard.bundle import git, secrets
from modelyard.bundle.origins import OWN, origin_of, source_of, true_name
from modelyard.bundle.pickling import References
from modelyard.domain.manifest import Code
from modelyard.errors import CannotPack

FOLDER = "code"
SCRIPT = "script"
PATCH = f"{SCRIPT}/changes.patch"
IGNORE = ".modelyardignore"
MODULE_BYTES = 1 << 20
TOTAL_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Captured:
    """The code of one artefact: what the manifest says of it, its files by path in the bundle, and what it imports.

    `imports` are the top-level modules of installed distributions that the artefact and its code need.
    """

    code: Code
    files: dict[str, bytes]
    imports: frozenset[str]


def capture(references: References) -> Captured:
    """Collect the user's modules among `references` and all that these import in turn, with what git says of them.

    The training script is kept beside them for the record; it is not needed to answer, so where it holds a secret or is
    too large it is left out and the manifest says so.

    Raises:
        CannotPack: a needed module holds what looks like a secret, is ignored, too large, or is compiled.
    """
    found = _walk(references.modules)
    files = {f"{FOLDER}/{_place(name, path)}": _checked(name, path) for name, path in found.modules.items()}
    if sum(map(len, files.values())) > TOTAL_BYTES:
        raise CannotPack(f"the model's own modules have more than {TOTAL_BYTES >> 20} MiB together: {_largest(files)}")
    script, left_out = _script(), dict[str, str]()
    if script is not None:
        _keep_if_clean(files, f"{SCRIPT}/{script.name}", script.read_bytes(), left_out)
    state = git.look([*found.modules.values(), *([script] if script else [])])
    if state is not None and state.patch:
        _keep_if_clean(files, PATCH, state.patch, left_out)
    code = Code(
        commit=state.commit if state else None,
        remote=state.remote if state else None,
        changed=state.changed if state else (),
        untracked=state.untracked if state else (),
        modules={name: f"{FOLDER}/{_place(name, path)}" for name, path in found.modules.items()},
        script=script.name if script else None,
        left_out=left_out,
    )
    return Captured(code, files, frozenset(found.imports))


@dataclass(slots=True)
class _Found:
    """The user's modules with their files, in order of name, and the installed top-level modules beside them."""

    modules: dict[str, Path] = field(default_factory=dict)
    imports: set[str] = field(default_factory=set)


def _walk(roots: Iterable[str]) -> _Found:
    """Follow imports from `roots` through the user's modules, packages' ``__init__`` included."""
    found, waiting, seen = _Found(), sorted(roots), set[str]()
    while waiting:
        name = true_name(waiting.pop())
        if not name or name in seen:
            continue
        seen.add(name)
        origin = origin_of(name)
        if origin == "index" and name.partition(".")[0] != OWN:
            found.imports.add(name.partition(".")[0])
        if origin != "user":
            continue
        waiting.append(name.rpartition(".")[0])
        path = source_of(name)
        if path is not None:
            found.modules[name] = path
            waiting += _imports(name, path)
    found.modules = dict(sorted(found.modules.items()))
    return found


def _imports(name: str, path: Path) -> list[str]:
    """Every module that the source names in an import, anywhere in it; names of things in modules too.

    A name that is no module is harmless: it has no file.
    """
    if path.suffix != ".py":
        return []
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return [imported for node in ast.walk(_parsed(name, path)) for imported in _named(node, package)]


def _parsed(name: str, path: Path) -> ast.AST:
    try:
        return ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise CannotPack(f"module {name!r} cannot be read: {error}") from error


def _named(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")
            above = parents[: len(parents) - node.level + 1]
            base = ".".join([*above, *([base] if base else [])])
        yield base
        # Only a user's package has to be followed further: what an installed one holds comes with it.
        if base and origin_of(base) == "user":
            yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def _place(name: str, path: Path) -> str:
    """The file of a module below the code folder.

    >>> _place("shop.features", Path("/x/shop/features.py")), _place("shop", Path("/x/shop/__init__.py"))
    ('shop/features.py', 'shop/__init__.py')
    """
    folder = PurePosixPath(*name.split("."))
    return str(folder / "__init__.py" if path.name == "__init__.py" else folder.with_suffix(".py"))


def _checked(name: str, path: Path) -> bytes:
    """The source of a needed module.

    Raises:
        CannotPack: it must not or cannot travel.
    """
    if path.suffix != ".py":
        raise CannotPack(
            f"the model needs module {name!r}, which is compiled ({path.name}) and on no index: "
            "publish it as a package and install it, or replace it"
        )
    source = path.read_bytes()
    if len(source) > MODULE_BYTES:
        raise CannotPack(f"module {name!r} has {len(source)} bytes; at most {MODULE_BYTES} travel with a model")
    if _ignored(path):
        raise CannotPack(f"the model needs module {name!r} ({path.name}), which {IGNORE} says must not travel")
    found = secrets.scan(source)
    if found:
        first = found[0]
        raise CannotPack(
            f"{path.name}:{first.line} looks like a secret ({first.kind}), and the model needs this module: read the "
            "secret from the environment instead, or end the line with '# pragma: allowlist secret' if it is none"
        )
    return source


def _ignored(path: Path) -> bool:
    """Whether an ignore file (gitignore syntax) in one of the folders above names the file."""
    from pathspec import GitIgnoreSpec

    for folder in path.resolve().parents:
        rules = folder / IGNORE
        if rules.is_file():
            spec = GitIgnoreSpec.from_lines(rules.read_text().splitlines())
            if spec.match_file(path.resolve().relative_to(folder)):
                return True
    return False


def _keep_if_clean(files: dict[str, bytes], place: str, content: bytes, left_out: dict[str, str]) -> None:
    """Add what is kept for the record only, or note why it is not."""
    name = PurePosixPath(place).name
    if len(content) > MODULE_BYTES:
        left_out[name] = f"{len(content)} bytes; at most {MODULE_BYTES} are kept"
        return
    found = secrets.scan(content, suffix=PurePosixPath(place).suffix)
    if found:
        left_out[name] = f"line {found[0].line} looks like a secret ({found[0].kind})"
        return
    files[place] = content


def _script() -> Path | None:
    """The training script, if the program is one: not a tool that was installed, nor Modelyard's own command."""
    named = getattr(sys.modules.get("__main__"), "__file__", None)
    if not named:
        return None
    path = Path(named).resolve()
    installed = path.is_relative_to(Path(sys.prefix).resolve()) or path.is_relative_to(Path(sys.base_prefix).resolve())
    own = path.is_relative_to(Path(__file__).resolve().parents[1])
    return None if installed or own or path.suffix != ".py" or not path.is_file() or _ignored(path) else path


def _largest(files: dict[str, bytes]) -> str:
    return ", ".join(sorted(files, key=lambda name: -len(files[name]))[:3])
