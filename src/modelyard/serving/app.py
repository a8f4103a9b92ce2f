"""The HTTP entrance: requests to calls and actions, answers to replies."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import cast
from urllib.parse import unquote_to_bytes

import msgspec

from modelyard.domain.moments import EVENT_TIME, told_event_ns
from modelyard.domain.records import WireForm
from modelyard.errors import InvalidRequest, ModelyardError
from modelyard.protocol import jsontext
from modelyard.protocol.forms import FORMS, form_of
from modelyard.protocol.media import PLAIN, Media
from modelyard.serving.actions import ACTIONS, Services, metrics, order
from modelyard.serving.answering import Answering
from modelyard.serving.compression import KNOWN_FIRST, QUICK_FIRST, compressed, decompressed
from modelyard.serving.exchange import Done, Incoming, Ticket
from modelyard.serving.http import Reply, UnknownPath, WrongVerb, error_reply
from modelyard.serving.http1 import Request
from modelyard.serving.onrequest import awake
from modelyard.serving.plane import NotLoaded
from modelyard.serving.repository import RepositoryRequest
from modelyard.serving.routes import Target, find

MAX_BODY_BYTES = 64 * 1024 * 1024
KEY_HEADER = b"x-modelyard-key"
"""What the call is about; where calls are divided between two versions, those with one key go to one of them."""

TIMEOUT_HEADER = b"x-request-timeout-ms"
"""Within how many milliseconds of its arrival the caller wants the answer."""
EVENT_HEADER = EVENT_TIME.encode()

_SMALLEST_COMPRESSED = 1024
_LARGEST_INLINE = 64 * 1024
"""Bodies beyond this size are compressed in a thread, and whatever is compressed is unpacked in one."""

_COMPRESSED: frozenset[str] = frozenset({*FORMS, "status", "metrics", "openapi"})
"""What is compressed on request: not what the protocol tells of models, which its clients read as it comes even where
their HTTP library asks for compression. For the same reason refusals are not."""

ORDERS = ("load", "unload")

_UNPACKED_AT_ONCE = 4
"""Bodies that are being unpacked or have just been; the next waits until one of them is taken in or refused."""

_REMEMBERED = 1024
_ORDER = msgspec.json.Decoder(RepositoryRequest)

_log = logging.getLogger("modelyard.serving")


def prediction_ids() -> Callable[[], str]:
    """A source of prediction ids that no other process, past or future, gives out too."""
    prefix, count = os.urandom(9).hex(), itertools.count()
    return lambda: f"{prefix}{next(count):06x}"


@dataclass(slots=True, eq=False)
class _Unpacking(Ticket):
    """A call whose body is being unpacked, and afterwards stands for the call itself."""

    call: Ticket | None = None

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        self.cancelled = True
        if self.call is not None:
            self.call.cancel()


@dataclass(slots=True, eq=False)
class Application:
    """Answers HTTP requests to one data plane. Belongs to one event loop's thread."""

    services: Services
    answering: Answering
    max_body: int = MAX_BODY_BYTES
    next_id: Callable[[], str] = field(default_factory=prediction_ids)
    _targets: dict[bytes, Target] = field(default_factory=dict)
    _media: dict[tuple[bytes | None, bytes | None], Media] = field(default_factory=dict)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)
    _unpacking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_UNPACKED_AT_ONCE))

    def handle(self, request: Request, respond: Done) -> Ticket | None:
        """Answer one request; see `modelyard.serving.http1.Handler`."""
        try:
            target = self._targets.get(request.url) or self._find(request.url)
            if request.method not in target.verbs:
                raise WrongVerb(request.method, request.url.decode("latin-1"), ", ".join(target.verbs))
            if b"accept-encoding" in request.headers and target.action in _COMPRESSED:
                respond = self._compressing(request.headers[b"accept-encoding"].decode("latin-1"), target, respond)
            if request.headers.get(b"content-encoding", b"identity") != b"identity":
                return self._unpack(request, target, respond)
            return self._dispatch(request, target, respond)
        except Exception as error:  # noqa: BLE001 - the client is owed an answer, the log has the rest
            respond(self._error(error, request))
            return None

    def turned_away(self, request: Request, size: int) -> Reply | None:
        """Refuse a call by its head alone; see `modelyard.serving.http1.Handler`.

        What is wrong with a head is told when the request is complete; so is that there is no time for a packed body.
        """
        target, headers = self._targets.get(request.url), request.headers
        if target is None or target.action not in FORMS or request.method not in target.verbs:
            return None
        if headers.get(b"content-encoding", b"identity") != b"identity":
            return None
        try:
            return self.answering.turned_away(self._incoming(request, target), size)
        except ModelyardError:
            return None

    def _dispatch(self, request: Request, target: Target, respond: Done) -> Ticket | None:
        if target.action in FORMS:
            return self._predict(request, target, respond)
        if target.action in ORDERS:
            return self._order(request, target, respond)
        if target.action == "metrics":
            return self._metrics(request, target, respond)
        self._act(request, target, respond)
        return None

    def _metrics(self, request: Request, target: Target, respond: Done) -> Ticket:
        """Tell the counts, which are put together in a thread: with hundreds of versions that takes a while."""
        ticket, accept = Ticket(), request.headers.get(b"accept", b"").decode("latin-1")
        self.services.publish()
        work = partial(metrics, self.services, target, request.body, accept, published=True)

        async def tell() -> None:
            try:
                respond(await asyncio.get_running_loop().run_in_executor(None, work))
            except Exception as error:  # noqa: BLE001 - as in `handle`
                respond(self._error(error, request))

        self._start(tell())
        return ticket

    def _act(self, request: Request, target: Target, respond: Done) -> None:
        act = ACTIONS[target.action]
        try:
            respond(act(self.services, target, request.body))
        except NotLoaded as missing:
            self._start(self._act_loaded(missing.deployment, request, target, respond))

    async def _act_loaded(self, name: str, request: Request, target: Target, respond: Done) -> None:
        try:
            await awake(self.services.plane, name)
            reply = ACTIONS[target.action](self.services, target, request.body)
        except Exception as error:  # noqa: BLE001 - as in `handle`
            reply = self._error(error, request)
        respond(reply)

    def _predict(self, request: Request, target: Target, respond: Done) -> Ticket:
        return self.answering.submit(self._incoming(request, target), respond)

    def _incoming(self, request: Request, target: Target) -> Incoming:
        headers = request.headers
        media = self._media_of(headers)
        trace, moment = headers.get(b"traceparent"), headers.get(EVENT_HEADER)
        return Incoming(
            self.next_id(),
            form_of(cast("WireForm", target.action), media),
            target.deployment,
            target.version,
            request.body,
            request.received_ns,
            request.started_ns,
            media,
            _deadline(headers.get(TIMEOUT_HEADER), request.started_ns),
            None if trace is None else trace.decode("latin-1"),
            told_event_ns(None if moment is None else moment.decode("latin-1")),
            key=headers.get(KEY_HEADER, b"").decode("utf-8", "backslashreplace"),
        )

    def _order(self, request: Request, target: Target, respond: Done) -> Ticket:
        """Load or unload a version; goes on to the end also when the caller is gone."""
        ticket, headers = Ticket(), request.headers
        given = headers.get(b"authorization")
        authorization = None if given is None else given.decode("latin-1")
        asked = jsontext.parse_as(request.body, _ORDER) if request.body.strip() else RepositoryRequest()
        deadline = _deadline(headers.get(TIMEOUT_HEADER), request.started_ns)
        seconds = None if deadline is None else (deadline - request.started_ns) / 1e9

        async def carry_out() -> None:
            try:
                reply = await order(self.services, target, asked.parameters, authorization, seconds)
            except Exception as error:  # noqa: BLE001 - as in `handle`
                reply = self._error(error, request)
            if not ticket.cancelled:
                respond(reply)

        self._start(carry_out())
        return ticket

    def _find(self, url: bytes) -> Target:
        path = unquote_to_bytes(url.partition(b"?")[0]).decode("utf-8", "replace")
        target = find(path)
        if target is None:
            raise UnknownPath(f"there is nothing at {path[:200]}; see /status, /v2 or /predict/DEPLOYMENT")
        if len(self._targets) >= _REMEMBERED:
            self._targets.clear()
        self._targets[url] = target
        return target

    def _media_of(self, headers: dict[bytes, bytes]) -> Media:
        content_type, accept = headers.get(b"content-type"), headers.get(b"accept")
        media = self._media.get((content_type, accept))
        if media is None:
            if len(self._media) >= _REMEMBERED:
                self._media.clear()
            plain = (content_type or b"").decode("latin-1").partition(";")[0].strip().lower()
            media = Media(plain, (accept or b"").decode("latin-1")) if content_type or accept else PLAIN
            self._media[content_type, accept] = media
        length = headers.get(b"inference-header-content-length")
        return media if length is None else Media(media.content_type, media.accept, _json_length(length))

    # Compression.

    def _unpack(self, request: Request, target: Target, respond: Done) -> Ticket:
        ticket = _Unpacking()
        encoding = request.headers[b"content-encoding"].decode("latin-1").strip().lower()

        async def unpack() -> None:
            loop = asyncio.get_running_loop()
            try:
                async with self._unpacking:
                    if ticket.cancelled:
                        return
                    request.body = await loop.run_in_executor(None, decompressed, request.body, encoding, self.max_body)
                    if not ticket.cancelled:
                        ticket.call = self._dispatch(request, target, respond)
            except Exception as error:  # noqa: BLE001 - as in `handle`
                respond(self._error(error, request))

        self._start(unpack())
        return ticket

    def _compressing(self, accepted: str, target: Target, respond: Done) -> Done:
        order = KNOWN_FIRST if target.action == "oip" else QUICK_FIRST

        def answer(reply: Reply) -> None:
            if len(reply.body) < _SMALLEST_COMPRESSED or reply.status != 200:
                respond(reply)
            elif len(reply.body) <= _LARGEST_INLINE:
                respond(_packed(reply, accepted, order))
            else:
                self._start(pack(reply))

        async def pack(reply: Reply) -> None:
            respond(await asyncio.get_running_loop().run_in_executor(None, _packed, reply, accepted, order))

        return answer

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _error(self, error: Exception, request: Request) -> Reply:
        if not isinstance(error, ModelyardError):
            _log.error("%s %s", request.method, request.url[:200].decode("latin-1"), exc_info=error)
        return error_reply(error)


def _packed(reply: Reply, accepted: str, order: tuple[str, ...]) -> Reply:
    body, encoding = compressed(reply.body, accepted, order)
    if encoding is None:
        return reply
    headers = (*reply.headers, (b"content-encoding", encoding.encode()), (b"vary", b"accept-encoding"))
    return Reply(reply.status, body, headers, reply.content_type, reply.error)


def _deadline(header: bytes | None, started_ns: int) -> int | None:
    if header is None:
        return None
    try:
        milliseconds = float(header)
    except ValueError:
        milliseconds = -1.0
    if not 0 < milliseconds < 1e9:
        raise InvalidRequest(f"{TIMEOUT_HEADER.decode()}: expected milliseconds above 0, got {header[:40]!r}")
    return started_ns + int(milliseconds * 1e6)


def _json_length(header: bytes) -> int:
    if not header.isdigit() or len(header) > 18:
        raise InvalidRequest(
            f"inference-header-content-length: expected the number of bytes of the JSON part, got {header[:40]!r}"
        )
    return int(header)
