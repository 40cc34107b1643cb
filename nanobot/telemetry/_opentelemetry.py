"""Telling OpenTelemetry."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from nanobot._version import __version__
from nanobot.errors import ConfigError

from ._names import OPERATIONS, attributes_of, span_name
from ._stepwise import Stepwise
from ._telemetry import Fact, Metric, Span, SpanKind

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Histogram, MeterProvider, UpDownCounter
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import TracerProvider

__all__ = ["OpenTelemetry"]

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("nanobot.telemetry")

_SCOPE: Final = "nanobot"
_SECONDS: Final = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
)
_TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304)
"""Bounds of buckets, as the conventions advise."""

_NO_TELEMETRY: Final = "OpenTelemetry() needs the extra `otel`: pip install 'nanobot-ai[otel]'. It was not installed: {error}"


def _harmless(function: Callable[P, T]) -> Callable[P, T | None]:
    """A call that fails must not fail the run it tells of: exporters and processors are strangers' code."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return function(*args, **kwargs)
        except Exception:  # noqa: BLE001 - see above
            _log.warning("OpenTelemetry failed; runs go on", exc_info=True)
            return None

    return guarded


class OpenTelemetry:
    """Spans and metrics of runs, by OpenTelemetry's conventions for generative AI. A `Telemetry`.

    Pass it as `Nanobot.from_config(telemetry=OpenTelemetry())`. One may serve several bots, loops and threads.

    It exports nothing itself, and never waits: that is up to the processors of your provider. Use a `BatchSpanProcessor`, which
    exports in a thread of its own and drops spans when its queue is full. A `SimpleSpanProcessor` exports in the thread that
    ends a span, and that is the engine's: with it, a slow exporter slows every run.

    Args:
      tracer_provider: Where spans go; default OpenTelemetry's global one.
      meter_provider: Where metrics go; default OpenTelemetry's global one.
      capture_content: Whether spans hold what was said: messages, arguments and results of tools, texts of errors. They often
        hold personal data and secrets, so by default none of it leaves the process.
      content_limit: Characters of each such text.

    Raises:
      ConfigError: OpenTelemetry is not installed.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        capture_content: bool = False,
        content_limit: int = 16_000,
    ) -> None:
        try:
            # deferred: programs that trace nothing need none of it
            from opentelemetry import context, metrics, trace
        except ImportError as error:
            raise ConfigError(_NO_TELEMETRY.format(error=error)) from error
        self.captures_content: Final = capture_content
        self._content_limit = content_limit
        self._context = context
        self._trace = trace
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider)

        def histogram(name: str, unit: str, description: str, bounds: Any = _SECONDS) -> Histogram:
            return meter.create_histogram(
                name, unit, description, explicit_bucket_boundaries_advisory=bounds
            )

        tokens = histogram("gen_ai.client.token.usage", "{token}", "Tokens of requests.", _TOKENS)
        self._queue: UpDownCounter = meter.create_up_down_counter(
            "nanobot.queue.length", "{run}", "Runs that wait for their session or the lock."
        )
        self._cost: Counter = meter.create_counter(
            "nanobot.cost", "{USD}", "What requests cost by list price."
        )
        self._histograms: dict[Metric, Histogram] = {
            "turn_s": histogram("nanobot.turn.duration", "s", "Turns, from being posted."),
            "request_s": histogram(
                "gen_ai.client.operation.duration", "s", "Requests, with all their attempts."
            ),
            "first_token_s": histogram(
                "gen_ai.client.operation.time_to_first_chunk", "s", "Until the first piece came."
            ),
            "prompt_tokens": tokens,
            "completion_tokens": tokens,
            "tool_s": histogram("nanobot.tool.duration", "s", "Calls of tools."),
            "mailbox_wait_s": histogram("nanobot.mailbox.wait", "s", "Waits for the session."),
            "lock_wait_s": histogram("nanobot.lock.wait", "s", "Waits for the runtime's lock."),
        }

    def span(
        self, kind: SpanKind, name: str = "", *, since: float | None = None, **facts: Fact
    ) -> Span:
        """Begin a span; see `Telemetry.span`."""
        return _OtelSpan(self, self._start(kind, name, since, facts) or self._trace.INVALID_SPAN)

    def inside(self, span: Span) -> AbstractContextManager[object]:
        """Let a span be the parent of a block; see `Telemetry.inside`."""
        assert isinstance(span, _OtelSpan)
        return _Inside(span)

    @_harmless
    def measured(self, metric: Metric, value: float, **facts: Fact) -> None:
        """Take one value; see `Telemetry.measured`."""
        if metric == "queue_length":
            self._queue.add(int(value), attributes_of(facts))
        elif metric == "cost_usd":
            self._cost.add(value, attributes_of(facts))
        else:
            if metric in ("prompt_tokens", "completion_tokens"):
                facts["token_type"] = "input" if metric == "prompt_tokens" else "output"
            self._histograms[metric].record(value, attributes_of(facts))

    def here(self) -> object:
        """OpenTelemetry's current context."""
        return self._context.get_current()

    async def within(self, here: object, function: Callable[..., Awaitable[T]], /, *args: Any) -> T:
        """Await something with another current span; see `Telemetry.within`."""
        return await Stepwise(
            function(*args),
            here,
            get=self._context.get_current,
            set=self._context.attach,
            reset=self._context.detach,
        )

    @_harmless
    def _start(
        self, kind: SpanKind, name: str, since: float | None, facts: dict[str, Fact]
    ) -> OtelSpan:
        attributes: dict[str, Any] = attributes_of(self._fitting(facts))
        if (operation := OPERATIONS.get(kind)) is not None:
            attributes["gen_ai.operation.name"] = operation
        started = None
        if since is not None:
            started = time.time_ns() - round((time.monotonic() - since) * 1e9)
        client = self._trace.SpanKind.CLIENT
        return self._tracer.start_span(
            span_name(kind, name),
            kind=client if kind == "request" else self._trace.SpanKind.INTERNAL,
            attributes=attributes,
            start_time=started,
            record_exception=False,  # their texts are content
            set_status_on_exception=False,
        )

    def _fitting(self, facts: dict[str, Fact]) -> dict[str, Fact]:
        return {
            name: value[: self._content_limit] if isinstance(value, str) else value
            for name, value in facts.items()
        }


class _OtelSpan:
    """One span of OpenTelemetry's."""

    __slots__ = ("_span", "_telemetry", "_token")

    def __init__(self, telemetry: OpenTelemetry, span: OtelSpan) -> None:
        self._telemetry = telemetry
        self._span = span
        self._token: Any = None

    @_harmless
    def note(self, **facts: Fact) -> None:
        """Say something about it; see `Span`."""
        self._span.set_attributes(attributes_of(self._telemetry._fitting(facts)))

    @_harmless
    def happened(self, what: str, **facts: Fact) -> None:
        """Say that something happened in it; see `Span`."""
        self._span.add_event(what, attributes_of(self._telemetry._fitting(facts)))

    @_harmless
    def make_current(self) -> None:
        """Be the parent of what begins in this context; see `Span`."""
        self._attach()

    @_harmless
    def end(self, error: str | None = None) -> None:
        """End now; see `Span`."""
        if error is not None:
            trace = self._telemetry._trace
            self._span.set_attribute("error.type", error)
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()
        if error is not None and self._telemetry.captures_content:
            self.note(error_text=str(error))
        self.end(None if kind is None else kind.__qualname__)

    def _attach(self) -> Any:
        telemetry = self._telemetry
        return telemetry._context.attach(telemetry._trace.set_span_in_context(self._span))

    @_harmless
    def enter(self) -> None:
        """Become the current span, until `leave`."""
        self._token = self._attach()

    @_harmless
    def leave(self) -> None:
        """What was current before `enter` is so again."""
        if self._token is not None:
            self._telemetry._context.detach(self._token)
            self._token = None


class _Inside:
    """A block inside a span that outlasts it."""

    def __init__(self, span: _OtelSpan) -> None:
        self._span = span

    def __enter__(self) -> None:
        self._span.enter()

    def __exit__(self, *raised: object) -> None:
        self._span.leave()
