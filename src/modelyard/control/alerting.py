"""Alerts over the control API: see them, say that one looks after them, silence them; and what Prometheus asks for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, Header, Query, Response
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from pydantic import BaseModel, ConfigDict, Field

from modelyard.monitoring import metrics as monitor_metrics
from modelyard.monitoring.alerts import Alerts, metrics
from modelyard.monitoring.alerts.alert import Silence
from modelyard.monitoring.alerts.content import document
from modelyard.monitoring.alerts.deliveries import deliveries
from modelyard.monitoring.alerts.receivers import Receivers
from modelyard.registry import Registry


class Answer(Protocol):
    """Writes a document as the answer."""

    def __call__(self, data: Any) -> Response:
        """The answer."""
        ...


class SaidRequest(BaseModel):
    """Who says something about an alert, and why."""

    model_config = ConfigDict(extra="forbid")

    by: str = Field(min_length=1, max_length=256)
    why: str = Field(default="", max_length=10_000)


class SilenceRequest(BaseModel):
    """What is not to be sent for so long. What is left empty means any; patterns may hold ``*``."""

    model_config = ConfigDict(extra="forbid")

    deployment: str = Field(default="", max_length=128)
    version: str = Field(default="", max_length=160)
    watch: str = Field(default="", max_length=128, description="a kind (drift) or a watch (drift.score)")
    subject: str = Field(default="", max_length=256, description="a column, an output or a metric")
    seconds: float = Field(gt=0, le=366 * 86400)
    by: str = Field(min_length=1, max_length=256)
    why: str = Field(default="", max_length=10_000)


def add_alerts(app: FastAPI, registry: Registry, answer: Answer) -> None:
    """Add the routes of alerts to an application."""
    alerts = Alerts(registry.database)

    @app.get("/alerts")
    def list_alerts(
        deployment: str = "",
        every: Annotated[bool, Query(alias="all")] = False,
        most: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """Alerts that go on (or all), the newest first."""
        found = alerts.listed(deployment, all_states=every, most=most)
        return answer({"alerts": [document(alert) for alert in found]})

    @app.get("/alerts/{number}")
    def show_alert(number: int) -> Response:
        """One alert, what happened to it, and whom it was sent to."""
        alert = alerts.get(number)
        sent = deliveries(registry.database, number)
        return answer({"alert": document(alert), "history": alerts.history(number), "deliveries": sent})

    @app.post("/alerts/{number}/acknowledge")
    def acknowledge(number: int, said: SaidRequest) -> Response:
        """Somebody looks after it: nothing is sent of it any more, but its end."""
        return answer({"alert": document(alerts.acknowledge(number, said.by, said.why))})

    @app.post("/alerts/{number}/resolve")
    def resolve(number: int, said: SaidRequest) -> Response:
        """Somebody says that it is over."""
        return answer({"alert": document(alerts.resolve(number, said.by, said.why))})

    @app.get("/receivers")
    def list_receivers() -> Response:
        """Where alerts are sent. Addresses are shown as far as their server."""
        found = Receivers(registry.database).listed()
        return answer({"receivers": [{"name": each.name, "kind": each.form, "place": each.place} for each in found]})

    _add_silences(app, alerts, answer)
    _add_metrics(app, registry)


def _add_silences(app: FastAPI, alerts: Alerts, answer: Answer) -> None:
    @app.get("/silences")
    def list_silences() -> Response:
        """Silences that have not ended."""
        return answer({"silences": alerts.silences()})

    @app.post("/silences")
    def silence(asked: SilenceRequest) -> Response:
        """Send nothing that this covers, for so long from now."""
        now = datetime.now(UTC)
        said = asked.model_dump(exclude={"seconds"})
        kept = alerts.silence(Silence(starts=now, ends=now + timedelta(seconds=asked.seconds), **said))
        return answer({"silence": kept})

    @app.delete("/silences/{number}")
    def unsilence(number: int) -> Response:
        """End a silence."""
        return answer({"silence": alerts.unsilence(number)})


def _add_metrics(app: FastAPI, registry: Registry) -> None:
    class Collected(Collector):
        def collect(self) -> Any:
            yield from metrics.families(registry.database)
            yield from monitor_metrics.families(registry.database)

    collectors = CollectorRegistry(auto_describe=False)
    collectors.register(Collected())

    @app.get("/metrics")
    def show_metrics(accept: Annotated[str, Header()] = "") -> Response:
        """What Prometheus asks for."""
        encode, content_type = choose_encoder(accept)
        return Response(encode(collectors), media_type=content_type)
