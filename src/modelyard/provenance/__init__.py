"""Lineage: what a thing was made from and what became of it, gathered, as text and as a picture."""
