"""Policies as people write them: ``[rollout]`` of the project file, or options of a command.

::

    [rollout]
    steps = ["shadow", "1%", "5%", "25%", "100%"]   # or { share = "5%", least = "10m", most = "6h" }
    least = "5m"                                    # of each step, unless it says its own
    most = "1d"
    undecided = "hold"                              # hold, promote or rollback, when the longest time is over
    approvers = ["anna"]                            # who has to agree before all calls go to the candidate

    [rollout.metrics]
    errors = 0.005                                  # how much worse is too much; 0 or more, as a share of the calls
    slow = { margin = 0.02, objective_ms = 50 }
    wrong = { margin = 0.01, required = true }
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from modelyard.errors import InvalidRequest
from modelyard.project import converted, seconds
from modelyard.rollout.policy import DAY, MINUTE, RULES, Policy, Rule, Step, Undecided, check

WHERE = "[rollout]"


class _Step(msgspec.Struct, forbid_unknown_fields=True):
    share: str | float
    least: str | float | None = None
    most: str | float | None = None


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    """The keys of ``[rollout]``."""

    steps: list[str | float | _Step] | None = None
    least: str | float = 5 * MINUTE
    most: str | float = DAY
    metrics: dict[str, Any] | None = None
    undecided: Undecided = "hold"
    approvers: list[str] = []
    alpha: float = 0.01
    beta: float = 0.05


def policy_of(table: Mapping[str, Any], where: str = WHERE) -> Policy:
    """The policy that a table says, with what is usual for all that it leaves out; `where` it is, for errors.

    >>> policy = policy_of({"steps": ["shadow", "5%", 1], "least": "90s", "metrics": {"errors": 0.01}})
    >>> [(step.share, step.least) for step in policy.steps]
    [(0.0, 90.0), (0.05, 90.0), (1.0, 90.0)]
    >>> [(rule.metric, rule.margin) for rule in policy.rules]
    [('errors', 0.01)]

    Raises:
        InvalidRequest: it says something that no policy has, or that cannot be followed.
    """
    said = converted(table, _Table, where)
    least, most = seconds(said.least, f"{where} least"), seconds(said.most, f"{where} most")
    if said.steps is None:
        steps = tuple(Step(step.share, least, most) for step in Policy().steps)
    else:
        steps = tuple(_step(one, least, most, where) for one in said.steps)
    policy = Policy(
        steps=steps,
        rules=RULES if said.metrics is None else tuple(_rule(name, one, where) for name, one in said.metrics.items()),
        alpha=said.alpha,
        beta=said.beta,
        undecided=said.undecided,
        approvers=tuple(said.approvers),
    )
    check(policy)
    return policy


def share_of(text: str | float) -> float:
    """A share as people write it.

    >>> share_of("shadow"), share_of("5%"), share_of("0.25"), share_of(1)
    (0.0, 0.05, 0.25, 1.0)

    Raises:
        InvalidRequest: that is none.
    """
    said = str(text).strip()
    try:
        share = 0.0 if said == "shadow" else float(said[:-1]) / 100.0 if said.endswith("%") else float(said)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise InvalidRequest(f"{text!r} is no share of the calls; write shadow, a percentage such as 5%, or 0 to 1")
    return share


def table_of(metrics: Sequence[str]) -> dict[str, float]:
    """Margins of metrics as options of a command say them.

    >>> table_of(["errors=0.5%", "wrong=0.02"])
    {'errors': 0.005, 'wrong': 0.02}

    Raises:
        InvalidRequest: one has no such form.
    """
    found = {}
    for one in metrics:
        name, equals, margin = one.partition("=")
        if not name or not equals:
            raise InvalidRequest(f"{one!r} is no metric with its margin; write errors=0.005 or errors=0.5%")
        found[name] = share_of(margin)
    return found


def _step(said: str | float | _Step, least: float, most: float, where: str) -> Step:
    if not isinstance(said, _Step):
        return Step(share_of(said), least, most)
    own_least = least if said.least is None else seconds(said.least, f"{where} least")
    own_most = most if said.most is None else seconds(said.most, f"{where} most")
    return Step(share_of(said.share), own_least, own_most)


def _rule(name: str, said: Any, where: str) -> Rule:
    """A margin alone, or a table with more; what is not said is as usual for that metric."""
    usual = next((rule for rule in RULES if rule.metric == name), None)
    table = {"margin": said} if isinstance(said, int | float | str) else said
    if not isinstance(table, Mapping) or ("margin" not in table and usual is None):
        raise InvalidRequest(f"{where} metrics: {name} has no margin; write {name} = 0.01")
    known = {field.encode_name for field in msgspec.structs.fields(Rule)} - {"metric"}
    if unknown := sorted(table.keys() - known):
        raise InvalidRequest(
            f"{where} metrics: {name} has {', '.join(unknown)}; what means something is {', '.join(sorted(known))}"
        )
    base = {} if usual is None else msgspec.to_builtins(usual)
    told = dict(table)
    if "margin" in told:
        told["margin"] = share_of(told["margin"])
    return converted({**base, "required": True, **told, "metric": name}, Rule, f"{where} metrics: {name}")
