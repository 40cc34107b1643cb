"""What an HTTP answer that is not a model's answer means, as one of our errors.

Pure: status, headers and body go in, a `ProviderError` comes out whose class says whether to try again and
whose text says what to check. Nothing that looks like a credential survives the way.

Source: RFC 9110, sections 10.2.3 (Retry-After) and 15 (status codes); the bodies are those that services were
seen to send.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from nanobot._frames import without_frames
from nanobot.errors import (
    AuthenticationFailed,
    MalformedStream,
    OutOfCredit,
    ProviderError,
    RateLimited,
    RequestRejected,
    ServiceUnavailable,
)

__all__ = [
    "ERROR_BODY_BYTES",
    "body_excerpt",
    "chained",
    "error_from_object",
    "error_from_response",
    "reset_after_s",
    "retry_after_s",
    "without_secrets",
]

ERROR_BODY_BYTES: Final = 64 * 1024
"""How much of an error's body is worth reading, in bytes: every message we show is among the first few hundred."""

_EXCERPT_CHARS: Final = 500
_SHORTEST_SECRET: Final = 8
"""Local servers are given keys like "none" or "ollama"; removing those words everywhere would only garble the text."""

_REDACTED: Final = "[redacted]"
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=*-]{6,}")
_KEY = re.compile(
    r"\b(?:(?:sk|pk|rk|gsk|csk|xai|hf|nvapi|r8|pplx|fw|tgp|ghp)[-_][\w*.-]{6,}|AIza[\w*-]{10,})"
)
_NAMED_KEY = re.compile(
    r"(?i)\b(api[-_ ]?key|access[-_ ]?token|token|secret|password|authorization)"
    r"""(["']?\s*[:=]\s*["']?)[\w.~+/=*-]{6,}"""
)

# Each alternative `|\Z` lets an unclosed element run to the end, so that hostile markup costs linear time.
_TITLE = re.compile(r"<title[^>]*>(.*?)(?:</title|\Z)", re.IGNORECASE | re.DOTALL)
_UNSEEN = re.compile(
    r"<(script|style|head)\b.*?(?:</\1[^>]*>|\Z)|<!--.*?(?:-->|\Z)", re.IGNORECASE | re.DOTALL
)
_TAG = re.compile(r"<[^>]*(?:>|\Z)")

_SECONDS = re.compile(r"([+-]?\d{1,15}(?:\.\d{0,9})?)\s*(ms|s)?", re.ASCII | re.IGNORECASE)
_DURATION = re.compile(
    r"(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,9}(?:\.\d{0,9})?)s)?(?:(\d{1,9}(?:\.\d{0,9})?)ms)?",
    re.ASCII,
)
_UNIX_TIME: Final = 1e9
"""Seconds; as a duration it would be 30 years, as a moment it is in 2001."""

_UNIX_TIME_MS: Final = 1e12

_RETRY_IN_BODY = re.compile(
    r'"retryDelay":\s*"(\d{1,9}(?:\.\d{0,9})?)s"'
    r"|(?:try again|retry) (?:in|after) (\d{1,9}(?:\.\d{0,9})?) ?(ms|s)",
    re.ASCII | re.IGNORECASE,
)

_OUT_OF_CREDIT: Final = (
    "insufficient_quota",
    "insufficient_balance",
    "insufficient balance",
    "insufficient credit",
    "billing_hard_limit_reached",
    "billing_not_active",
    "exceeded_current_quota",
)

_CLASS_BY_WORD: Final[tuple[tuple[str, type[ProviderError]], ...]] = (
    ("rate_limit", RateLimited),
    ("too_many_requests", RateLimited),
    ("resource_exhausted", RateLimited),
    ("authentication", AuthenticationFailed),
    ("permission", AuthenticationFailed),
    ("invalid_api_key", AuthenticationFailed),
    ("unauthorized", AuthenticationFailed),
    ("invalid_request", RequestRejected),
    ("badrequest", RequestRejected),
    ("bad_request", RequestRejected),
    ("not_found", RequestRejected),
    ("context_length", RequestRejected),
    ("content_filter", RequestRejected),
)


def error_from_response(
    *,
    provider: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    url: str,
    now: datetime,
    secrets: Sequence[str] = (),
) -> ProviderError:
    """Return the error that a response stands for.

    Args:
      provider: Name of the provider, as in the configuration.
      status: HTTP status; any that is not a usable answer.
      headers: Of the response; looked up by lower-case name.
      body: The beginning of the body, up to `ERROR_BODY_BYTES`.
      url: Where the request went, without its query; named when the address may be what is wrong.
      now: The moment the response arrived, timezone-aware.
      secrets: Texts that must not appear in the error: keys, header and query values.
    """
    facts = _facts_in(body)
    shown = facts.message or _summary(body)
    said = without_secrets(shown, secrets)[:_EXCERPT_CHARS] or "no explanation"
    kind = _class_for(status, facts)
    message = f"{provider} answered HTTP {status}: {_sentence(said)}"
    if advice := _advice(kind, status, facts, provider=provider, url=url, headers=headers):
        message += f" {without_secrets(advice, secrets)}"
    wait_s = retry_after_s(headers, now=now) if kind.retryable else None
    if wait_s is None and kind is RateLimited:
        wait_s = _retry_after_in(body)
        if wait_s is None:
            wait_s = reset_after_s(headers, now=now)
    error = kind(
        message,
        provider=provider,
        status=status,
        retry_after_s=wait_s,
        body_excerpt=body_excerpt(body, secrets),
    )
    if headers.get("x-should-retry", "").strip().lower() == "false":
        error.retryable = False  # OpenAI and Anthropic say so where the status alone would mislead
    return error


def error_from_object(
    payload: object, *, provider: str, raw: bytes, secrets: Sequence[str] = ()
) -> ProviderError:
    """Return the error that a service reports inside an answer it had already accepted with status 200.

    Args:
      payload: The decoded JSON around the report, or the report itself.
      provider: Name of the provider, as in the configuration.
      raw: The bytes it was decoded from, for the excerpt.
      secrets: Texts that must not appear in the error.
    """
    facts = _facts_of(payload)
    status = facts.status
    kind = _class_for(status, facts) if status else _class_by_words(facts)
    said = without_secrets(facts.message, secrets)[:_EXCERPT_CHARS] or "no explanation"
    return kind(
        f"{provider} broke off its answer: {_sentence(said)}",
        provider=provider,
        status=status or None,
        retry_after_s=_retry_after_in(raw) if kind is RateLimited else None,
        body_excerpt=body_excerpt(raw, secrets),
    )


def retry_after_s(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Read how long a service asks us to wait, in seconds, >= 0; None if it does not say or cannot be understood.

    `retry-after-ms` (milliseconds, some vendors) is more precise and wins over `retry-after`, which is seconds,
    whole by the standard and with a fraction in practice, or an HTTP date; a date that has passed means now.

    Args:
      headers: Of the response; looked up by lower-case name.
      now: The moment the response arrived, timezone-aware.

    Source: RFC 9110, section 10.2.3.
    """
    if match := _SECONDS.fullmatch(headers.get("retry-after-ms", "").strip()):
        return max(0.0, float(match[1]) / 1000)
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if match := _SECONDS.fullmatch(value):
        divisor = 1000 if (match[2] or "").lower() == "ms" else 1
        return max(0.0, float(match[1]) / divisor)
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:  # "-0000", and the two obsolete forms, mean UTC
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - now).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def reset_after_s(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Read from a service's counters when a request may go again, in seconds, >= 0; None if they do not say.

    A counter that stands at 0 is what the request ran into; of several such, the last one to be refilled counts. If none
    does (a request may want more than is left), the first one to be refilled: a further refusal costs less than waiting
    for a counter of a whole day.

    Names are `[x-]ratelimit-reset[-requests]` (OpenAI, Groq, OpenRouter, the IETF draft) and
    `anthropic-ratelimit-requests-reset`, with `remaining` in the place of `reset`. Values are durations ("1s", "6m0s",
    "20ms"), seconds, moments in Unix time in seconds or milliseconds, or ISO 8601.

    Args:
      headers: Of the response; looked up by lower-case name.
      now: The moment the response arrived, timezone-aware.
    """
    exhausted: list[float] = []
    others: list[float] = []
    for name in headers:
        name = name.lower()
        if "ratelimit" not in name or "reset" not in name.split("-"):
            continue
        wait_s = _reset_in_s(headers.get(name, "").strip(), now)
        if wait_s is not None:
            left = headers.get(name.replace("reset", "remaining"), "").strip()
            (exhausted if left == "0" else others).append(wait_s)
    if exhausted:
        return max(exhausted)
    return min(others, default=None)


def _reset_in_s(value: str, now: datetime) -> float | None:
    if value and (match := _DURATION.fullmatch(value)):
        hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    try:
        if "T" in value:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            return max(0.0, (moment - now).total_seconds())
        if not _SECONDS.fullmatch(value):
            return None
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    if seconds > _UNIX_TIME_MS:
        seconds /= 1000
    return max(0.0, seconds - now.timestamp() if seconds > _UNIX_TIME else seconds)


def without_secrets(text: str, secrets: Sequence[str] = ()) -> str:
    """Return `text` with every given secret, and whatever else looks like a credential, replaced."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _REDACTED)
    text = _BEARER.sub(rf"\1 {_REDACTED}", text)
    text = _KEY.sub(_REDACTED, text)
    return _NAMED_KEY.sub(rf"\1\2{_REDACTED}", text)


def chained(error: ProviderError, cause: BaseException, secrets: Sequence[str]) -> ProviderError:
    """Give an error its cause, without frames; a cause that quotes a secret is not kept. To be raised where none is handled."""
    one: BaseException | None = without_frames(cause)
    while one is not None:
        if without_secrets(str(one), secrets) != str(one):
            return error
        one = one.__cause__ or one.__context__
    error.__cause__ = cause
    return error


def body_excerpt(body: bytes, secrets: Sequence[str] = ()) -> str:
    """Return at most 500 characters of what a service said: readable, on one line, without secrets."""
    text = without_secrets(_summary(body), secrets)
    return text if len(text) <= _EXCERPT_CHARS else text[: _EXCERPT_CHARS - 1] + "…"


class _Facts(msgspec.Struct, frozen=True):
    """What could be found in an error's body: prose, a status, and the machine-readable words joined in lower
    case."""

    message: str = ""
    status: int = 0
    words: str = ""


def _facts_in(body: bytes) -> _Facts:
    try:
        return _facts_of(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Facts()


def _facts_of(payload: object, depth: int = 0) -> _Facts:
    """Look for the report where services put it: under "error", at the top, in a list of one."""
    if depth > 4:
        return _Facts()
    if isinstance(payload, str):
        return _Facts(message=payload.strip())
    if isinstance(payload, list):
        return _facts_of(payload[0], depth + 1) if payload else _Facts()
    if not isinstance(payload, dict):
        return _Facts()
    for key in ("error", "errors"):
        if inner := payload.get(key):
            found = _facts_of(inner, depth + 1)
            if found.message or found.words or found.status:
                return found
    message = ""
    for key in ("message", "detail", "msg", "error_message", "title"):
        value = payload.get(key)
        if not isinstance(value, str) and value:
            value = _facts_of(value, depth + 1).message
        if value:
            message = str(value).strip()
            break
    metadata = payload.get("metadata")  # OpenRouter puts the words of the service behind it here
    if isinstance(metadata, dict) and isinstance(raw := metadata.get("raw"), str) and raw:
        message = f"{message}: {raw.strip()}" if message else raw.strip()
    status = 0
    words = []
    for key in ("code", "status", "type", "reason"):
        value = payload.get(key)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
            value = int(value)
        if isinstance(value, str):
            words.append(value.lower())
        elif isinstance(value, int) and 400 <= value <= 599:
            status = status or value
    return _Facts(message, status, " ".join(words))


def _class_for(status: int, facts: _Facts) -> type[ProviderError]:
    if status == 402 or _is_out_of_credit(facts):
        return OutOfCredit  # waiting does not help, so it must not look like being too fast
    if status in (401, 403) or (status == 400 and "api key not valid" in facts.message.lower()):
        return AuthenticationFailed
    if status == 429:
        return RateLimited
    if status in (408, 409) or status >= 500:
        return ServiceUnavailable
    if status >= 300:
        return RequestRejected
    return MalformedStream


def _class_by_words(facts: _Facts) -> type[ProviderError]:
    if _is_out_of_credit(facts):
        return OutOfCredit
    for word, kind in _CLASS_BY_WORD:
        if word in facts.words:
            return kind
    return ServiceUnavailable


def _is_out_of_credit(facts: _Facts) -> bool:
    text = f"{facts.words} {facts.message.lower()}"
    return any(sign in text for sign in _OUT_OF_CREDIT)


def _advice(
    kind: type[ProviderError],
    status: int,
    facts: _Facts,
    *,
    provider: str,
    url: str,
    headers: Mapping[str, str],
) -> str:
    if status == 402 or _is_out_of_credit(facts):
        return "The account has no credit left: check its plan and billing."
    if kind is AuthenticationFailed:
        return f"Check the API key of provider {provider!r}, and that it may use this model."
    if status == 404:
        return f"Check the model name, and that the base URL is right: the request went to {url}."
    if 300 <= status <= 399:
        place = headers.get("location", "").partition("?")[0][:200] or "another address"
        return f"{url} redirects to {place}: set the base URL to where the service really is."
    if status == 405:
        return f"Check the base URL: the request went to {url}."
    return ""


def _retry_after_in(body: bytes) -> float | None:
    """Read a wait that is written in the body only, as Google's APIs and OpenAI's prose do."""
    match = _RETRY_IN_BODY.search(body[:ERROR_BODY_BYTES].decode("utf-8", "replace"))
    if match is None:
        return None
    if match[1]:
        return float(match[1])
    return float(match[2]) / (1000 if match[3].lower() == "ms" else 1)


def _summary(body: bytes) -> str:
    text = body[:ERROR_BODY_BYTES].decode("utf-8", "replace").strip()
    if text.startswith("<"):
        title = _TITLE.search(text)
        words = html.unescape(_TAG.sub(" ", _UNSEEN.sub(" ", text)))
        heading = " ".join(html.unescape(title[1]).split()) if title else ""
        text = f"HTML page {heading!r}: {words}" if heading else f"HTML page: {words}"
    return " ".join(text.split())


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
