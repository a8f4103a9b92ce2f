"""What of a foreign bundle would run on this machine, read from its manifest alone."""

from __future__ import annotations

from modelyard.domain.manifest import Manifest, NativeForm
from modelyard.errors import PolicyDenied

KNOWN_PACKAGES = frozenset({"lightgbm", "numpy", "pandas", "scipy", "sklearn", "xgboost"})
"""Packages whose own types skops may build: their code came from an index, not from the bundle."""


def code_in(manifest: Manifest) -> tuple[str, ...]:
    """Everything in the bundle that runs when its model is loaded, one line each; empty for a bundle of plain data.

    It goes by what the loader will do, not by what the manifest says of itself.
    """
    native = [] if manifest.native is None else _native_code(manifest.native)
    modules = [f"{path}: module {module}" for module, path in sorted(manifest.code.modules.items())]
    return (*native, *modules)


def require_trust(manifest: Manifest, *, trusted: bool) -> None:
    """Refuse a bundle that holds code, unless the user said that it may run.

    Raises:
        PolicyDenied: listing what would run.
    """
    lines = code_in(manifest)
    if lines and not trusted:
        raise PolicyDenied(
            f"{manifest.name}: this bundle is not registered here and holds code that would run on this machine when "
            "its model is loaded; nothing of it was run:\n  " + "\n  ".join(lines) + "\n"
            "If you trust where it came from, say --trust-code (trust_code=True in Python)"
        )


def _native_code(native: NativeForm) -> list[str]:
    if native.format == "onnx":
        return []
    if native.format == "cloudpickle" or native.runs_code:
        return [f"{native.path} ({native.format}): loading it runs code"]
    foreign = [name for name in native.trusted if name.partition(".")[0] not in KNOWN_PACKAGES]
    return [f"{native.path} ({native.format}): it builds a {name}" for name in foreign]
