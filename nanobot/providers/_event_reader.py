"""From the payload of one event to its shape, leniently; or to the error that a service reports in its place."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from nanobot.errors import MalformedStream, ProviderError, RequestRejected

from ._characters import CharacterJoiner, decode_forgivingly
from ._http_errors import body_excerpt, error_from_object

__all__ = ["EventReader", "EventShape"]

_REQUEST_FAULTS: Final = ("billing", "image", "invalid", "mismatch", "policy", "unsupported")
"""Words in the code of an error that the same request would meet again."""

_REPORT_FIELDS: Final = frozenset({"detail", "message"})
_CANNOT_DECODE: Final = (ValueError, TypeError, RecursionError)
"""What decoding raises; msgspec's errors and `UnicodeDecodeError` are ValueErrors."""


class EventShape(Protocol):
    """One shape for all events of a format; `type` says which of its fields mean something."""

    type: str | None
    error: Any


_Shape = TypeVar("_Shape", bound=EventShape)


class EventReader(Generic[_Shape]):
    """Reads the events of one answer.

    Args:
      shape: What to decode into, and its decoder.
      understood: The types of events that mean something; others are skipped.
      noun: What the events are parts of, for errors: "a message".
      provider: Name of the provider, for errors.
      secrets: Texts that must not appear in errors.

    Attributes:
      halves: What joins characters, once an event had some that were cut in half; None until then.
    """

    def __init__(
        self,
        shape: type[_Shape],
        decoder: msgspec.json.Decoder[_Shape],
        *,
        understood: Collection[str],
        noun: str,
        provider: str,
        secrets: Sequence[str] = (),
    ) -> None:
        self._shape = shape
        self._decode = decoder.decode
        self._understood = understood
        self._noun = noun
        self._provider = provider
        self._secrets = secrets
        self.halves: CharacterJoiner | None = None

    def read(self, payload: bytes) -> _Shape | None:
        """Decode one event; None if it is of a type that means nothing here. One without a type is returned.

        Raises:
          MalformedStream: The payload is not JSON of the expected shape.
          ProviderError: The payload reports an error; the class says of what kind.
        """
        try:
            event = self._decode(payload)
        except _CANNOT_DECODE:
            return self._read_forgivingly(payload)
        kind = event.type
        if kind == "error" or event.error:
            raise self.reported(payload)
        if kind is None:
            self._check_for_report(decode_forgivingly(payload), payload)
        elif kind not in self._understood:
            return None
        return event

    def reported(self, payload: bytes, report: object = None) -> ProviderError:
        """Return the error that a payload stands for; `report` is the part of it that says so, if not all does."""
        if report is None:
            try:
                report = decode_forgivingly(payload)
            except _CANNOT_DECODE:  # not JSON; then it is prose
                report = payload.decode("utf-8", "replace")
        error = error_from_object(
            report, provider=self._provider, raw=payload, secrets=self._secrets
        )
        if error.retryable and error.status is None and _blames_request(report):
            excerpt = error.body_excerpt
            return RequestRejected(str(error), provider=self._provider, body_excerpt=excerpt)
        return error

    def _read_forgivingly(self, payload: bytes) -> _Shape | None:
        try:
            value = decode_forgivingly(payload)
            kind = value.get("type") if isinstance(value, dict) else None
            if kind == "error":
                raise self.reported(payload, value)
            if kind is None:
                self._check_for_report(value, payload)
            elif kind not in self._understood:
                return None
            event = msgspec.convert(value, self._shape, strict=False)
        except _CANNOT_DECODE:
            excerpt = body_excerpt(payload, self._secrets)
            raise MalformedStream(
                f"{self._provider} sent an event that is not part of {self._noun}: {excerpt[:120]!r}",
                provider=self._provider,
                body_excerpt=excerpt,
            ) from None  # what decoding raises carries the whole payload
        if self.halves is None:
            self.halves = CharacterJoiner()
        return event

    def _check_for_report(self, value: object, payload: bytes) -> None:
        """Look for an error in a payload that is none of the format's, as proxies and gateways send it."""
        if isinstance(value, dict) and (
            value.get("error") or value.get("object") == "error" or _REPORT_FIELDS & value.keys()
        ):
            raise self.reported(payload, value)


def _blames_request(report: object) -> bool:
    if isinstance(report, dict) and isinstance(inner := report.get("error"), dict):
        report = inner
    if not isinstance(report, dict):
        return False
    words = f"{report.get('code')} {report.get('type')}"
    return any(fault in words for fault in _REQUEST_FAULTS)
