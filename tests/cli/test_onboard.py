"""`nanobot onboard`: asked or scripted, seen to work, and never losing what is there."""

from __future__ import annotations

import http.server
import json
import signal
import stat
import threading
from pathlib import Path

import pytest

from nanobot.cli._onboarding import (
    Answers,
    changes,
    entry_from_name,
    key_from_text,
    tree_from_answers,
)
from nanobot.cli._served_models import ServedModels, served_models
from nanobot.testing import HttpResponse, scripted_server

from .conftest import Configure, Invoke
from .terminal import open_pty

KEY = "canary.0123456789"


def written(home: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((home / ".nanobot" / "config.json").read_text())
    return found


def test_the_scripted_form_checks_and_writes_a_private_file(
    invoke: Invoke, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with scripted_server(["ready", "Hello."]) as server:
        answer = invoke(
            "onboard", "--yes", "--provider", "mine", "--api-base", server.base_url,
            "--model", "mine/any", "--key-env", "MY_KEY", "-w", str(home / "ws"),
        )  # fmt: skip
        assert answer.exit_code == 0, answer.output
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert invoke("status").exit_code == 0
        assert invoke("agent", "-m", "Hi").stdout == "Hello.\n"
    assert written(home) == {
        "agents": {
            "defaults": {"model": "mine/any", "provider": "mine", "workspace": str(home / "ws")}
        },
        "providers": {"mine": {"apiKey": "${MY_KEY}", "apiBase": server.base_url}},
    }
    assert stat.S_IMODE((home / ".nanobot" / "config.json").stat().st_mode) == 0o600
    assert (home / "ws").is_dir()


def test_a_check_that_fails_writes_nothing(invoke: Invoke, home: Path) -> None:
    with scripted_server([HttpResponse(401)]) as server:
        answer = invoke(
            "onboard", "--yes", "--provider", "mine", "--api-base", server.base_url,
            "--model", "mine/any",
        )  # fmt: skip
    assert answer.exit_code == 1
    assert "Nothing was written" in answer.stderr
    assert not (home / ".nanobot" / "config.json").exists()


def test_running_it_again_keeps_what_is_there(
    invoke: Invoke, home: Path, configure: Configure
) -> None:
    # A preset would win over the model that is chosen now.
    configure("http://127.0.0.1:9/v1", others={"mine": 1}, maxTokens=77, modelPreset="default")
    answer = invoke("onboard", "--yes", "--no-check", "--provider", "openai", "--key-env", "K")
    assert answer.exit_code == 0, answer.output
    assert written(home) == {
        "agents": {"defaults": {"model": "openai/gpt-4.1", "maxTokens": 77, "provider": "openai"}},
        "providers": {
            "scripted": {"apiKey": KEY, "apiBase": "http://127.0.0.1:9/v1"},
            "openai": {"apiKey": "${K}"},
        },
        "mine": 1,
    }


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["onboard"], 1, "There is no terminal to ask at"),
        (["onboard", "--yes"], 2, "--yes needs --provider"),
        (["onboard", "--yes", "--provider", "mine"], 2, "say --model mine/..."),
        (["onboard", "--yes", "--provider", "no/name"], 1, "cannot be the name of a provider"),
        (["onboard", "--yes", "--no-check", "--provider", "mine", "--model", "x",
          "--api-base", "gopher://x"], 1, "http"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(
    invoke: Invoke, home: Path, arguments: list[str], code: int, said: str
) -> None:
    answer = invoke(*arguments)
    assert answer.exit_code == code
    assert said in answer.stderr
    assert not (home / ".nanobot" / "config.json").exists()


def test_asked_at_a_terminal_the_key_is_not_shown(home: Path) -> None:
    with scripted_server(["ready"]) as server:
        with open_pty("onboard") as terminal:
            place = terminal.wait_for("Provider")
            terminal.send("mine\r")
            place = terminal.wait_for("Address of the service", after=place)
            terminal.send(f"{server.base_url}\r")
            place = terminal.wait_for("Key (not shown", after=place)
            terminal.send(f"{KEY}\r")
            place = terminal.wait_for("Model", after=place)
            terminal.send("mine/any\r")
            place = terminal.wait_for("Workspace [~/.nanobot/workspace]", after=place)
            terminal.send("\r")
            terminal.wait_for("It answered after", after=place)
            terminal.wait_for("Next:", after=place)
            assert terminal.wait() == 0
            assert KEY not in terminal.text
    assert written(home)["providers"] == {"mine": {"apiKey": KEY, "apiBase": server.base_url}}


def test_the_wizard_lists_models_goes_back_and_shows_what_it_writes(home: Path) -> None:
    with scripted_server(["ready"], models=("large", "medium", "small")) as server:
        with open_pty("onboard", "--wizard") as terminal:
            place = terminal.wait_for("Step 1 of 7")
            place = terminal.wait_for("Provider", after=place)
            terminal.send("mine\r")
            place = terminal.wait_for("Address (with /v1)", after=place)
            terminal.send(f"{server.base_url}\r")
            place = terminal.wait_for("Step 3 of 7", after=place)
            place = terminal.wait_for("Key (not shown", after=place)
            terminal.send("<\r")  # back to the address, which is proposed now
            place = terminal.wait_for(f"Address (with /v1) [{server.base_url}]", after=place)
            terminal.send("\r")
            place = terminal.wait_for("Key (not shown", after=place)
            terminal.send(f"{KEY}\r")
            place = terminal.wait_for("3  small", after=place)
            place = terminal.wait_for("Model", after=place)
            terminal.send("2\r")
            place = terminal.wait_for("Effort [service]", after=place)
            terminal.send("huge\r")
            place = terminal.wait_for("One of: service, none, minimal", after=place)
            terminal.send("low\r")
            place = terminal.wait_for("May it run commands (y/n) [y]", after=place)
            terminal.send("n\r")
            place = terminal.wait_for("inside the workspace (y/n) [n]", after=place)
            terminal.send("\r")
            place = terminal.wait_for("Workspace [~/.nanobot/workspace]", after=place)
            terminal.send("\r")
            place = terminal.wait_for("This will be written", after=place)
            place = terminal.wait_for("agents.defaults.model  – → mine/medium", after=place)
            place = terminal.wait_for("providers.mine.apiKey  – → (hidden)", after=place)
            place = terminal.wait_for("tools.exec.enable  – → false", after=place)
            assert "restrictToWorkspace" not in terminal.text  # as it was
            place = terminal.wait_for("Write it (y/n) [y]", after=place)
            terminal.send("\r")
            terminal.wait_for("It answered after", after=place)
            assert terminal.wait() == 0
            assert KEY not in terminal.text
        assert server.requests[0].json["reasoning_effort"] == "low"
        assert server.requests[0].model == "medium"
    assert written(home) == {
        "agents": {
            "defaults": {
                "model": "mine/medium",
                "provider": "mine",
                "workspace": "~/.nanobot/workspace",
                "reasoningEffort": "low",
            }
        },
        "providers": {"mine": {"apiKey": KEY, "apiBase": server.base_url}},
        "tools": {"exec": {"enable": False}},
    }


def test_the_wizard_proposes_what_is_there_and_a_no_at_the_end_writes_nothing(
    configure: Configure,
) -> None:
    path = configure("http://127.0.0.1:9/v1", reasoningEffort="high")
    before = path.read_bytes()
    with open_pty("onboard", "--wizard", "--no-check") as terminal:
        place = 0
        for shown, typed in (
            ("Provider", "scripted\r"),
            ("Address (with /v1) [http://127.0.0.1:9/v1]", "\r"),
            ("take the one from providers.scripted.apiKey (y/n) [y]", "\r"),
            ("Its models are not listed: ConnectError.", ""),
            ("Model [scripted/any]", "\r"),
            ("Effort [high]", "\r"),
            ("May it run commands (y/n) [y]", "\r"),
            ("inside the workspace (y/n) [n]", "\r"),
            ("Workspace [~/.nanobot/workspace]", "\r"),
            ("Write it (y/n) [y]", "n\r"),
            ("Nothing was written.", ""),
        ):
            place = terminal.wait_for(shown, after=place)
            terminal.send(typed)
        assert terminal.wait() == 1
    assert path.read_bytes() == before


def test_ctrl_c_leaves_everything_as_it_is(configure: Configure) -> None:
    path = configure("http://127.0.0.1:9/v1")
    before = path.read_bytes()
    with open_pty("onboard") as terminal:
        terminal.wait_for("Provider")
        # `input()` may look at a signal only after the next key; one more at the very end is Python's own. Shells say 130
        # of both.
        assert terminal.press_until_end("\x03") in (130, -signal.SIGINT)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("typed", "stored"),
    [("$MY_KEY", "${MY_KEY}"), ("${MY_KEY}", "${MY_KEY}"), (" sk-$1 ", "sk-$1"), ("", "")],
)
def test_a_variable_is_stored_as_a_reference(typed: str, stored: str) -> None:
    assert key_from_text(typed) == stored


def test_a_provider_keeps_the_name_it_has_in_the_file() -> None:
    tree = {"providers": {"lmStudio": {"apiBase": "http://a/v1"}}, "agents": {"x": 1}}
    answers = Answers(provider="lm_studio", model="lm_studio/x", key="k")
    assert tree_from_answers(tree, answers) == {
        "providers": {"lmStudio": {"apiBase": "http://a/v1", "apiKey": "k"}},
        "agents": {"x": 1, "defaults": {"model": "lm_studio/x", "provider": "lm_studio"}},
    }


def test_what_changes_is_shown_without_keys() -> None:
    old = {"providers": {"mine": {"apiKey": KEY, "apiBase": "http://a/v1"}}, "x": [1]}
    new = {"providers": {"mine": {"apiKey": "other", "apiBase": "http://a/v1"}}, "y": True}
    assert changes(old, new) == {
        "providers.mine.apiKey": ("(hidden)", "(hidden)"),
        "x": ("[1]", "–"),
        "y": ("–", "true"),
    }
    assert changes(old, old) == {}


class Listing(http.server.BaseHTTPRequestHandler):
    """Answers with the status and the body that its server holds."""

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, ListingServer)
        server.asked.append((self.path, dict(self.headers)))
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(server.body)))
        self.end_headers()
        self.wfile.write(server.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class ListingServer(http.server.HTTPServer):
    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Listing)
        self.status, self.body = status, body
        self.asked: list[tuple[str, dict[str, str]]] = []


@pytest.mark.parametrize(
    ("status", "body", "names", "problem"),
    [
        (200, b'{"data":[{"id":"b"},{"id":"a"}]}', ("a", "b"), ""),
        (404, b"", (), "Its models are not listed: HTTP 404."),
        (401, KEY.encode(), (), "Its models are not listed: HTTP 401."),
        (200, b"<html>", (), "Its models are not listed: DecodeError."),
        (200, b'{"data":[{"name":"x"}]}', (), "Its models are not listed: ValidationError."),
    ],
)
@pytest.mark.parametrize("provider", ["mine", "anthropic"])
def test_a_service_may_list_its_models_and_need_not(
    provider: str, status: int, body: bytes, names: tuple[str, ...], problem: str
) -> None:
    with ListingServer(status, body) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        base = f"http://127.0.0.1:{server.server_port}/v1"
        found = served_models(entry_from_name(provider), None, base=base, key=KEY)
        thread.join()
    assert found == ServedModels(names, problem)
    ((path, headers),) = server.asked
    assert path == "/v1/models"
    header = "x-api-key" if provider == "anthropic" else "authorization"
    assert KEY in {name.lower(): value for name, value in headers.items()}[header]
