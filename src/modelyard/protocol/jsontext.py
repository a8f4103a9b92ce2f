"""JSON text on every entrance: strict, with the bare words NaN and Infinity understood.

The fast parser refuses the bare words, as the JSON standard does. Clients send them all the same, so a body that it
refuses and that holds one of the words is read again by the standard library, under the same rules otherwise.
"""

from __future__ import annotations

import json
import math
from typing import Any, TypeVar

import msgspec

from modelyard.errors import InvalidRequest

Document = TypeVar("Document")

_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def parse(body: bytes) -> Any:
    """The JSON document in `body`.

    Raises:
        InvalidRequest: when it is not JSON, not UTF-8, nested too deeply or has a number beyond double precision.

    >>> parse(b'{"x": [1, NaN]}')
    {'x': [1, nan]}
    """
    return parse_as(body, _ANY)


def parse_as(body: bytes, decoder: msgspec.json.Decoder[Document]) -> Document:
    """The JSON document in `body` as the decoder's type.

    Raises:
        InvalidRequest: as `parse` does, and when a member is missing or has another type.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the body does not have the expected form: {_sentence(error)}") from None
    except msgspec.DecodeError as error:
        if b"NaN" in body or b"Infinity" in body:
            return _parse_with_words(body, decoder)
        raise InvalidRequest(f"the body is not valid JSON: {_sentence(error)}") from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not valid UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None


def write(document: Any, *, words: bool = False) -> bytes:
    """`document` as JSON. NaN and infinities become null, or the bare words with `words`.

    >>> write([1.5, float("nan")]), write([float("inf")], words=True)
    (b'[1.5,null]', b'[Infinity]')
    """
    if words:
        return json.dumps(msgspec.to_builtins(document), ensure_ascii=False, separators=(",", ":")).encode()
    return msgspec.json.encode(document)


def _parse_with_words(body: bytes, decoder: msgspec.json.Decoder[Document]) -> Document:
    try:
        document = json.loads(body.decode(), parse_float=_finite)
        msgspec.json.encode(document)  # refuses lone surrogates, as the fast parser does
        return msgspec.convert(document, decoder.type)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the body does not have the expected form: {_sentence(error)}") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {_sentence(error)}") from None


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"number out of range: {text[:40]}")
    return value


def _sentence(error: Exception) -> str:
    return str(error).removeprefix("JSON is malformed: ")
