"""The parts without I/O: the log, rates, tokens, histories, addresses."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.gateway import GatewaySettings
from nanobot.gateway._admission import Admission, read_handshake
from nanobot.gateway._chat_log import Behind, ChatLog
from nanobot.gateway._client_frames import FrameError
from nanobot.gateway._frame_reading import read_client_frame
from nanobot.gateway._history import latest_messages, without_turn
from nanobot.gateway._page_address import content_security_policy, websocket_url
from nanobot.gateway._rate_limit import RateLimit
from nanobot.gateway._server_frames import ChatFrame, Delta, ReasoningDelta, TurnStart
from nanobot.gateway._tokens import MAX_OUTSTANDING, Tokens, same_secret

frames = st.one_of(
    st.builds(
        Delta, st.just("c"), st.just("t"), stream_id=st.sampled_from("ab"), text=st.text(min_size=1)
    ),
    st.builds(
        ReasoningDelta, st.just("c"), st.just("t"), stream_id=st.just("a"), text=st.text(min_size=1)
    ),
    st.builds(TurnStart, st.just("c"), st.just("t")),
)


def story(told: list[ChatFrame]) -> list[tuple[str, str, str]]:
    """What frames say, whichever way deltas are joined."""
    said: list[tuple[str, str, str]] = []
    for frame in told:
        kind, stream = type(frame).__name__, getattr(frame, "stream_id", "")
        text = getattr(frame, "text", "")
        if said and text and said[-1][:2] == (kind, stream):
            said[-1] = (kind, stream, said[-1][2] + text)
        else:
            said.append((kind, stream, text))
    return said


@given(
    st.lists(frames, max_size=60),
    st.lists(st.integers(0, 60), max_size=10),
    st.integers(1, 3_000),
)
def test_whatever_a_reader_has_the_rest_tells_the_same_story(
    written: list[ChatFrame], stops: list[int], limit_bytes: int
) -> None:
    log = ChatLog(10**9)
    for frame in written:
        log.append(frame)
    for stop in {min(stop, len(written)) for stop in stops}:
        cursor, told = stop, list(written[:stop])
        while batch := log.after(cursor, limit_bytes=limit_bytes):
            assert [frame.seq for frame in batch] == sorted(frame.seq for frame in batch)
            assert batch[0].seq > cursor
            told += batch
            cursor = batch[-1].seq
        assert cursor == log.last
        assert story(told) == story(written)


@given(st.lists(frames, min_size=1, max_size=200), st.integers(300, 3_000))
def test_the_log_stays_within_its_bound_and_knows_what_it_forgot(
    written: list[ChatFrame], max_bytes: int
) -> None:
    log = ChatLog(max_bytes)
    for frame in written:
        log.append(frame)
        assert log.size <= max_bytes or len(log._entries) == 1
    for cursor in range(log.last + 1):
        if log.covers(cursor):
            log.after(cursor, limit_bytes=10**9)
        else:
            with pytest.raises(Behind):
                log.after(cursor, limit_bytes=10**9)
    with pytest.raises(Behind):
        log.after(log.last + 1, limit_bytes=1)
    before = log.size
    assert log.shrink() == before - log.size
    assert log.covers(log.last)


@given(
    st.floats(0.1, 100), st.integers(1, 50), st.lists(st.floats(0, 10), min_size=1, max_size=200)
)
def test_no_more_is_let_through_than_the_rate_allows(
    per_s: float, burst: int, pauses: list[float]
) -> None:
    now, through = 0.0, 0
    limit = RateLimit(per_s, burst, now=now)
    for pause in pauses:
        now += pause
        wait_s = limit.take(now)
        assert wait_s >= 0
        through += wait_s == 0
    assert through <= burst + per_s * now + 1e-6


def test_a_token_is_good_once_and_for_its_time() -> None:
    tokens = Tokens(ttl_s=10)
    first, second = tokens.issue(0), tokens.issue(0)
    assert first is not None
    assert second is not None
    assert first != second
    assert tokens.redeem(first, 9.9)
    assert not tokens.redeem(first, 9.9)
    assert not tokens.redeem(second, 10)
    assert not tokens.redeem("", 0)


def test_tokens_are_bounded_and_expired_ones_make_room() -> None:
    tokens = Tokens(ttl_s=10)
    for _ in range(MAX_OUTSTANDING):
        assert tokens.issue(0) is not None
    assert tokens.issue(1) is None
    assert tokens.issue(10) is not None
    assert len(tokens) == 1


def test_an_empty_secret_is_never_the_right_one() -> None:
    assert not same_secret("", "")
    assert same_secret("a", "a")
    assert not same_secret("\ud800", "a")


def test_the_static_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison that stops at the first difference gives the same answers: only how it is done tells them apart."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(given: bytes, expected: bytes) -> bool:
        compared.append((given, expected))
        return given == expected

    monkeypatch.setattr(secrets, "compare_digest", compare)
    rules = Admission("/", "secret", frozenset(), frozenset(), lambda _: False)
    assert rules.refusal(read_handshake("/?token=secret", [])) is None
    assert rules.refusal(read_handshake("/?token=secreT", [])) is not None
    assert compared == [(b"secret", b"secret"), (b"secreT", b"secret")]


def test_a_history_leaves_out_the_turn_whose_frames_come() -> None:
    user, answer = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    live = {"role": "user", "content": "c"}
    assert without_turn([user, answer, live, answer], "c") == [user, answer]
    assert without_turn([user, answer], "c") == [user, answer]
    assert without_turn([], "c") == []


def test_the_latest_messages_begin_with_a_user() -> None:
    messages = [
        {"role": role, "content": f"{role}{n}", "unknown": 1}
        for n in range(4)
        for role in ("user", "assistant")
    ]
    shown = latest_messages(messages, 3)
    assert shown == [
        {"role": "user", "content": "user3"},
        {"role": "assistant", "content": "assistant3"},
    ]
    assert len(latest_messages(messages, 100)) == 8
    assert latest_messages(messages, 0) == []


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("chat.example:18790", "ws://chat.example:8765/"),
        ("[::1]:18790", "ws://[::1]:8765/"),
        ("evil; script-src *", "ws://127.0.0.1:8765/"),
        ("", "ws://127.0.0.1:8765/"),
        ("a" * 300, "ws://127.0.0.1:8765/"),
    ],
)
def test_the_page_connects_to_where_it_came_from(host: str, url: str) -> None:
    everywhere = GatewaySettings(websocket_host="0.0.0.0", token="t")
    assert websocket_url(everywhere, host) == url
    assert websocket_url(GatewaySettings(), host) == "ws://127.0.0.1:8765/"
    assert websocket_url(GatewaySettings(public_url="wss://x.example/ws"), host).startswith("wss")


@given(st.text())
def test_no_host_gets_another_rule_into_the_policy(host: str) -> None:
    policy = content_security_policy(websocket_url(GatewaySettings(websocket_host=""), host))
    assert [rule.split(" ")[0] for rule in policy.split("; ")].count("script-src") == 1
    assert len(policy.split(";")) == 10


@given(st.text(max_size=300))
def test_whatever_a_client_sends_is_understood_or_refused(text: str) -> None:
    try:
        read_client_frame(text)
    except FrameError:
        pass


def test_deep_json_is_a_message_like_any_other() -> None:
    assert read_client_frame("[" * 50_000)


@given(st.text(), st.text())
def test_a_handshake_from_a_stranger_is_refused(target: str, origin: str) -> None:
    rules = Admission("/", "secret", frozenset(), frozenset({"http://ours"}), lambda _: False)
    headers = [(b"Origin", origin.encode("latin-1", "replace"))]
    assert rules.refusal(read_handshake(target, headers)) is not None
