"""Traces and metrics on the console. Needs the extra `otel`.

Point an OTLP exporter at your collector instead of the console ones, and nothing else changes.
"""

from __future__ import annotations

import asyncio

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from nanobot import Nanobot
from nanobot.telemetry import OpenTelemetry


def line(span: ReadableSpan) -> str:
    took_ms = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    attributes = span.attributes or {}
    tokens = attributes.get("gen_ai.usage.output_tokens")
    return f"{took_ms:8.1f} ms  {span.name}{f', {tokens} tokens' if tokens else ''}\n"


async def main() -> None:
    traces = TracerProvider()
    traces.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(formatter=line)))
    reader = PeriodicExportingMetricReader(ConsoleMetricExporter())
    metrics = MeterProvider([reader])
    telemetry = OpenTelemetry(tracer_provider=traces, meter_provider=metrics)
    tracer = traces.get_tracer("my program")
    try:
        async with Nanobot.from_config(telemetry=telemetry) as bot:
            with tracer.start_as_current_span("one request of a user"):
                result = await bot.run("Which files are in the workspace?")
            print(result.content)
    finally:
        traces.shutdown()
        metrics.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
