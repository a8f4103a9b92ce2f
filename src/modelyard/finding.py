"""Which bundle a user means, for commands that start fast: nothing here imports what opens a model."""

from __future__ import annotations

from pathlib import Path

from modelyard.bundle.layout import Bundle, open_bundle
from modelyard.bundle.trust import require_trust
from modelyard.home import Home


def find_bundle(ref: str | Path, home: Home, *, trust_code: bool = False) -> Bundle:
    """The bundle that `ref` names, in the registry or as a folder; checked either way, and about to be computed with.

    Raises:
        PolicyDenied: the folder's bundle is not registered here and its model would run code.
        ModelNotFound, VersionNotFound, AliasNotFound: there is no such version.
        BundleRefused: its files are not those that were packed.
    """
    if not names_folder(ref):
        from modelyard.registry import Registry

        with Registry.open(home) as registry:
            return registry.bundle(str(ref))
    bundle = open_bundle(Path(ref))
    # A compiled form is data; what the bundle holds of code is then not opened.
    if bundle.manifest.runtime == "python":
        require_trust(bundle.manifest, trusted=trust_code or _is_registered(bundle, home))
    return bundle


def find_profile(ref: str | Path, home: Home) -> dict[str, object]:
    """The reference profile of the version that `ref` names, in the registry or as a folder; nothing is computed.

    Raises:
        ModelNotFound, VersionNotFound, AliasNotFound: there is no such version.
        BundleRefused: its files are not those that were packed.
    """
    if names_folder(ref):
        return open_bundle(Path(ref)).profile()
    from modelyard.registry import Registry

    with Registry.open(home) as registry:
        return registry.bundle(str(ref)).profile()


def _is_registered(bundle: Bundle, home: Home) -> bool:
    from modelyard.registry import Registry

    with Registry.open(home) as registry:
        return registry.holds(bundle.digest)


def names_folder(ref: str | Path) -> bool:
    """Whether `ref` is the path of a bundle rather than a version's name."""
    return isinstance(ref, Path) or "/" in ref or Path(ref).is_dir()
