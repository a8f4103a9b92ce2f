"""What is in a file, told by how its name ends."""

from __future__ import annotations

from collections.abc import Iterable

from modelyard.datasets.tree import Entry

FORMATS = {".csv": "csv", ".csv.gz": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet"}
"""What a file's name ends with, and what is then in it."""

_IMAGES = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".gif": "gif",
    ".webp": "webp",
    ".bmp": "bmp",
    ".tif": "tiff",
}


def format_of(name: str) -> str | None:
    """What is in a file of that name: ``csv``, ``parquet``, or no table.

    >>> format_of("2013/march.csv.gz"), format_of("notes.txt")
    ('csv', None)
    """
    return next((form for ending, form in FORMATS.items() if name.lower().endswith(ending)), None)


def image_kind(name: str) -> str | None:
    """The kind of image that is in a file of that name, or none.

    >>> image_kind("cats/1.JPG"), image_kind("notes.txt")
    ('jpeg', None)
    """
    return next((kind for ending, kind in _IMAGES.items() if name.lower().endswith(ending)), None)


def can_be_described(entries: Iterable[Entry]) -> bool:
    """Whether any of these files may be a table or an image."""
    endings = (*FORMATS, *_IMAGES)
    return any(entry.name.lower().endswith(endings) for entry in entries)
