"""The floor over HTTP: what the same cores manage when nothing is computed."""

from __future__ import annotations

from typing import Any

REPLY = (
    b'{"model":"bench","version":1,"prediction_id":"01980000-0000-7000-8000-000000000000",'
    b'"rows":[{"prediction_id":"01980000-0000-7000-8000-000000000000-0","predict_proba":{"0":0.25,"1":0.75}}]}'
)
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(REPLY)).encode())]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, send a fixed reply."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": REPLY})
