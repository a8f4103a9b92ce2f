"""Proving a version: rebuild its environment, start it as production would, replay training's answers everywhere."""

from modelyard.verification.verify import verify

__all__ = ["verify"]
