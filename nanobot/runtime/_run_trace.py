"""What one run tells: that it waits, runs, and what came of it."""

from __future__ import annotations

import time

from nanobot.agent import RunResult, own_part
from nanobot.providers._select import ModelSelection
from nanobot.telemetry import Metric, Span, SpanKind, Telemetry

from ._request import RunRequest
from ._run import Run

__all__ = ["RunTrace", "follow"]

_WORTH_A_SPAN_S = 0.001
"""Waits that are shorter are in the metrics only; a run that nobody keeps waiting needs some 50 µs to start."""


def follow(telemetry: Telemetry, run: Run, request: RunRequest, selection: ModelSelection) -> None:
    """Tell of a run until it has settled. To be called before it is posted, where it was made."""
    run.trace = RunTrace(telemetry, run, request, selection)


class RunTrace:
    """One run's span: inside the span that was current where the run was started, and around all that is done in it."""

    def __init__(
        self, telemetry: Telemetry, run: Run, request: RunRequest, selection: ModelSelection
    ) -> None:
        self._telemetry = telemetry
        self._run = run
        self._waiting = True
        self._who = {"provider": selection.provider_name, "model": selection.model}
        self._span = run.call.context.run(self._begin, request, selection)
        telemetry.measured("queue_length", 1)
        run.call.on_settled(self._settled)

    def begun(self) -> None:
        """The run has its session and the lock. Called in its task."""
        run, now = self._run, time.monotonic()
        asked_at = run.asked_for_lock_at
        left_mailbox_at = now if asked_at is None else asked_at
        self._waited("mailbox_wait_s", "mailbox_wait", run.posted_at, left_mailbox_at)
        if asked_at is not None:
            self._waited("lock_wait_s", "lock_wait", asked_at, now)
        self._no_longer_waiting()

    def _begin(self, request: RunRequest, selection: ModelSelection) -> Span:
        span = self._telemetry.span(
            "run",
            "nanobot",
            since=self._run.posted_at,
            agent="nanobot",
            provider=selection.provider_name,
            model=selection.model,
            session_key=request.session_key,
            channel=request.channel,
            model_preset=selection.preset,
            exclusive=self._run.exclusive,
            ephemeral=request.ephemeral,
            output_type="text" if request.output is None else "json",
        )
        span.make_current()
        return span

    def _waited(self, metric: Metric, kind: SpanKind, since: float, until: float) -> None:
        self._telemetry.measured(metric, max(0.0, until - since))
        if until - since >= _WORTH_A_SPAN_S:
            self._telemetry.span(kind, since=since).end()

    def _no_longer_waiting(self) -> None:
        if self._waiting:
            self._waiting = False
            self._telemetry.measured("queue_length", -1)

    def _settled(self) -> None:
        self._no_longer_waiting()
        run = self._run
        failure = run.call.failure
        result: RunResult | None = None
        if failure is None:
            result = run.call.result()
        elif run.partial is not None:
            result = run.partial()
        error = None if failure is None else type(failure).__qualname__
        stop_reason = "cancelled" if error == "CallCancelled" else "error"
        if result is not None:
            stop_reason = result.stop_reason or stop_reason
            if result.error is not None:
                error = result.metadata.get("exception_type") or stop_reason
            requests, usage, cost_usd = own_part(result)
            usage.pop("total_tokens", None)
            self._span.note(
                provider=result.metadata.get("provider"),
                response_model=result.metadata.get("model"),
                finish_reason=result.metadata.get("finish_reason"),
                iterations=result.metadata.get("iterations"),
                requests=requests,
                tools_used=len(result.tools_used),
                cost_usd=cost_usd,
                persisted=result.metadata.get("persisted"),
                **usage,
            )
        self._span.note(stop_reason=stop_reason)
        self._span.end(error)
        elapsed_s = time.monotonic() - run.posted_at
        self._telemetry.measured("turn_s", elapsed_s, stop_reason=stop_reason, **self._who)
        run.trace = None  # they hold each other
