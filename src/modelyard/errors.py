"""What can go wrong.

::

    ModelyardError
    ├── NotFound       ModelNotFound, VersionNotFound (VersionRemoved), AliasNotFound, DeploymentNotFound,
    │                  DatasetNotFound, RunNotFound (RunRemoved), PredictionNotFound, AlertNotFound,
    │                  RolloutNotFound
    ├── Conflict       NameTaken, StillReferenced
    ├── Rejected       the caller asked for something that cannot be done as asked
    │   ├── InvalidInput      rows, columns or values that do not fit the schema
    │   ├── InvalidRequest    a message that cannot be read
    │   ├── TooLarge          a message beyond the size that is taken
    │   ├── UnknownEncoding   a body in a compression or type that is not understood
    │   ├── NotOffered        a form or extension that this server does not have
    │   ├── CannotPack        an estimator, sample or option that cannot become a bundle
    │   ├── BundleRefused     truncated, edited or foreign content
    │   ├── ParityFailed      answers differ from those of training
    │   ├── NotAuthenticated  the caller has not shown that they may
    │   └── PolicyDenied      allowed only with an explicit override
    ├── Failed         RowsRefused, ModelFailed, EnvironmentFailed, DataDamaged
    └── Unavailable    VersionNotReady (VersionLoading), RuntimeLost, ServiceUnreachable, RecordNotKept,
                       ContentCollected, Overloaded, DeadlinePassed

A message says what was asked, what there is, and what to do next. Status codes and exit codes are
mapped at the edges only (``serving/http.py``, ``cli/output.py``).
"""

from collections.abc import Sequence


def _some(names: Sequence[str], most: int = 20) -> str:
    """Names in a message: of very many the first.

    >>> _some(["a", "b"]), _some(["a", "b", "c"], most=1)
    ('a, b', 'a and 2 more')
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class ModelyardError(Exception):
    """Anything Modelyard reports on purpose. Its text is fit for a user."""


class NotFound(ModelyardError):
    """The thing asked for does not exist."""


class ModelNotFound(NotFound):
    """No model of that name."""

    def __init__(self, model: str, there_are: Sequence[str] = ()) -> None:
        self.model = model
        known = f"there are: {_some(there_are)}" if there_are else "no model is registered yet"
        super().__init__(f"no model {model!r}; {known}")


class VersionNotFound(NotFound):
    """No such version of a model that does exist."""

    def __init__(self, model: str, wanted: int | str, newest: Sequence[int] = ()) -> None:
        self.model, self.wanted, self.newest = model, wanted, tuple(newest)
        known = f"newest: {', '.join(map(str, newest))}" if newest else "it has no version"
        super().__init__(f"{model!r} has no version {wanted}; {known}")


class VersionRemoved(VersionNotFound):
    """There was such a version, and somebody removed it. `removal` says when, who and why, as one sentence."""

    def __init__(self, model: str, number: int, removal: str, newest: Sequence[int] = ()) -> None:
        super().__init__(model, number, newest)
        known = f"newest: {', '.join(map(str, newest))}" if newest else "it has no other version"
        self.args = (f"{removal}; {known}",)


class AliasNotFound(NotFound):
    """No such alias of a model that does exist."""

    def __init__(self, model: str, alias: str, there_are: Sequence[str] = ()) -> None:
        self.model, self.alias = model, alias
        known = f"there are: {', '.join(there_are)}" if there_are else "it has no alias"
        super().__init__(f"{model!r} has no alias {alias!r}; {known}")


class DeploymentNotFound(NotFound):
    """No deployment of that name."""

    def __init__(self, deployment: str, there_are: Sequence[str] = ()) -> None:
        self.deployment = deployment
        known = f"there are: {', '.join(there_are)}" if there_are else "nothing is deployed"
        super().__init__(f"no deployment {deployment!r}; {known}")


class RolloutNotFound(NotFound):
    """No rollout of that deployment, or none that is open."""

    def __init__(self, deployment: str) -> None:
        self.deployment = deployment
        super().__init__(
            f"no rollout of {deployment!r} is open; one begins with `modelyard deploy NAME@V --to {deployment} "
            "--strategy ab`"
        )


class AlertNotFound(NotFound):
    """No alert of that number."""

    def __init__(self, number: int, going_on: Sequence[int] = ()) -> None:
        self.number = number
        known = f"going on: {', '.join(map(str, going_on))}" if going_on else "none goes on"
        super().__init__(f"no alert {number}; {known}")


class DatasetNotFound(NotFound):
    """No dataset of that name."""

    def __init__(self, dataset: str, there_are: Sequence[str] = ()) -> None:
        self.dataset = dataset
        known = f"there are: {_some(there_are)}" if there_are else "no dataset has a version yet"
        super().__init__(f"no dataset {dataset!r}; {known}")


class RunNotFound(NotFound):
    """No run of that id or name, or several whose ids begin so."""

    def __init__(self, which: str, there_are: Sequence[str] = (), *, several: bool = False) -> None:
        self.which = which
        known = ", ".join(there_are)
        if several:
            super().__init__(f"several runs begin with {which!r}: {known}")
        else:
            super().__init__(f"no run {which!r}; {f'newest: {known}' if known else 'no run is recorded yet'}")


class RunRemoved(RunNotFound):
    """There was such a run, and somebody removed it. `removal` says when, who and why, as one sentence."""

    def __init__(self, which: str, removal: str) -> None:
        super().__init__(which)
        self.args = (removal,)


class PredictionNotFound(NotFound):
    """No record under that prediction id."""


class Conflict(ModelyardError):
    """It clashes with what there is."""


class NameTaken(Conflict):
    """Another thing has that name."""


class StillReferenced(Conflict):
    """Something refers to what was to be removed. `references` says what, one line each."""

    def __init__(self, what: str, references: Sequence[str]) -> None:
        self.what, self.references = what, tuple(references)
        super().__init__(f"{what} is not removed, since it is referred to:\n  " + "\n  ".join(references))


class Rejected(ModelyardError):
    """Understood and refused: doing it as asked would be wrong."""


class InvalidInput(Rejected):
    """Rows that do not fit the schema. Names the column, what was expected and what came."""

    def __init__(self, message: str, *, column: str | None = None, row: int | None = None) -> None:
        self.column, self.row = column, row
        super().__init__(message)


class InvalidRequest(Rejected):
    """A message that cannot be read as what it claims to be."""


class TooLarge(Rejected):
    """A message larger than what is taken."""


class UnknownEncoding(Rejected):
    """A body in a compression or type that is not understood."""


class NotOffered(Rejected):
    """A message form, encoding or extension that this server does not have."""


class CannotPack(Rejected):
    """This estimator, sample or option cannot become a bundle."""


class BundleRefused(Rejected):
    """A bundle that is truncated, edited, foreign or of an unknown format. Nothing in it was built."""


class ParityFailed(Rejected):
    """Answers differ from those of training by more than the tolerance."""


class NotAuthenticated(Rejected):
    """The caller has not shown, or not rightly, that they may."""


class PolicyDenied(Rejected):
    """Allowed only with an explicit, recorded override."""


class Failed(ModelyardError):
    """It was tried and did not work."""


class RowsRefused(Failed):
    """The model itself raised on these rows, as it may on rows it cannot take."""


class ModelFailed(Failed):
    """The model's code broke in a way that its input does not explain."""


class EnvironmentFailed(Failed):
    """An environment could not be locked or rebuilt."""


class DataDamaged(Failed):
    """Stored data is gone or not what was stored. Names the file and where it lies."""


class Unavailable(ModelyardError):
    """Not now; the same call may work later."""


class VersionNotReady(Unavailable):
    """The version is loading, failed to load, or is draining."""


class VersionLoading(VersionNotReady):
    """The version is being loaded, as somebody asked for it; `retry_after` is in how many seconds it may answer."""

    def __init__(self, message: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class RuntimeLost(Unavailable):
    """The process that computes the model died or stopped answering."""


class ServiceUnreachable(Unavailable):
    """No server answers at the address."""


class ContentCollected(Unavailable):
    """Content that was to be registered was collected meanwhile, as nothing referred to it yet. Store it again."""


class RecordNotKept(Unavailable):
    """A record or label could not be written; it must not be acknowledged. What was written before is untouched."""


class Overloaded(Unavailable):
    """There is more work than can be done in time. `retry_after` is in how many seconds there will be room again."""

    def __init__(self, message: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class DeadlinePassed(Unavailable):
    """The caller's deadline came before the answer."""
