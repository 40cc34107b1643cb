"""What a refused request is turned into: the class, the wait, the advice, and no secret."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.errors import (
    AuthenticationFailed,
    MalformedStream,
    OutOfCredit,
    ProviderError,
    RateLimited,
    RequestRejected,
    ServiceUnavailable,
)
from nanobot.providers._http_errors import (
    ERROR_BODY_BYTES,
    body_excerpt,
    error_from_object,
    error_from_response,
    retry_after_s,
    without_secrets,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = "sk-canary-0123456789abcdef"
URL = "https://api.example.com/v1/chat/completions"


def error(
    status: int,
    body: bytes | str | dict[str, Any] | list[Any] = b"",
    headers: dict[str, str] | None = None,
) -> ProviderError:
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    return error_from_response(
        provider="acme",
        status=status,
        headers=httpx.Headers(headers or {}),
        body=body,
        url=URL,
        now=NOW,
        secrets=(KEY,),
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RequestRejected),
        (401, AuthenticationFailed),
        (402, OutOfCredit),
        (403, AuthenticationFailed),
        (404, RequestRejected),
        (408, ServiceUnavailable),
        (409, ServiceUnavailable),
        (413, RequestRejected),
        (418, RequestRejected),
        (422, RequestRejected),
        (429, RateLimited),
        (500, ServiceUnavailable),
        (502, ServiceUnavailable),
        (529, ServiceUnavailable),
        (301, RequestRejected),
        (100, MalformedStream),
    ],
)
def test_the_status_decides_the_class(status: int, kind: type[ProviderError]) -> None:
    found = error(status)
    assert type(found) is kind
    assert (found.provider, found.status) == ("acme", status)
    assert f"acme answered HTTP {status}" in str(found)


def test_a_status_that_says_otherwise_is_overruled_by_what_the_service_explains() -> None:
    quota = {"error": {"message": "You exceeded your quota.", "code": "insufficient_quota"}}
    assert type(error(429, quota)) is OutOfCredit
    assert "billing" in str(error(429, quota))
    key = {"error": {"code": 400, "message": "API key not valid. Please pass one.", "status": "X"}}
    assert type(error(400, key)) is AuthenticationFailed


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "No such model.", "type": "x", "param": None, "code": None}},
        {"error": "No such model."},
        {"error": {"error": {"message": "No such model."}}},
        {"message": "No such model.", "request_id": "1"},
        {"detail": "No such model."},
        {"detail": [{"loc": ["body"], "msg": "No such model.", "type": "missing"}]},
        {"errors": [{"code": 1, "message": "No such model."}]},
        [{"error": {"code": 404, "message": "No such model.", "status": "NOT_FOUND"}}],
        {"object": "error", "message": "No such model.", "code": 404},
        {"title": "No such model."},
        "No such model.",
        '"No such model."',
    ],
    ids=repr,
)
def test_the_explanation_is_found_wherever_services_put_it(body: Any) -> None:
    assert "acme answered HTTP 404: No such model. " in str(error(404, body))


def test_the_words_of_the_service_behind_a_gateway_are_shown_too() -> None:
    body = {"error": {"message": "Provider returned error", "metadata": {"raw": "too long"}}}
    assert "Provider returned error: too long." in str(error(400, body))


@pytest.mark.parametrize("body", ["", "null", "{}", "[]", '{"error":null}', '{"error":{}}', "\n"])
def test_a_body_that_explains_nothing_is_said_to(body: str) -> None:
    assert "acme answered HTTP 500: " in str(error(500, body))


def test_a_web_page_is_summarized() -> None:
    page = (
        "<!DOCTYPE html><html><head><title>502 Bad\n Gateway</title><style>p{}</style></head>"
        "<body><script>track('x')</script><h1>Sorry</h1><p>nginx &amp; co</p></body></html>"
    )
    found = error(502, page)
    assert found.body_excerpt == "HTML page '502 Bad Gateway': Sorry nginx & co"
    assert "track" not in str(found)


def test_what_to_check_is_said_where_the_user_can_do_something() -> None:
    assert "Check the API key of provider 'acme'" in str(error(401))
    assert "Check the model name" in str(error(404))
    assert URL in str(error(404))
    moved = error(301, headers={"location": "https://new.example/v1?token=abcdefgh"})
    assert "redirects to https://new.example/v1:" in str(moved)
    assert "Check" not in str(error(500))


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "30"}, 30.0),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "20s"}, 20.0),
        ({"retry-after": "250ms"}, 0.25),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(NOW - timedelta(hours=1), usegmt=True)}, 0.0),
        ({"retry-after": "Sunday, 01-Mar-26 12:00:10 GMT"}, 10.0),
        ({"retry-after": "Sun Mar  1 12:00:10 2026"}, 10.0),
        ({"retry-after": "Sun, 01 Mar 2026 14:00:10 +0200"}, 10.0),
        ({"retry-after": "later"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Sun, 99 Mar 2026 12:00:10 GMT"}, None),
    ],
    ids=str,
)
def test_the_wait_is_read_in_every_form(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(httpx.Headers(headers), now=NOW) == wait_s
    assert error(429, headers=headers).retry_after_s == wait_s


@given(st.text())
def test_no_retry_after_whatsoever_makes_it_raise(value: str) -> None:
    wait_s = retry_after_s({"retry-after": value, "retry-after-ms": value}, now=NOW)
    assert wait_s is None or wait_s >= 0


def test_a_wait_that_is_only_in_the_body_is_found() -> None:
    google = {"error": {"details": [{"@type": "RetryInfo", "retryDelay": "34.5s"}]}}
    assert error(429, json.dumps(google)).retry_after_s == 34.5
    assert error(429, "Rate limit reached. Please try again in 20ms.").retry_after_s == 0.02
    assert error(429, "Please retry after 7 seconds").retry_after_s == 7.0


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s"}, 1.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "7.66s"}, 7.66),
        ({"x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-reset-requests": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-reset": "12"}, 12.0),
        ({"ratelimit-reset": "12.5"}, 12.5),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) + 9)}, 9.0),
        ({"x-ratelimit-reset": str(int(NOW.timestamp() + 9) * 1000)}, 9.0),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) - 9)}, 0.0),
        ({"anthropic-ratelimit-requests-reset": (NOW + timedelta(seconds=4)).isoformat()}, 4.0),
        ({"anthropic-ratelimit-requests-reset": "2026-13-01T00:00:00Z"}, None),
        (  # what stands at 0 is what the request ran into
            {
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "30s",
            },
            30.0,
        ),
        (  # nothing stands at 0: the day's counter is not waited for
            {
                "x-ratelimit-remaining-requests": "9000",
                "x-ratelimit-reset-requests": "8h0m0s",
                "x-ratelimit-remaining-tokens": "200",
                "x-ratelimit-reset-tokens": "3s",
            },
            3.0,
        ),
        ({"x-ratelimit-reset-requests": "soon"}, None),
        ({"x-ratelimit-reset-requests": ""}, None),
        ({"x-ratelimit-limit-requests": "60"}, None),
        ({"retry-after": "2", "x-ratelimit-reset-requests": "9s"}, 2.0),
    ],
)
def test_the_wait_is_read_from_counters_where_nothing_else_says(
    headers: dict[str, str], wait_s: float | None
) -> None:
    found = error(429, headers=headers).retry_after_s
    assert found == (None if wait_s is None else pytest.approx(wait_s))
    assert error(503, headers=headers | {"retry-after": ""}).retry_after_s is None


@given(st.text(alphabet="0123456789.hmsT:-+Z ", max_size=30))
def test_no_counter_whatsoever_makes_it_raise(value: str) -> None:
    found = error(429, headers={"x-ratelimit-reset": value}).retry_after_s
    assert found is None or found >= 0


def test_a_service_may_say_itself_that_trying_again_is_of_no_use() -> None:
    assert error(500).retryable
    assert not error(500, headers={"x-should-retry": "false"}).retryable
    assert error(500, headers={"x-should-retry": "true"}).retryable
    assert not error(400, headers={"x-should-retry": "true"}).retryable


def test_a_wait_is_reported_only_where_trying_again_makes_sense() -> None:
    assert error(503, headers={"retry-after": "3"}).retry_after_s == 3.0
    assert error(401, headers={"retry-after": "3"}).retry_after_s is None


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {KEY}.",
        f"Authorization: Bearer {KEY}",
        f'{{"headers": {{"x-api-key": "{KEY}"}}}}',
        f"<html><title>{KEY}</title><p>{KEY}</p></html>",
        f"{'x' * 490}{KEY}",
        f'{{"error": {{"message": "{KEY}", "metadata": {{"raw": "{KEY}"}}}}}}',
        f"{KEY} " * 400,
    ],
    ids=range(7),
)
def test_the_key_is_nowhere_in_an_error(text: str) -> None:
    found = error(401, text)
    shown = f"{found!s} {found!r} {found.body_excerpt} {found.args} {vars(found)}"
    assert KEY not in shown
    assert "canary" not in shown
    assert len(found.body_excerpt) <= 500
    broken_off = error_from_object(text, provider="acme", raw=text.encode(), secrets=(KEY,))
    assert "canary" not in f"{broken_off} {vars(broken_off)}"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("key sk-proj-abc***xyz is wrong", "key [redacted] is wrong"),
        ("Bearer eyJhbGciOi.J9.x-y_z", "Bearer [redacted]"),
        ("Basic dXNlcjpwYXNz", "Basic [redacted]"),
        ("gsk_AbCdEf123456", "[redacted]"),
        ("AIzaSyA1234567890abc", "[redacted]"),
        ("xai-0123456789", "[redacted]"),
        ('"api_key": "abcdef123456"', '"api_key": "[redacted]"'),
        ("token=abcdef123456&x=1", "token=[redacted]&x=1"),
        ("the task-force asks for max_tokens: 4096", "the task-force asks for max_tokens: 4096"),
        ("Tokens: too many", "Tokens: too many"),
    ],
)
def test_what_looks_like_a_credential_is_removed_although_nobody_said_it_is_one(
    text: str, left: str
) -> None:
    assert without_secrets(text) == left


def test_a_placeholder_key_does_not_garble_the_text() -> None:
    assert without_secrets("ollama has no such model", ("ollama",)) == "ollama has no such model"


@given(st.binary(max_size=2000))
def test_an_excerpt_is_one_short_line_whatever_the_bytes(body: bytes) -> None:
    excerpt = body_excerpt(body)
    assert len(excerpt) <= 500
    assert "\n" not in excerpt
    assert len(error(500, body).body_excerpt) <= 500


@pytest.mark.parametrize(
    "unit",
    [
        b"<script",
        b"<title>",
        b"<!--",
        b"<",
        b"token ",
        b"token:",
        b"sk-a ",
        b"Bearer ",
        b"[",
        b'{"error":',
    ],
)
def test_hostile_repetition_costs_no_time(unit: bytes) -> None:
    started = time.process_time()
    error(500, unit * (ERROR_BODY_BYTES // len(unit)))
    assert time.process_time() - started < 2.0  # quadratic would be minutes


@pytest.mark.parametrize(
    ("payload", "kind", "status"),
    [
        ({"error": {"message": "m", "code": 429}}, RateLimited, 429),
        ({"error": {"message": "m", "code": "429"}}, RateLimited, 429),
        ({"error": {"message": "m", "type": "rate_limit_error"}}, RateLimited, None),
        ({"error": {"message": "m", "type": "authentication_error"}}, AuthenticationFailed, None),
        ({"error": {"message": "m", "code": "context_length_exceeded"}}, RequestRejected, None),
        ({"error": {"message": "m", "code": "insufficient_quota"}}, OutOfCredit, None),
        ({"error": {"message": "m", "type": "server_error"}}, ServiceUnavailable, None),
        ({"error": {"message": "m", "code": 502}}, ServiceUnavailable, 502),
        ({"error": "m"}, ServiceUnavailable, None),
        ("m", ServiceUnavailable, None),
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "m"}},
            ServiceUnavailable,
            None,
        ),
    ],
    ids=repr,
)
def test_an_error_inside_an_accepted_answer_has_its_class_too(
    payload: object, kind: type[ProviderError], status: int | None
) -> None:
    found = error_from_object(payload, provider="acme", raw=json.dumps(payload).encode())
    assert type(found) is kind
    assert found.status == status
    assert str(found) == "acme broke off its answer: m."
