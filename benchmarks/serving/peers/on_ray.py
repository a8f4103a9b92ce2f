"""Ray Serve, with its batching."""

from __future__ import annotations

import os
import signal
from typing import Any

import joblib
import pandas as pd
import ray
from ray import serve
from starlette.requests import Request

REPLICAS = int(os.environ["WORKERS"])


@serve.deployment(
    num_replicas=int(os.environ["WORKERS"]), max_ongoing_requests=100, ray_actor_options={"num_cpus": 0.5}
)
class Predictor:
    """The pipeline as a deployment."""

    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL_FILE"])
        self.columns = list(self.model.feature_names_in_)

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.001)
    async def predict(self, inputs: list[list[dict[str, Any]]]) -> list[list[float]]:
        """The probability of class 1 for every row of every request, with one call of the pipeline."""
        frame = pd.DataFrame([row for rows in inputs for row in rows], columns=self.columns)
        answers = self.model.predict_proba(frame)[:, 1].tolist()
        parts, at = [], 0
        for rows in inputs:
            parts.append(answers[at : at + len(rows)])
            at += len(rows)
        return parts

    async def __call__(self, request: Request) -> dict[str, list[float]]:
        """One HTTP request."""
        asked = await request.json()
        return {"predictions": await self.predict(asked["rows"])}


if __name__ == "__main__":
    ray.init(
        num_cpus=REPLICAS,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100_000_000,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(Predictor.bind(), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()
