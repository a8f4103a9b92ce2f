"""Names: of models, versions, aliases and deployments, and of every kind of thing that is kept."""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

from modelyard.errors import InvalidRequest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_name(name: str, what: str = "model") -> str:
    """Return `name` if it can name a model, alias or deployment.

    Letters, digits, dot, dash and underscore; it starts with a letter or digit and has at most 128 of them,
    so that it is safe in a path, a URL and a file name.

    Raises:
        InvalidRequest: otherwise.

    >>> check_name("flights-delay")
    'flights-delay'
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} cannot name a {what}: use letters, digits, '.', '-' and '_', "
            "starting with a letter or digit, 128 at most"
        )
    return name


@dataclass(frozen=True, slots=True)
class Ref:
    """What a user writes to name a version: ``name``, ``name@3`` or ``name@champion``.

    `version` and `alias` are never both set; with neither, the newest version is meant.

    >>> str(Ref.parse("flights-delay@3")), Ref.parse("flights-delay@champion").alias
    ('flights-delay@3', 'champion')
    """

    model: str
    version: int | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Ref":
        """Read ``name[@version|@alias]``.

        Raises:
            InvalidRequest: when the name or what follows the ``@`` is malformed.
        """
        model, at, rest = text.partition("@")
        check_name(model)
        if not at:
            return cls(model)
        if rest.isdecimal() and rest.isascii():
            if int(rest) < 1:
                raise InvalidRequest(f"{text!r}: versions are numbered from 1")
            return cls(model, version=int(rest))
        return cls(model, alias=check_name(rest, "alias"))

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.model}@{self.version}"
        return f"{self.model}@{self.alias}" if self.alias else self.model


Kind: TypeAlias = Literal["model", "data", "run"]
"""What can be named: a version of a model, a version of data, a run."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a user writes where a version of a model, a version of data or a run may be meant.

    ``flights-delay@3`` is a version of a model, ``data:flights@1`` one of data, ``run:20260412-081503-9f2c11`` a run;
    ``model:flights-delay@3`` says what goes without saying.

    >>> Named.parse("flights-delay@3")
    Named(kind='model', which='flights-delay@3')
    >>> str(Named.parse("data:flights@1")), str(Named.parse("model:flights-delay@3"))
    ('data:flights@1', 'flights-delay@3')
    """

    kind: Kind
    which: str

    @classmethod
    def parse(cls, text: str) -> "Named":
        """Read ``[model:|data:|run:]REF``; what REF names is looked up by whoever keeps that kind.

        Raises:
            InvalidRequest: there is no such kind, or nothing follows it.
        """
        before, colon, rest = text.partition(":")
        kind, which = (before, rest) if colon else ("model", text)
        if kind not in get_args(Kind) or not which:
            raise InvalidRequest(f"{text!r} names nothing: write NAME@3, data:NAME@3 or run:ID")
        return cls(cast(Kind, kind), which)

    def __str__(self) -> str:
        return self.which if self.kind == "model" else f"{self.kind}:{self.which}"
