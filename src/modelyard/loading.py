"""In-process use of a version: ``my.load("flights-delay@3").predict(table)``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from modelyard.bundle.layout import Bundle
from modelyard.bundle.results import index_of, outputs_of, returned
from modelyard.bundle.runtimes import open_runtime
from modelyard.bundle.tabular import to_frame
from modelyard.domain.checks import check
from modelyard.domain.frame import Answers
from modelyard.domain.schema import Schema
from modelyard.finding import find_bundle, names_folder
from modelyard.home import Home
from modelyard.runtime.interface import Runtime


class Loaded:
    """One version, computed by its own runtime; its methods return what those of the estimator would.

    A compiled version computes in this process, another in its own environment and process, which ends with `close`
    or with this process.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        self.bundle = bundle
        self._runtime = runtime

    @property
    def schema(self) -> Schema:
        """What the model takes and answers."""
        return self.bundle.manifest.schema

    def predict(self, data: Any) -> Any:
        """What the estimator's ``predict``, or the packed function, returns for `data`.

        Raises:
            InvalidInput: rows that do not fit the schema; names column, row, what was expected and what came.
            InvalidRequest: the model has no such method.
            RowsRefused: the model itself raised on these rows.
        """
        return self._call("predict", data)

    def predict_proba(self, data: Any) -> Any:
        """What the estimator's ``predict_proba`` returns for `data`; raises as `predict` does."""
        return self._call("predict_proba", data)

    def decision_function(self, data: Any) -> Any:
        """What the estimator's ``decision_function`` returns for `data`; raises as `predict` does."""
        return self._call("decision_function", data)

    def transform(self, data: Any) -> Any:
        """What the estimator's ``transform`` returns for `data`; raises as `predict` does."""
        return self._call("transform", data)

    def answers(self, data: Any) -> Answers:
        """Every output by name, as plain arrays; raises as `predict` does."""
        return self._answers(data, [output.name for output in self.schema.outputs])

    def close(self) -> None:
        """End the runtime. Calling it twice is harmless."""
        self._runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _call(self, method: str, data: Any) -> Any:
        outputs = outputs_of(self.schema, method)
        answers = self._answers(data, [output.name for output in outputs])
        return returned(outputs, answers, index_of(data))

    def _answers(self, data: Any, names: list[str]) -> Answers:
        frame = to_frame(data, self.schema)
        check(frame, self.schema)
        return self._runtime.predict(frame, names)


def load(ref: str | Path, home: str | Path | Home | None = None, *, trust_code: bool = False) -> Loaded:
    """Open a version for use in this process.

    Args:
        ref: ``name@3``, ``name@champion`` or ``name`` for the newest; or the path of a bundle's folder (a `Path`, or a
            text with a slash in it).
        home: where the registry is; see `Home.locate`.
        trust_code: let a bundle that is not registered here run its own code.

    Raises:
        PolicyDenied: the folder's bundle is not registered here and its model would run code.
        ModelNotFound, VersionNotFound, AliasNotFound: there is no such version.
        BundleRefused: its files are not those that were packed.
        EnvironmentFailed: its environment cannot be rebuilt here.
    """
    place = Home.locate(home)
    bundle = find_bundle(ref, place, trust_code=trust_code)
    _tell_run(ref, place)
    return Loaded(bundle, open_runtime(bundle, home=place))


def _tell_run(ref: str | Path, home: Home) -> None:
    """Within a recorded run, the run knows the version as one that it loaded."""
    from modelyard.runs import current

    if names_folder(ref) or not current.is_under_way():
        return
    from modelyard.registry import Registry
    from modelyard.runs.inside.watching import unwatched

    with unwatched(), Registry.open(home) as registry:
        current.tell(loaded=registry.version(str(ref)).ref)
