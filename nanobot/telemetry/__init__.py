"""What runs tell about themselves while they run: spans and measurements, to OpenTelemetry or to whoever else listens.

`Telemetry` and `Span` are what the rest of nanobot sees; `OpenTelemetry` fills them. Without a `Telemetry` nobody tells
anything, and nothing of OpenTelemetry is imported.
"""

from ._environment import telemetry_from_environment
from ._opentelemetry import OpenTelemetry
from ._telemetry import Fact, Metric, Span, SpanKind, Telemetry

__all__ = [
    "Fact",
    "Metric",
    "OpenTelemetry",
    "Span",
    "SpanKind",
    "Telemetry",
    "telemetry_from_environment",
]
