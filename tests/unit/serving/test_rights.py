"""Nobody may load and unload but who shows the token that the server was given."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from modelyard.errors import InvalidRequest, NotAuthenticated, PolicyDenied
from modelyard.serving.rights import FILE_SETTING, TOKEN_SETTING, AdminToken, allow, find_token

TOKEN = "correct-horse-battery"


def test_without_a_token_nobody_may() -> None:
    assert find_token(environment={}) is None
    with pytest.raises(PolicyDenied, match="no admin token; start it with --admin-token-file"):
        allow(None, f"Bearer {TOKEN}")


@pytest.mark.parametrize(
    "shown", [None, "", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"]
)
def test_only_who_shows_it_may(shown: str | None) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        allow(AdminToken(TOKEN), shown)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("shown", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Bearer  {TOKEN} "])
def test_who_shows_it_may(shown: str) -> None:
    allow(AdminToken(TOKEN), shown)


def test_it_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    for found in (
        find_token(file, {}),
        find_token(None, {FILE_SETTING: str(file)}),
        find_token(file, {FILE_SETTING: str(file)}),
        find_token(None, {TOKEN_SETTING: TOKEN}),
    ):
        allow(found, f"Bearer {TOKEN}")
    with pytest.raises(InvalidRequest, match="in one place only"):
        find_token(file, {TOKEN_SETTING: TOKEN})


@pytest.mark.parametrize("bad", ["", "short", "with spaces in between", "naïve-naïve-naïve"])
def test_a_poor_token_is_refused_at_the_start(bad: str) -> None:
    with pytest.raises(InvalidRequest, match="at least 16 visible ASCII characters"):
        find_token(None, {TOKEN_SETTING: bad})


def test_a_file_that_others_may_change_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "token"
    with pytest.raises(InvalidRequest, match="cannot be read"):
        find_token(file, {})
    file.write_text(TOKEN)
    file.chmod(0o666)
    with pytest.raises(InvalidRequest, match="chmod 600"):
        find_token(file, {})
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert find_token(file, {})
    assert "may read it" in caplog.text
    assert TOKEN not in caplog.text


def test_it_does_not_show_itself() -> None:
    assert TOKEN not in repr(vars(AdminToken(TOKEN))) + repr(AdminToken(TOKEN))
