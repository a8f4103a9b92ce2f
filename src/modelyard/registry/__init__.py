"""Versions, aliases and reports in a metadata database; bundles in an object store."""
