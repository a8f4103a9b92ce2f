"""Modelyard: from a training script to a deployment that proves itself.

::

    import modelyard as my

    version = my.pack(pipeline, sample=X, name="churn")     # a registered version, proven later by `modelyard verify`
    with my.run("churn", params={"depth": 6}) as run:       # what was run on what data, and what came of it
        run.log_metrics({"auc": 0.83})
    my.reproduce("churn@1").verdict                         # trained again from its record: "bit-equal"
    my.load("churn@1").predict(X)                           # in this process
    my.data.snapshot("flights/", name="flights")            # a dataset version, given back byte by byte
    my.lineage("churn@1")                                   # what it was made from, and what became of it
    my.diff("churn@1", "churn@2")                           # data, code, environment, metrics, schema, speed
    my.compare(march, april)                                # what moved, how sure that is, whether it matters
    my.Client("http://127.0.0.1:8080").predict("churn", X)  # from a server
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelyard import data as data
    from modelyard.client import Client as Client
    from modelyard.differing import diff as diff
    from modelyard.domain.manifest import Tolerance as Tolerance
    from modelyard.drift import compare as compare
    from modelyard.loading import load as load
    from modelyard.packing import pack as pack
    from modelyard.recording import run as run
    from modelyard.reproducing import reproduce as reproduce
    from modelyard.tracing import lineage as lineage

__version__ = "0.1.0"

__all__ = [
    "Client",
    "Tolerance",
    "__version__",
    "compare",
    "data",
    "diff",
    "lineage",
    "load",
    "pack",
    "reproduce",
    "run",
]

_HOMES = {
    "data": "modelyard.data",
    "Client": "modelyard.client",
    "Tolerance": "modelyard.domain.manifest",
    "compare": "modelyard.drift",
    "diff": "modelyard.differing",
    "lineage": "modelyard.tracing",
    "load": "modelyard.loading",
    "pack": "modelyard.packing",
    "reproduce": "modelyard.reproducing",
    "run": "modelyard.recording",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: ``import modelyard`` itself stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; there are: {', '.join(__all__)}")
    from importlib import import_module

    module = import_module(_HOMES[name])
    value = module if _HOMES[name] == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
