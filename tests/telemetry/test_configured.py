"""Telemetry that a configuration turns on: in real processes, with the exporters that the environment names."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from nanobot import Nanobot
from nanobot.errors import ConfigError
from nanobot.telemetry import telemetry_from_environment
from nanobot.testing import scripted_server
from tests.telemetry.seen import Seen

SECRET = "canary-in-the-question"


class Collector:
    """What came to an OTLP receiver. Spans by name, with their attributes; names of metrics."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, dict[str, Any]]] = []
        self.metrics: set[str] = set()
        self.services: set[str] = set()
        self.bodies: list[bytes] = []

    def take(self, path: str, body: bytes) -> None:
        self.bodies.append(body)
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                attributes = {
                    one.key: one.value.string_value for one in resource.resource.attributes
                }
                self.services.add(attributes["service.name"])
                for scope in resource.scope_spans:
                    self.spans += [
                        (span.name, {one.key: one.value for one in span.attributes})
                        for span in scope.spans
                    ]
        else:
            assert path == "/v1/metrics"
            for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope_metrics in measured.scope_metrics:
                    self.metrics |= {metric.name for metric in scope_metrics.metrics}

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.spans]


@contextmanager
def collecting() -> Iterator[tuple[str, Collector]]:
    """An OTLP receiver on this machine."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                raise AssertionError("nobody asked for compression")
            collector.take(self.path, body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def blackhole() -> Iterator[str]:
    """A receiver that takes connections and never answers."""
    taken: list[socket.socket] = []
    over = Event()

    def accept() -> None:
        while not over.is_set():
            try:
                taken.append(listener.accept()[0])
            except TimeoutError:
                continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        thread = Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join()
            for connection in taken:
                connection.close()


def configure(folder: Path, base_url: str, **telemetry: Any) -> list[str]:
    """Write a configuration; returns the options that name it."""
    config = {
        "agents": {"defaults": {"model": "scripted/m", "workspace": str(folder / "w")}},
        "providers": {"scripted": {"apiKey": "k", "apiBase": base_url}},
        "telemetry": telemetry,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return ["-c", str(folder / "config.json")]


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return {**kept, **variables}


def nanobot(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nanobot", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(**variables),
    )


def test_what_serve_does_comes_to_a_collector(tmp_path: Path) -> None:
    with scripted_server(["Hello"]) as model, collecting() as (endpoint, collector):
        options = configure(tmp_path, model.base_url, enabled=True)
        command = [sys.executable, "-m", "nanobot", "serve", *options, "-p", "0"]
        variables = environment(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            question = {"messages": [{"role": "user", "content": SECRET}]}
            answer = httpx.post(f"{url}/chat/completions", json=question, timeout=60)
            assert answer.json()["choices"][0]["message"]["content"] == "Hello"
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    assert {"invoke_agent nanobot", "iteration", "chat m"} <= set(collector.names)
    assert {"nanobot.turn.duration", "gen_ai.client.token.usage"} <= collector.metrics
    assert collector.services == {"nanobot"}
    assert not any(SECRET.encode() in body for body in collector.bodies)


def test_content_is_told_if_the_configuration_says_so(tmp_path: Path) -> None:
    with scripted_server(["Hello"]) as model, collecting() as (endpoint, collector):
        options = configure(
            tmp_path, model.base_url, enabled=True, captureContent=True, contentLimit=200_000
        )
        answer = nanobot(
            "agent",
            "-m",
            SECRET,
            *options,
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_SERVICE_NAME="mine",
        )
        assert (answer.returncode, answer.stdout) == (0, "Hello\n"), answer.stderr
    (asked,) = [attributes for name, attributes in collector.spans if name == "chat m"]
    assert SECRET in asked["gen_ai.input.messages"].string_value
    assert collector.services == {"mine"}


def test_another_exporter_is_named_by_the_environment(tmp_path: Path) -> None:
    with scripted_server(["Hello"]) as model:
        options = configure(tmp_path, model.base_url, enabled=True)
        answer = nanobot(
            "agent",
            "-m",
            SECRET,
            *options,
            OTEL_TRACES_EXPORTER="console",
            OTEL_METRICS_EXPORTER="none",
        )
    assert answer.returncode == 0, answer.stderr
    assert '"name": "invoke_agent nanobot"' in answer.stdout
    assert SECRET not in answer.stdout


def test_off_it_imports_nothing_and_exports_nothing(tmp_path: Path) -> None:
    with scripted_server(["Hello"]) as model, collecting() as (endpoint, collector):
        configure(tmp_path, model.base_url, enabled=False)
        program = (
            "import sys; from nanobot import Nanobot\n"
            f"with Nanobot.from_config({str(tmp_path / 'config.json')!r}) as bot: bot.run_sync('Hi')\n"
            "print([name for name in sys.modules if name.startswith('opentelemetry')])"
        )
        ran = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env=environment(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint),
        )
    assert ran.stdout == "[]\n"
    assert collector.bodies == []


@pytest.mark.slow
def test_a_collector_that_never_answers_keeps_no_run_waiting(tmp_path: Path) -> None:
    """Nor the process at its end, however patient the environment wants it to be."""
    with scripted_server(lambda _: "Hello") as model, blackhole() as endpoint:
        configure(tmp_path, model.base_url, enabled=True)
        program = f"""
import time
from nanobot import Nanobot
with Nanobot.from_config({str(tmp_path / "config.json")!r}) as bot:
    bot.run_sync("Hi")
    time.sleep(0.3)  # by now the exporter hangs: spans are sent every 100 ms
    for _ in range(20):
        assert bot.run_sync("Hi").content == "Hello"
    print("answered", flush=True)
"""
        variables = environment(
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_EXPORTER_OTLP_TIMEOUT="600",
            OTEL_BSP_SCHEDULE_DELAY="100",
        )
        with subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=variables,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "answered\n"
            process.wait(25)  # left to themselves, the exporters would hold it for a minute
            assert process.returncode == 0


def test_sessions_are_looked_at_without_telling_anybody(tmp_path: Path) -> None:
    options = configure(tmp_path, "http://127.0.0.1:9/v1", enabled=True)
    answer = nanobot("sessions", "list", *options, OTEL_TRACES_EXPORTER="no-such-exporter")
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("command", [["agent", "-m", "Hi"], ["serve"], ["gateway"]])
def test_a_missing_extra_says_what_to_install(tmp_path: Path, command: list[str]) -> None:
    options = configure(tmp_path, "http://127.0.0.1:9/v1", enabled=True)
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        f"from nanobot.cli import main; main({[*command, *options]!r})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 1
    assert "pip install 'nanobot-ai[otel]'" in ran.stderr.splitlines()[0]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An environment without variables of OpenTelemetry, whose providers are forgotten afterwards."""
    from nanobot.telemetry._environment import _made_once

    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    _made_once.cache_clear()
    yield monkeypatch
    _made_once.cache_clear()


def test_an_exporter_that_is_not_installed_is_named(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("OTEL_TRACES_EXPORTER", "carrier-pigeon")
    with pytest.raises(ConfigError, match="OTEL_TRACES_EXPORTER=carrier-pigeon"):
        telemetry_from_environment(capture_content=False, content_limit=1)
    alone.setenv("OTEL_TRACES_EXPORTER", "otlp")
    alone.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ConfigError, match="pip install opentelemetry-exporter-otlp-proto-grpc"):
        telemetry_from_environment(capture_content=False, content_limit=1)


def test_a_variable_that_cannot_be_meant_is_a_mistake_in_the_configuration(
    alone: pytest.MonkeyPatch,
) -> None:
    alone.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    alone.setenv("OTEL_METRICS_EXPORTER", "none")
    with pytest.raises(ConfigError, match="environment variables"):
        telemetry_from_environment(capture_content=False, content_limit=1)


def test_what_a_program_passes_goes_before_the_configuration(
    alone: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone.setenv("OTEL_TRACES_EXPORTER", "carrier-pigeon")  # would be a mistake if it were asked
    with scripted_server(lambda _: "Hello") as model:
        configure(tmp_path, model.base_url, enabled=True)
        seen = Seen()
        with Nanobot.from_config(tmp_path / "config.json", telemetry=seen.telemetry) as bot:
            bot.run_sync("Hi")
        assert seen.named("invoke_agent nanobot")
        with Nanobot.from_config(tmp_path / "config.json", telemetry=False) as bot:
            assert bot.run_sync("Hi").content == "Hello"
        with pytest.raises(ConfigError, match="carrier-pigeon"):
            Nanobot.from_config(tmp_path / "config.json")
