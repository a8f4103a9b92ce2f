"""The environment of a version: what was installed, and what the numbers depend on besides."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Distribution:
    """One installed distribution.

    `wheels` are the SHA-256 digests (hex) that an index names for its files, empty where none is known; `content` is a
    BLAKE3 digest (hex) over the installed files themselves, which works for any origin. No address is kept.
    """

    name: str
    version: str
    wheels: tuple[str, ...] = ()
    content: str = ""


@dataclass(frozen=True, slots=True)
class Environment:
    """What to rebuild, and the facts beside it that may move a result.

    `python` is the full version, `platform` a wheel platform such as ``linux_x86_64``, `threads` the size of each
    thread pool while training's answers were recorded, `blas` the linear-algebra library with version and kernel.
    """

    python: str
    platform: str
    distributions: tuple[Distribution, ...]
    threads: dict[str, int] = field(default_factory=dict)
    blas: str = ""
