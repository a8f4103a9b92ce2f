"""The OpenAPI document of the data plane's HTTP routes, made from the tables that route and read requests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from modelyard.domain.schema import Schema
from modelyard.protocol import infer, invocations, rows
from modelyard.protocol.examples import examples
from modelyard.protocol.media import ARROW, BINARY, CSV, JSON
from modelyard.serving.actions import ACTIONS, IndexRequest, LabelsRequest
from modelyard.serving.repository import RepositoryRequest
from modelyard.serving.routes import Action, Target, all_routes
from modelyard.serving.status import PlaneStatus


class ErrorDetails(msgspec.Struct):
    """Where in the rows the trouble is, as far as that is known."""

    column: str | None
    row: int | None


class Error(msgspec.Struct, omit_defaults=True):
    """What every refusal and failure says."""

    error: str
    code: str
    details: ErrorDetails | None = None
    request_id: str | None = None


_STATUSES: Mapping[int, str] = {
    400: "The request cannot be read, or its rows do not fit the model's schema.",
    401: "The caller has not shown the server's admin token.",
    403: "Nobody may do this here; the answer says what would have to be set.",
    404: "There is no such path, deployment or version.",
    405: "The path is not for this method; `Allow` names those that it takes.",
    408: "The request did not arrive in time.",
    413: "The body is larger than what is taken.",
    414: "The request's target is too long.",
    415: "The body is in a compression or type that is not understood.",
    422: "The model itself refused the rows.",
    429: "There is more work than can be done in time; `Retry-After` says when to try again.",
    431: "The request's headers are too large.",
    500: "The server or the model's code failed; the log has the details.",
    501: "This form or extension is not offered.",
    503: "Not now: the version is loading, lost its process, or the record could not be kept.",
    504: "The deadline came before the answer.",
}
_OF_ANY_REQUEST = (400, 404, 405, 408, 413, 414, 415, 429, 431, 500, 503)
_OF_A_PREDICTION = (*_OF_ANY_REQUEST, 422, 501, 504)
_PREDICTIONS: tuple[Action, ...] = ("oip", "rows", "invocations")
_NEVER = ("not offered",)
_ORDERS: tuple[Action, ...] = ("load", "unload")
_OF_AN_ORDER = (401, 403, 501, 504)

_STRUCTS: tuple[Any, ...] = (
    Error,
    infer.InferRequest,
    infer.InferResponse,
    rows.RowsRequest,
    rows.RowsResponse,
    invocations.InvocationsResponse,
    LabelsRequest,
    IndexRequest,
    RepositoryRequest,
    PlaneStatus,
)
_TEXT, _TRUTH, _TEXTS = {"type": "string"}, {"type": "boolean"}, {"type": "array", "items": {"type": "string"}}
_WHOLE = {"type": "integer"}
_TENSORS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {"name": _TEXT, "datatype": _TEXT, "shape": {"type": "array", "items": {"type": "integer"}}},
    },
}


def _object(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_READY = _object({"ready": _TRUTH, "reason": _TEXT}, "reason")
_MODEL_READY = _object(
    {"name": _TEXT, "ready": _TRUTH, "version": _TEXT, "reason": _TEXT, "error": _TEXT}, "version", "reason", "error"
)
_INDEXED = _object({"name": _TEXT, "version": _TEXT, "state": _TEXT, "reason": _TEXT})
_INDEX = {"type": "array", "items": _INDEXED}
_INVOCATIONS = {
    "oneOf": [
        _object({"dataframe_split": _object({"columns": _TEXTS, "data": {"type": "array"}}, "columns")}),
        _object({"dataframe_records": {"type": "array", "items": {"type": "object"}}}),
        _object({"instances": {"type": "array"}}),
        _object({"inputs": {}}),
    ]
}

_CONFIGURED = {
    "type": "array",
    "items": _object(
        {"name": _TEXT, "data_type": _TEXT, "dims": {"type": "array", "items": _WHOLE}, "optional": _TRUTH}, "optional"
    ),
}
_DURATION = _object({"count": _WHOLE, "ns": _WHOLE})
_STAGES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
_STATISTICS = _object(
    {
        "name": _TEXT,
        "version": _TEXT,
        "last_inference": _WHOLE,
        "inference_count": _WHOLE,
        "execution_count": _WHOLE,
        "inference_stats": _object(dict.fromkeys(_STAGES, _DURATION)),
        "response_stats": {"type": "object"},
        "batch_stats": {
            "type": "array",
            "items": _object({"batch_size": _WHOLE} | dict.fromkeys(_STAGES[3:6], _DURATION)),
        },
        "memory_usage": {"type": "array", "items": _object({"type": _TEXT, "id": _WHOLE, "byte_size": _WHOLE})},
    }
)

_REQUESTS: Mapping[Action, dict[str, Any]] = {
    "oip": _ref("InferRequest"),
    "rows": _ref("RowsRequest"),
    "invocations": _INVOCATIONS,
    "labels": _ref("LabelsRequest"),
    "repository index": _ref("IndexRequest"),
    **dict.fromkeys(_ORDERS, _ref("RepositoryRequest")),
}
_ANSWERS: Mapping[Action, dict[str, Any]] = {
    "oip": _ref("InferResponse"),
    "rows": _ref("RowsResponse"),
    "invocations": _ref("InvocationsResponse"),
    "live": _object({"live": _TRUTH}),
    "ready": _READY,
    "model ready": _MODEL_READY,
    "server metadata": _object({"name": _TEXT, "version": _TEXT, "extensions": _TEXTS}),
    "model metadata": _object(
        {
            "name": _TEXT,
            "versions": _TEXTS,
            "platform": _TEXT,
            "inputs": _TENSORS,
            "outputs": _TENSORS,
            "properties": {"type": "object"},
        }
    ),
    "configuration": _object(
        {
            "name": _TEXT,
            "platform": _TEXT,
            "backend": _TEXT,
            "version_policy": {"type": "object"},
            "max_batch_size": _WHOLE,
            "input": _CONFIGURED,
            "output": _CONFIGURED,
            "model_transaction_policy": {"type": "object"},
            "response_cache": {"type": "object"},
            "parameters": {"type": "object"},
            "dynamic_batching": {"type": "object"},
        },
        "dynamic_batching",
    ),
    "statistics": _object({"model_stats": {"type": "array", "items": _STATISTICS}}),
    "models": _object({"models": _TEXTS}),
    "repository index": _INDEX,
    **dict.fromkeys(_ORDERS, _INDEXED),
    "labels": _object({"accepted": {"type": "integer"}}),
    "status": _ref("PlaneStatus"),
    "openapi": {"type": "object"},
}
_EXAMPLES: Mapping[Action, dict[str, Any]] = {
    "labels": {"labels": [{"prediction_id": "4f1c0000a1", "value": "yes", "known_at": "2026-03-01T06:00:00Z"}]},
    "repository index": {"ready": True},
}
_PREDICTION_ID = "Names the call: in the prediction log, in logs, and for labels."
_PREDICTION_IDS = (("RowsResponse", "prediction_id"), ("InvocationsResponse", "prediction_id"), ("Error", "request_id"))

MOST_EXAMPLES = 32
"""How many deployments have examples in the document."""

_Shown: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Examples by name, of each action, and of tables as CSV."""


def _sent(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


_REQUEST_HEADERS: Mapping[str, dict[str, Any]] = {
    "Timeout": _sent(
        "X-Request-Timeout-Ms",
        "Milliseconds from the first byte of the request after which an answer is of no use.",
        type="number",
        exclusiveMinimum=0,
        exclusiveMaximum=1e9,
    ),
    "Event-Time": _sent(
        "X-Modelyard-Event-Time",
        "The moment that the rows are about, if that is not now: a date and time with its offset from UTC as in "
        "RFC 3339, or milliseconds since 1970.",
        type="string",
        examples=["2013-04-01T07:30:00Z"],
    ),
    "Key": _sent(
        "X-Modelyard-Key",
        "What the call is about, such as a customer: of two versions that share the calls, one gets all with that key.",
        type="string",
    ),
    "Trace": _sent("traceparent", "The caller's W3C trace context.", type="string"),
    "Json-Length": _sent(
        "Inference-Header-Content-Length",
        "Length of the JSON part of a body that goes on with binary tensors, in bytes.",
        type="integer",
        minimum=0,
    ),
    "Encoding": _sent(
        "Content-Encoding",
        "How the body is compressed; its limit holds for what is inside.",
        type="string",
        enum=["identity", "gzip", "deflate", "zstd"],
    ),
    "Accepted": _sent(
        "Accept-Encoding", "How an answer of 1 KiB or more may be compressed, with weights.", type="string"
    ),
}
_SENT: Mapping[str, tuple[Action, ...] | None] = {
    "Timeout": _PREDICTIONS,
    "Event-Time": _PREDICTIONS,
    "Key": _PREDICTIONS,
    "Trace": _PREDICTIONS,
    "Json-Length": ("oip",),
    "Encoding": None,
    "Accepted": None,
}
"""Headers of requests with a body, and the actions that look at them (None: all)."""


def _told(description: str, kind: str = "string", *, always: bool = False) -> dict[str, Any]:
    return {"description": description, "required": always, "schema": {"type": kind}}


_ANSWER_HEADERS: Mapping[str, dict[str, Any]] = {
    "Retry-After": _told("Seconds after which it is worth trying again.", "integer", always=True),
    "WWW-Authenticate": _told("How to show the token.", always=True),
    "Allow": _told("The methods that the path takes.", always=True),
    "Content-Encoding": _told("How the body is compressed, as `Accept-Encoding` allows."),
    "Inference-Header-Content-Length": _told(
        "Length of the JSON part, where the answer goes on with binary tensors.", "integer"
    ),
    "traceparent": _told("The span of this call, where the server makes traces."),
}
_HEADERS_OF: Mapping[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
_SUMMARIES: Mapping[Action, str] = {
    "oip": "Answer rows, in the Open Inference Protocol.",
    "rows": "Answer rows, in the plain form.",
    "invocations": "Answer rows, in the forms of MLflow's clients.",
    "load": "Load the wanted version of a deployment in all workers; answered once it is ready.",
    "unload": "Unload a deployment's version in all workers; answered once its last request is done.",
}


@dataclass(frozen=True, slots=True)
class Offered:
    """A deployment that answers, and what its version takes."""

    name: str
    digest: str
    schema: Schema = field(compare=False)


@lru_cache(maxsize=4)
def document(version: str, offered: Sequence[Offered] = ()) -> bytes:
    """The OpenAPI 3.1 document of a server of that version, as JSON, with a request for each of what is `offered`."""
    _, schemas = msgspec.json.schema_components(_STRUCTS, ref_template="#/components/schemas/{name}")
    for name, member in _PREDICTION_IDS:
        schemas[name]["properties"][member]["description"] = _PREDICTION_ID
    made = {one.name: examples(one.schema) for one in offered}
    shown: dict[str, Mapping[str, Any]] = {
        form: {name: _named(name, form) for name, forms in made.items() if form in forms}
        for form in (*_PREDICTIONS, "csv")
    }
    shown |= {action: {"example": {"value": value}} for action, value in _EXAMPLES.items()}
    components = {
        "schemas": schemas,
        "securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}},
        "headers": _ANSWER_HEADERS,
        "parameters": _REQUEST_HEADERS,
        "examples": {
            _example(name, form): {"summary": f"a row for {name}", "value": value}
            for name, forms in made.items()
            for form, value in forms.items()
        },
    }
    paths = {path: _path(path, target, shown) for path, target in all_routes().items()}
    info = {"title": "Modelyard data plane", "version": version}
    return msgspec.json.encode({"openapi": "3.1.0", "info": info, "paths": paths, "components": components})


def _example(name: str, form: str) -> str:
    return f"{form}.{name}"


def _named(name: str, form: str) -> dict[str, str]:
    return {"$ref": f"#/components/examples/{_example(name, form)}"}


def _path(path: str, target: Target, shown: _Shown) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", path)
    parameters = [{"name": one, "in": "path", "required": True, "schema": _TEXT} for one in names]
    operations = {verb.lower(): _operation(target.action, verb, shown) for verb in target.verbs}
    return {**({"parameters": parameters} if parameters else {}), **operations}


def _operation(action: Action, verb: str, shown: _Shown) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": _summary(action), "responses": _responses(action)}
    if verb == "POST" and action in _REQUESTS:
        content: dict[str, Any] = {JSON: {"schema": _REQUESTS[action]}}
        if shown.get(action):
            content[JSON]["examples"] = shown[action]
        content |= {kind: {} for kind in _kinds(action)}
        if action == "invocations":
            content[CSV] = {"schema": _TEXT, **({"examples": shown["csv"]} if shown["csv"] else {})}
        operation["requestBody"] = {"required": action not in ("repository index", *_ORDERS), "content": content}
        headers = [name for name, actions in _SENT.items() if actions is None or action in actions]
        operation["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in headers]
    if action in _ORDERS:
        operation["security"] = [{"admin": []}]
    return operation


def _kinds(action: Action) -> tuple[str, ...]:
    """Types of bodies other than JSON, both ways."""
    if action not in _PREDICTIONS:
        return ()
    return (BINARY, ARROW) if action == "oip" else (ARROW,)


def _summary(action: Action) -> str:
    if action in _SUMMARIES:
        return _SUMMARIES[action]
    return (ACTIONS[action].__doc__ or "").strip().partition("\n")[0]


def _responses(action: Action) -> dict[str, Any]:
    statuses = set(_OF_A_PREDICTION if action in _PREDICTIONS else _OF_ANY_REQUEST)
    statuses |= {501} if action in _NEVER else set()
    statuses |= set(_OF_AN_ORDER) if action in _ORDERS else set()
    responses = {
        str(status): _response(_STATUSES[status], _ref("Error"), *_HEADERS_OF.get(status, ()))
        for status in sorted(statuses)
    }
    if action in ("ready", "model ready"):
        responses["503"] = _response(
            "It is not ready; `reason` says why.", {"anyOf": [_ANSWERS[action], _ref("Error")]}
        )
    if action not in _NEVER:
        responses["200"] = _answer(action)
    return responses


def _answer(action: Action) -> dict[str, Any]:
    if action == "metrics":
        content = {kind: {"schema": _TEXT} for kind in ("text/plain", "application/openmetrics-text")}
        return {"description": "Prometheus text, or OpenMetrics where `Accept` asks for it.", "content": content}
    headers = ["Content-Encoding"]
    if action in _PREDICTIONS:
        headers += ["traceparent", *(["Inference-Header-Content-Length"] if action == "oip" else [])]
    answer = _response("The answer.", _ANSWERS[action], *headers)
    answer["content"] |= {kind: {} for kind in _kinds(action)}
    return answer


def _response(description: str, schema: dict[str, Any], *headers: str) -> dict[str, Any]:
    response: dict[str, Any] = {"description": description, "content": {JSON: {"schema": schema}}}
    if headers:
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    return response
