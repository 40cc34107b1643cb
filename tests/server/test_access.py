"""Who may ask: keys, addresses, pages of the web."""

from __future__ import annotations

import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.errors import ConfigError
from nanobot.server import ServerSettings, check_bind
from nanobot.server._access import check_key, check_origin, is_loopback
from nanobot.server._api_error import ApiError
from nanobot.testing import ScriptedProvider
from tests.server.servers import chat, make_bot, serving


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST.", "a.localhost"]
)
def test_a_loopback_address_needs_no_key(host: str) -> None:
    check_bind(host, "")


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.1.1", "example.com", "127.0.0.1.example.com"]
)
def test_any_other_address_needs_one(host: str) -> None:
    check_bind(host, "key")
    with pytest.raises(ConfigError, match=r"api\.apiKey"):
        check_bind(host, "")


@given(st.text(), st.text(min_size=1))
def test_only_the_key_itself_opens(given_key: str, api_key: str) -> None:
    authorization = f"Bearer {given_key}"
    if given_key.strip() == api_key:
        check_key(authorization, api_key)
    else:
        with pytest.raises(ApiError) as refused:
            check_key(authorization, api_key)
        assert refused.value.status == 401


def test_the_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison that stops at the first difference gives the same answers: only how it is done tells them apart."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(given: bytes, expected: bytes) -> bool:
        compared.append((given, expected))
        return given == expected

    monkeypatch.setattr(hmac, "compare_digest", compare)
    check_key("Bearer key", "key")
    with pytest.raises(ApiError):
        check_key("Bearer kex", "key")
    assert compared == [(b"key", b"key"), (b"kex", b"key")]


@pytest.mark.parametrize("authorization", [None, "", "k", "Basic k", "Bearer", "Bearer kk", "k k"])
def test_a_key_that_comes_in_another_way_does_not(authorization: str | None) -> None:
    with pytest.raises(ApiError):
        check_key(authorization, "k")


@pytest.mark.parametrize(
    ("host", "origin", "passes"),
    [
        ("127.0.0.1:8900", None, True),
        ("localhost:8900", "http://localhost:3000", True),
        ("[::1]:8900", None, True),
        (None, None, True),
        ("evil.example:8900", None, False),  # a name that its owner points at 127.0.0.1
        ("localhost:8900", "https://evil.example", False),
        ("localhost:8900", "null", False),
        ("localhost:8900", "http://[", False),
    ],
)
def test_pages_of_the_web_cannot_use_a_server_without_a_key(
    host: str | None, origin: str | None, passes: bool
) -> None:
    check_origin(host, origin, "key")
    if passes:
        check_origin(host, origin, "")
    else:
        with pytest.raises(ApiError) as refused:
            check_origin(host, origin, "")
        assert refused.value.status == 403


def test_a_name_that_only_looks_like_this_machine_is_not() -> None:
    assert not is_loopback("localhost.example.com")


async def test_everything_but_health_readiness_and_the_description_asks_for_the_key(
    tmp_path: Path,
) -> None:
    bot = make_bot(tmp_path, ScriptedProvider(["Hello"]))
    async with serving(bot, ServerSettings(api_key="secret")) as served:
        for path in ("/v1/models", "/metrics", "/v1/nothing"):
            answer = await served.client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
            assert answer.headers["www-authenticate"] == "Bearer"
        for path in ("/health", "/ready"):
            assert (await served.client.get(path)).status_code == 200
        assert (await served.chat("Hi")).status_code == 401
        with_key = await served.client.post(
            "/v1/chat/completions", json=chat("Hi"), headers={"authorization": "Bearer secret"}
        )
        assert with_key.status_code == 200


async def test_a_form_that_a_page_sends_reaches_nobody(tmp_path: Path) -> None:
    provider = ScriptedProvider([])
    async with serving(make_bot(tmp_path, provider)) as served:
        answer = await served.client.post(
            "/v1/chat/completions",
            data={"message": "run rm"},
            files={"a": ("a", b"x")},
            headers={"origin": "https://evil.example"},
        )
        assert answer.status_code == 403
    assert provider.requests == []
