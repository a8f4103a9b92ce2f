"""LitServe, with its batching. Annotations are no strings here: it asks them what a request is."""

import os
from typing import Any

import joblib
import litserve
import pandas as pd


class Predictor(litserve.LitAPI):
    """The pipeline behind LitServe's steps."""

    def setup(self, device: str) -> None:
        """Load the pipeline, once a worker."""
        self.model = joblib.load(os.environ["MODEL_FILE"])
        self.columns = list(self.model.feature_names_in_)

    def decode_request(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Rows of a body."""
        rows: list[dict[str, Any]] = request["rows"]
        return rows

    def batch(self, inputs: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
        """Requests that came together stay apart: they may have several rows each."""
        return inputs

    def predict(self, inputs: list[list[dict[str, Any]]]) -> list[list[float]]:
        """The probability of class 1 for every row of every request, with one call of the pipeline."""
        frame = pd.DataFrame([row for rows in inputs for row in rows], columns=self.columns)
        answers = self.model.predict_proba(frame)[:, 1].tolist()
        parts, at = [], 0
        for rows in inputs:
            parts.append(answers[at : at + len(rows)])
            at += len(rows)
        return parts

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        """One answer a request."""
        return output

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        """The body of an answer."""
        return {"predictions": output}


if __name__ == "__main__":
    api = Predictor(max_batch_size=16, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["WORKERS"]))
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False, log_level="warning")
