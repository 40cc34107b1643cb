"""`nanobot status`: exit code 0 only if a run could start, keys never shown, nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanobot.providers.local import missing_wheels
from nanobot.testing import HttpResponse, scripted_server

from .conftest import Configure, Invoke

KEY = "canary.0123456789"


def test_a_configured_model_is_ready_and_its_key_is_not_shown(
    invoke: Invoke, configure: Configure
) -> None:
    configure("http://127.0.0.1:9/v1")
    answer = invoke("status")
    assert answer.exit_code == 0
    assert "scripted/any" in answer.output
    assert "from providers.scripted.apiKey" in answer.output
    assert "http://127.0.0.1:9/v1" in answer.output
    assert "Ready." in answer.output
    assert KEY not in answer.output
    assert KEY not in invoke("status", "--json").output


def test_without_any_key_it_says_what_to_set_and_fails(invoke: Invoke, home: Path) -> None:
    if not missing_wheels():
        pytest.skip("the embedded model is installed here, so a run could start")
    answer = invoke("status")
    assert answer.exit_code == 1
    last = answer.output.splitlines()[-1]
    assert "nanobot onboard" in last
    assert "OPENAI_API_KEY" in last
    assert list(home.iterdir()) == []


def test_a_key_in_the_environment_is_enough_and_nothing_is_written(
    invoke: Invoke, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    answer = invoke("status", "--json")
    assert answer.exit_code == 0
    found = json.loads(answer.output)
    assert found["ready"] is True
    assert found["keySource"] == "OPENAI_API_KEY"
    assert found["configExists"] is False
    assert found["workspace"] == str(home / ".nanobot" / "workspace")
    assert list(home.iterdir()) == []


def test_keys_that_nothing_reads_are_listed(invoke: Invoke, configure: Configure) -> None:
    configure("http://127.0.0.1:9/v1", temprature=0.2)
    assert "agents.defaults.temprature" in invoke("status").output


def test_a_broken_configuration_says_where_and_quotes_no_value(
    invoke: Invoke, configure: Configure
) -> None:
    configure("http://127.0.0.1:9/v1", maxTokens=KEY)
    answer = invoke("status")
    assert answer.exit_code == 1
    assert "agents.defaults.maxTokens: expected a whole number" in answer.output
    assert KEY not in answer.output


def test_a_file_that_was_named_and_is_not_there_fails(invoke: Invoke) -> None:
    answer = invoke("status", "--config", "nowhere.json")
    assert answer.exit_code == 1
    assert "Config not found" in answer.output
    assert "nanobot onboard" in answer.output


def test_secrets_in_addresses_are_left_out(invoke: Invoke, configure: Configure) -> None:
    servers = {
        "notes": {"url": "https://user:hunter2@notes.example/mcp?token=hunter2"},
        "files": {"command": "files-server", "args": ["--token", "hunter2"]},
    }
    store = {"store": "postgres", "url": "postgresql://bot:hunter2@db.example/nanobot"}
    configure("http://127.0.0.1:9/v1", others={"tools": {"mcpServers": servers}, "sessions": store})
    shown = invoke("status", "--json").output
    assert "hunter2" not in shown
    found = json.loads(shown)
    assert found["mcpServers"] == {"notes": "https://notes.example/mcp", "files": "files-server"}
    assert found["store"] == {"kind": "postgres", "address": "postgresql://db.example/nanobot"}


def test_a_home_that_is_a_file_is_a_clear_failure(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    answer = invoke("status")
    assert answer.exit_code == 1
    assert "Not a directory" in answer.output


def test_check_makes_one_real_request_and_leaves_no_session(
    invoke: Invoke, configure: Configure
) -> None:
    with scripted_server(["ready"]) as server:
        configure(server.base_url)
        answer = invoke("status", "--check")
        assert answer.exit_code == 0
        assert "The model answered" in answer.output
        assert len(server.requests) == 1


def test_check_fails_if_the_service_does_not_take_the_key(
    invoke: Invoke, configure: Configure
) -> None:
    with scripted_server([HttpResponse(401)]) as server:
        configure(server.base_url)
        answer = invoke("status", "--check", "--json")
        assert answer.exit_code == 1
        found = json.loads(answer.output)
        assert found["ready"] is True
        assert found["check"]["ok"] is False
        assert "nanobot status" in found["check"]["do"]


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({}, "off"),
        ({"enabled": True}, "on"),
        ({"enabled": True, "captureContent": True}, "on  with what was said"),
        ({"captureContent": True}, "off"),
    ],
)
def test_it_says_whether_runs_are_told_to_opentelemetry(
    invoke: Invoke, configure: Configure, settings: dict[str, bool], shown: str
) -> None:
    configure("http://127.0.0.1:9/v1", others={"telemetry": settings})
    answer = invoke("status")
    (row,) = [line for line in answer.output.splitlines() if line.startswith("telemetry")]
    assert row.removeprefix("telemetry").strip() == shown
    found = json.loads(invoke("status", "--json").output)
    assert found["telemetry"] is settings.get("enabled", False)
    assert found["capturesContent"] is (shown == "on  with what was said")
