"""Who gets which version: even shares, the same everywhere, and nobody comes back while the share grows."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.splitting import goes_to_candidate, place


@given(st.text(max_size=30), st.text(max_size=10))
def test_every_key_has_a_place(key: str, salt: str) -> None:
    assert 0.0 <= place(key, salt) < 1.0
    assert place(key, salt) == place(key, salt)
    assert goes_to_candidate(key, salt, 1.0)
    assert not goes_to_candidate(key, salt, 0.0)


def test_salt_and_key_are_not_run_together() -> None:
    assert place("bc", "a") != place("c", "ab")


def test_shares_are_what_was_asked_for() -> None:
    keys = [f"customer-{number}" for number in range(40_000)]
    for share in (0.01, 0.05, 0.5):
        got = sum(goes_to_candidate(key, "flights/7", share) for key in keys) / len(keys)
        assert abs(got - share) < 4.5 * math.sqrt(share * (1.0 - share) / len(keys))


def test_rollouts_are_independent_of_each_other() -> None:
    keys = [f"customer-{number}" for number in range(20_000)]
    both = sum(place(key, "one") < 0.1 and place(key, "two") < 0.1 for key in keys) / len(keys)
    assert abs(both - 0.01) < 0.004


@given(st.text(max_size=20), st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6))
def test_who_has_the_candidate_keeps_it_while_its_share_grows(key: str, shares: list[float]) -> None:
    given_to = [goes_to_candidate(key, "salt", share) for share in sorted(shares)]
    assert all(earlier <= later for earlier, later in pairwise(given_to))


def test_another_process_says_the_same() -> None:
    program = "from modelyard.domain.splitting import place; print([place(str(at), 's') for at in range(5)])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == str([place(str(at), "s") for at in range(5)])
