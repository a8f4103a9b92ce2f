"""Bulk prediction: whole files, streamed through the same runtime that answers online."""

from modelyard.scoring.score import Scored, score_file

__all__ = ["Scored", "score_file"]
