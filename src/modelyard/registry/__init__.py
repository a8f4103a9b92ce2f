"""Versions, aliases and reports in a metadata database; bundles in an object store."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelyard.registry.datasets import Datasets, DatasetVersion
    from modelyard.registry.registry import AliasChange, Model, Registry, StoredReport, Version

__all__ = ["AliasChange", "DatasetVersion", "Datasets", "Model", "Registry", "StoredReport", "Version"]

_OF_DATASETS = {"DatasetVersion", "Datasets"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: datasets need nothing of bundles."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'datasets' if name in _OF_DATASETS else 'registry'}"), name)
