"""Verify a version: rebuild its environment, start it as production would, replay its golden set."""
