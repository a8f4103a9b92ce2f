"""Bulk prediction of whole files, streaming."""
