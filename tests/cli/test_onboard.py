"""`nanobot onboard`: asked or scripted, seen to work, and never losing what is there."""

from __future__ import annotations

import json
import signal
import stat
from pathlib import Path

import pytest

from nanobot.cli._onboarding import Answers, key_from_text, tree_from_answers
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
