"""`nanobot approvals`: a run that is parked by one command is decided by a second and goes on in a third."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nanobot.testing import Answer, RecordedRequest, scripted_server

from .conftest import Configure, Invoke

SETTINGS = {"tools": {"parkForApproval": True, "approval": {"write_file": "ask"}}}
ARGUMENTS = {"path": "plan.md", "content": "Tea at four."}


def model(request: RecordedRequest) -> Answer | str:
    """Writes a file, and then says what came of it."""
    last = request.json["messages"][-1]
    if last["role"] != "tool":
        return Answer("On it.", tool_calls=[("write_file", ARGUMENTS)])
    return f"It said: {last['content']}"


@pytest.fixture
def parked(invoke: Invoke, configure: Configure, home: Path) -> Any:
    """A session `a` whose turn waits; a function that reads what `list --json` says."""
    with scripted_server(model) as server:
        configure(server.base_url, others=SETTINGS)
        answer = invoke("agent", "-m", "Write the plan.", "-s", "a")
        assert (answer.exit_code, answer.stdout) == (75, "On it.\n")
        [waiting] = listed(invoke)
        assert answer.stderr.splitlines()[-2:] == [
            "Parked: write_file plan.md content=Tea at four. needs an approval.",
            f"Do:     nanobot approvals approve {waiting['id']}, or deny it; then nanobot agent --resume -s a",
        ]
        yield waiting


def listed(invoke: Invoke, *options: str) -> list[dict[str, Any]]:
    answer = invoke("approvals", "list", "--json", *options)
    assert answer.exit_code == 0
    return [json.loads(line) for line in answer.stdout.splitlines()]


def plan(home: Path) -> Path:
    return home / ".nanobot" / "workspace" / "plan.md"


def test_where_nothing_waits_it_says_so(invoke: Invoke) -> None:
    answer = invoke("approvals", "list")
    assert (answer.exit_code, answer.stdout) == (0, "")
    assert answer.stderr == "Nothing waits for an approval.\n"
    assert listed(invoke) == []


def test_what_was_approved_is_done_once_when_the_turn_goes_on(
    invoke: Invoke, home: Path, parked: dict[str, Any]
) -> None:
    approved = invoke("approvals", "approve", parked["id"])
    assert approved.exit_code == 0
    assert approved.stderr == ("Approved: write_file plan.md content=Tea at four., of session a\n")
    assert not plan(home).exists()
    assert [one["state"] for one in listed(invoke)] == ["approved"]
    went_on = invoke("agent", "--resume", "-s", "a")
    assert went_on.exit_code == 0, went_on.output
    assert went_on.stdout.startswith("It said: ")
    assert plan(home).read_text() == "Tea at four."
    assert listed(invoke) == []
    again = invoke("agent", "--resume", "-s", "a")
    assert again.exit_code == 1
    assert "no turn to go on with" in again.stderr


def test_what_was_denied_is_told_to_the_model_with_the_reason(
    invoke: Invoke, home: Path, parked: dict[str, Any]
) -> None:
    assert invoke("approvals", "deny", parked["id"], "--reason", "Coffee!").exit_code == 0
    [denied] = listed(invoke)
    assert (denied["state"], denied["reason"]) == ("denied", "Coffee!")
    events = invoke("agent", "--resume", "-s", "a", "--json").stdout.splitlines()
    assert "Coffee!" in json.loads(events[-1])["result"]["content"]
    assert not plan(home).exists()


def test_before_a_decision_the_turn_does_not_go_on(invoke: Invoke, parked: dict[str, Any]) -> None:
    answer = invoke("agent", "--resume", "-s", "a")
    assert answer.exit_code == 1
    assert parked["id"] in answer.stderr
    assert "nanobot approvals list" in answer.stderr
    assert [one["state"] for one in listed(invoke)] == ["waiting"]


def test_show_has_all_of_it(invoke: Invoke, parked: dict[str, Any]) -> None:
    shown = invoke("approvals", "show", parked["id"]).stdout
    for text in ("a", "waiting", "write_file", '"path": "plan.md"', '"content": "Tea at four."'):
        assert text in shown
    assert json.loads(invoke("approvals", "show", parked["id"], "--json").stdout) == parked
    row = invoke("approvals", "list").stdout.rstrip("\n").split("\t")
    assert row == [parked["id"], "waiting", "a", "write_file plan.md content=Tea at four."]
    assert listed(invoke, "-s", "a") == [parked]
    assert listed(invoke, "-s", "b") == []


def test_what_the_model_wrote_cannot_command_the_terminal(
    invoke: Invoke, configure: Configure
) -> None:
    arguments = {"path": "\x1b[2Jx", "content": "\x1b]0;mine\x07"}

    def attack(request: RecordedRequest) -> Answer:
        return Answer(tool_calls=[("write_file", arguments)])

    with scripted_server(attack) as server:
        configure(server.base_url, others=SETTINGS)
        invoke("agent", "-m", "Hello", "-s", "a")
    [waiting] = listed(invoke)
    for command in (["list"], ["show", waiting["id"]], ["approve", waiting["id"]]):
        answer = invoke("approvals", *command)
        assert answer.exit_code == 0
        assert "\x1b" not in answer.output
        assert "\x07" not in answer.output


def test_a_decision_is_made_once(invoke: Invoke, parked: dict[str, Any]) -> None:
    assert invoke("approvals", "approve", parked["id"]).exit_code == 0
    for command in ("approve", "deny"):
        answer = invoke("approvals", command, parked["id"])
        assert answer.exit_code == 1
        assert "was decided before" in answer.stderr
        assert "nanobot approvals list" in answer.stderr
    assert [one["state"] for one in listed(invoke)] == ["approved"]


def test_an_id_that_nobody_waits_for_is_a_failure(invoke: Invoke) -> None:
    for command in ("show", "approve", "deny"):
        answer = invoke("approvals", command, "0123")
        assert answer.exit_code == 1
        assert "0123" in answer.stderr
        assert "nanobot approvals list" in answer.stderr


@pytest.mark.parametrize(
    "arguments", [["--resume", "-m", "Hello"], ["--resume", "-"], ["--resume", "--media", "x"]]
)
def test_resume_takes_no_message(invoke: Invoke, arguments: list[str]) -> None:
    answer = invoke("agent", *arguments)
    assert answer.exit_code == 2
    assert "it takes no message" in answer.stderr


@pytest.mark.slow
def test_each_step_may_be_another_process(parked: dict[str, Any], home: Path) -> None:
    def nanobot(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nanobot", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    rows = nanobot("approvals", "list", "--json")
    assert json.loads(rows.stdout) == parked
    assert nanobot("approvals", "approve", parked["id"]).returncode == 0
    assert nanobot("approvals", "approve", parked["id"]).returncode == 1
    went_on = nanobot("agent", "--resume", "-s", "a")
    assert went_on.returncode == 0, went_on.stderr
    assert plan(home).read_text() == "Tea at four."
