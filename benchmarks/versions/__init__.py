"""Versions of data beside DVC, and the difference of two large tables."""
