"""OpenTelemetry as its own environment variables say: who exports, where to, and how often."""

from __future__ import annotations

import atexit
import functools
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from nanobot.errors import ConfigError

from ._opentelemetry import OpenTelemetry

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["telemetry_from_environment"]

_OTLP: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
"""Names of entry points, by what OTEL_EXPORTER_OTLP_PROTOCOL may say."""

_NO_EXPORTER: Final = (
    "{variable}={name}: there is no such exporter here. Install its package, for otlp with"
    " pip install opentelemetry-exporter-otlp-proto-{protocol}, or set {variable}=none."
)

_CLOSE_WITHIN_S: Final = 3.0
"""A collector takes milliseconds; a command that has answered is not to be kept longer by one that is dead."""

_Providers: TypeAlias = "tuple[TracerProvider | None, MeterProvider | None]"

_lock = threading.Lock()


def telemetry_from_environment(*, capture_content: bool, content_limit: int) -> OpenTelemetry:
    """Tell OpenTelemetry, and export what it is told.

    Providers that the program has set for itself, or that `opentelemetry-instrument` has, are used. Otherwise they are
    made of what the standard variables say: `OTEL_TRACES_EXPORTER` and `OTEL_METRICS_EXPORTER` (otlp unless they say
    otherwise; console, none, and whatever is installed), `OTEL_EXPORTER_OTLP_*`, `OTEL_SERVICE_NAME`, `OTEL_BSP_*` and so on.
    As there is one environment in a process, there is one set of exporters, whatever number of bots. Spans are exported in
    batches by a thread of their own; what is left when the process ends has three seconds to go out.

    Args:
      capture_content: As for `OpenTelemetry`.
      content_limit: As for `OpenTelemetry`.

    Raises:
      ConfigError: OpenTelemetry, or an exporter that is named, is not installed; or a variable cannot be meant.
    """
    traces, metrics = _providers()
    return OpenTelemetry(
        tracer_provider=traces,
        meter_provider=metrics,
        capture_content=capture_content,
        content_limit=content_limit,
    )


def _providers() -> _Providers:
    try:
        # deferred: whoever traces nothing needs none of it
        from opentelemetry import trace
    except ImportError:
        return None, None  # whoever uses them says what to install
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None, None
    with _lock:
        try:
            return _made_once()
        except ValueError as error:  # such as an interval that is no number
            raise ConfigError(
                f"OpenTelemetry cannot be set up from its environment variables: {error}"
            ) from error


@functools.cache
def _made_once() -> _Providers:
    # deferred: as above
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource

    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "nanobot"}))
    traces, metrics = _tracer_provider(resource), _meter_provider(resource)
    closing = threading.Event()
    # Begun now: in a process that ends, no thread can be.
    closers = [
        threading.Thread(target=_shut_down, args=(closing, one), daemon=True)
        for one in (traces, metrics)
    ]
    for closer in closers:
        closer.start()
    atexit.register(_close, closing, closers)
    return traces, metrics


def _shut_down(closing: threading.Event, provider: SdkTracerProvider | SdkMeterProvider) -> None:
    closing.wait()
    provider.shutdown()


def _close(closing: threading.Event, closers: list[threading.Thread]) -> None:
    """Flush what is left. Left to themselves, providers wait a minute for a collector that is not there."""
    closing.set()
    until = time.monotonic() + _CLOSE_WITHIN_S
    for closer in closers:
        closer.join(max(0.0, until - time.monotonic()))


def _tracer_provider(resource: Resource) -> SdkTracerProvider:
    # deferred: as above
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in _exporters("OTEL_TRACES_EXPORTER", "opentelemetry_traces_exporter"):
        provider.add_span_processor(BatchSpanProcessor(exporter()))
    return provider


def _meter_provider(resource: Resource) -> SdkMeterProvider:
    # deferred: as above
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

    exporters = _exporters("OTEL_METRICS_EXPORTER", "opentelemetry_metrics_exporter")
    made = [exporter() for exporter in exporters]
    return MeterProvider(
        [
            one if isinstance(one, MetricReader) else PeriodicExportingMetricReader(one)
            for one in made
        ],
        resource,
        shutdown_on_exit=False,
    )


def _exporters(variable: str, group: str) -> list[Any]:
    """The classes of exporters that a variable names.

    Raises:
      ConfigError: There is none of that name.
    """
    # deferred: 20 ms, for those who export
    from importlib.metadata import entry_points

    names = [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]
    found = []
    for name in names or ["otlp"]:
        if name == "none":
            continue
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf").strip()
        wanted = _OTLP.get(protocol, name) if name == "otlp" else name
        try:
            # The one who looks it up is the one who imports it: its own dependencies may be missing, too.
            (point,) = entry_points(group=group, name=wanted)
            found.append(point.load())
        except (ImportError, ValueError) as error:
            short = "grpc" if protocol == "grpc" else "http"
            raise ConfigError(
                _NO_EXPORTER.format(variable=variable, name=name, protocol=short)
            ) from error
    return found
