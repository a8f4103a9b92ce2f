"""Profiles of live windows, and honest comparison of them with a reference."""
