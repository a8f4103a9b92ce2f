"""Ours: a reference profile, and one comparison with it."""

from __future__ import annotations

import sys

from checking import check

from modelyard.monitoring.comparison import compare
from modelyard.monitoring.reference import Reference

check(sys.argv, Reference.of_table, lambda reference, current: len(compare(reference, current).moved))
