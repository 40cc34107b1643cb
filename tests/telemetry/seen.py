"""What OpenTelemetry is told, kept in memory and looked at as a tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from nanobot.telemetry import OpenTelemetry

__all__ = ["Seen"]


class Seen:
    """One bot's spans and metrics."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = self.tracers.get_tracer("user")
        self.telemetry = OpenTelemetry(
            tracer_provider=self.tracers, meter_provider=self.meters, **options
        )

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended, by their beginning."""
        return tuple(
            sorted(self.exporter.get_finished_spans(), key=lambda one: one.start_time or 0)
        )

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans of that name."""
        return [span for span in self.spans if span.name == name]

    def path(self, span: ReadableSpan) -> list[str]:
        """The names from the root down to a span."""
        by_id = {one.context.span_id: one for one in self.spans if one.context is not None}
        names = [span.name]
        while span.parent is not None:
            span = by_id[span.parent.span_id]
            names.insert(0, span.name)
        return names

    @property
    def tree(self) -> list[str]:
        """Each span as its path."""
        return [" > ".join(self.path(span)) for span in self.spans]

    def attributes(self, name: str) -> dict[str, Any]:
        """Of the only span of that name."""
        (span,) = self.named(name)
        return dict(span.attributes or {})

    def points(self, name: str) -> list[Any]:
        """The data points of one metric."""
        return [point for metric, point in self._points() if metric == name]

    def texts(self) -> str:
        """Everything that was told, in one text."""
        return "\n".join(
            [span.to_json() for span in self.spans]
            + [f"{name} {point.to_json()}" for name, point in self._points()]
        )

    def _points(self) -> Iterator[tuple[str, Any]]:
        found = self._reader.get_metrics_data()
        if found is None:
            return
        for resource in found.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        yield metric.name, point
