"""Versions, aliases and reports in a metadata database; bundles in an object store."""

from modelyard.registry.registry import AliasChange, Model, Registry, StoredReport, Version

__all__ = ["AliasChange", "Model", "Registry", "StoredReport", "Version"]
