"""The front door of packing: a trained estimator becomes a registered version."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.domain.manifest import RuntimeName, Tolerance
from modelyard.home import Home

if TYPE_CHECKING:
    from modelyard.registry import Version


def pack(
    estimator: Any,
    *,
    sample: Any,
    name: str,
    runtime: RuntimeName | None = None,
    load: Callable[..., Any] | None = None,
    artifacts: Mapping[str, str | Path] | None = None,
    tolerance: Tolerance | None = None,
    golden_rows: int = 256,
    tags: Mapping[str, str] | None = None,
    holdout: tuple[Any, Any] | None = None,
    progress: Callable[[str], None] | None = None,
    home: str | Path | Home | None = None,
) -> Version:
    """Pack a trained estimator and register it as the next version of the model `name`.

    The version holds everything needed to compute, prove and replay it: the estimator, a compiled form where one gives
    the same numbers, the schema of what it takes, rows with the answers that it gives now, its environment and the code
    of your own that it needs. Packing the same again gives the same version back. Within a recorded run, the run knows
    the version as its own.

    Args:
        estimator: A fitted scikit-learn estimator or pipeline, an XGBoost or LightGBM model, a finished ONNX file, or
            any function over rows.
        sample: Rows as it was trained on, without the target: at best the whole training table.
        name: What the model is called: letters, digits, ``.``, ``-`` and ``_``.
        runtime: Demand ``"onnx"`` or ``"python"``; left out, the compiled form is taken if it is equal.
        load: For a function ``estimator(state, rows)``: the step that makes its state, called with nothing, or with a
            dict of paths if there are `artifacts`.
        artifacts: Files or folders for `load`, by name.
        tolerance: How far answers may be from those recorded now, by default ``rtol=1e-5, atol=1e-6``.
        golden_rows: How many rows of the sample are kept with their answers.
        tags: Texts kept with the version.
        holdout: Rows that it was not trained on, and what was true of each: ``(rows, truths)``. What it answers is kept
            with the truths, and live answers are held against it once their labels have come: a version that is worse
            than this from its first day on raises an alert.
        progress: Is told in a few words what is being done.
        home: Where the registry is; by default ``MODELYARD_HOME``, else ``~/.modelyard``.

    Returns:
        The registered version.

    Raises:
        InvalidRequest: `name` cannot name a model.
        CannotPack: what was asked cannot be done; the message says what and why.
        EnvironmentFailed: the environment cannot be written down.
    """
    from modelyard.bundle.pack import build_bundle
    from modelyard.registry import Registry
    from modelyard.runs import current
    from modelyard.runs.inside.watching import unwatched

    with unwatched(), tempfile.TemporaryDirectory(prefix="modelyard-") as folder:
        bundle = build_bundle(
            estimator,
            sample=sample,
            name=name,
            into=Path(folder) / "bundle",
            runtime=runtime,
            load=load,
            artifacts=artifacts,
            tolerance=tolerance,
            golden_rows=golden_rows,
            tags=tags,
            holdout=holdout,
            progress=progress,
        )
        with Registry.open(home) as registry:
            version = registry.register(bundle)
        current.tell(version=version.ref)
        return version
