"""Recorded runs: what a training program was, what it read, what it said and what came of it."""
