"""Removing what is no longer wanted, and collecting what nothing refers to."""
