"""Training again: a challenger of the version in use, trained on newer data, judged, and rolled out if it is better.

::

    from modelyard.retraining import retrain

    report = retrain(home, "flights-delay", "the airline changed its schedule")
    print(report.state, report.reason)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelyard.home import Home
    from modelyard.retraining.report import Report, Trigger

__all__ = ["retrain"]


def retrain(
    home: str | Path | Home | None,
    deployment: str,
    why: str = "",
    *,
    project: str | Path | None = None,
    trigger: Trigger = "hand",
    alerts: Sequence[int] = (),
    by: str | None = None,
    environ: Mapping[str, str] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Report:
    """Train the model of a deployment again, judge what comes of it, and begin a rollout if it passes.

    Whatever happens is in the report, which is kept: see ``modelyard retrain show``. Nothing else changes, unless the
    challenger passes the gates.

    Args:
        home: Where the registry is; see `Home.locate`.
        deployment: What is to have a better model.
        why: A line to keep.
        project: The folder with ``modelyard.toml``; by default the one that is watched for the deployment
            (``modelyard retrain watch``), else the current folder if it has such a file.
        trigger: What began it.
        alerts: The alerts that began it.
        by: Who; by default the user of this process.
        environ: The environment variables of the training program; by default those of this process.
        tell: Is told in a few words what is being done.

    Raises:
        DeploymentNotFound: there is no such deployment.
        Conflict: the model is being trained again already, or a rollout of the deployment is open.
        InvalidRequest: the project's file cannot be followed.
    """
    from modelyard.retraining.once import Asked, carry_out

    asked = Asked(deployment, why, project, trigger, tuple(alerts), by, environ)
    return carry_out(home, asked, tell or (lambda words: None))
