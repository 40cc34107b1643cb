"""The conversation on a pseudo-terminal: what is typed, what is shown, and that Ctrl-C stops the turn only."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from nanobot import Nanobot
from nanobot.testing import Answer, HttpResponse, RecordedRequest, scripted_server

from .conftest import Configure
from .terminal import Pty, open_pty


def answer(request: RecordedRequest) -> Answer | HttpResponse:
    """What the model says to the last message."""
    last = request.json["messages"][-1]
    if last["role"] == "tool":
        return Answer(f"It says: {last['content']}"[:60])
    said = str(last["content"])
    if "story" in said:
        return Answer(["Once ", "upon ", *["a time "] * 500], between_deltas_s=0.1)
    if "files" in said:
        return Answer(reasoning="Let me see.", tool_calls=[("list_dir", {"path": "."})])
    if "fail" in said:
        return HttpResponse(401)
    lines = said.split("\n\n")[0].count("\n") + 1
    return Answer(f"**Heard** by {request.json['model']}, {lines} line(s).")


def ready(terminal: Pty, after: int = 0) -> int:
    return terminal.wait_for("> ", after=terminal.wait_for("/help for help", after=after))


def test_a_conversation_answers_and_ends_with_ctrl_d(configure: Configure, home: Path) -> None:
    with scripted_server(answer) as server:
        configure(server.base_url)
        with open_pty("agent") as terminal:
            ready(terminal)
            terminal.send("hello there\r")
            said = terminal.wait_for("Heard by any, 1 line(s).")
            terminal.wait_for("> ", after=said)  # before it, what is typed may be thrown away
            terminal.send("\x04")
            assert terminal.wait() == 0
            assert "Traceback" not in terminal.text
    history = home / ".nanobot" / "cli-history"
    assert "hello there" in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600


def test_a_conversation_that_rests_is_compacted(configure: Configure) -> None:
    summarized = threading.Event()

    def model(request: RecordedRequest) -> Answer | HttpResponse:
        if "You keep the notes" in str(request.json["messages"][0]["content"]):
            summarized.set()
            return Answer("Notes.")
        known = "Notes." in str(request.json["messages"][1]["content"])
        return Answer(f"Heard, {'with' if known else 'without'} notes.")

    story = [
        {"role": role, "content": f"{role} {number}"}
        for number in range(10)
        for role in ("user", "assistant")
    ]
    with scripted_server(model) as server:
        config = configure(server.base_url, idleCompactAfterMinutes=0.0002)
        with Nanobot.from_config(config) as bot:
            bot.sessions.ingest_sync("cli:direct", story)
        with open_pty("agent") as terminal:
            ready(terminal)
            terminal.send("hello\r")
            place = terminal.wait_for("Heard, without notes.")
            assert summarized.wait(60)
            terminal.send("hello again\r")
            terminal.wait_for("Heard, with notes.", after=place)
            terminal.send("/exit\r")
            assert terminal.wait() == 0


def test_tool_calls_and_reasoning_are_folded(configure: Configure) -> None:
    with scripted_server(answer) as server:
        configure(server.base_url)
        with open_pty("agent") as terminal:
            ready(terminal)
            terminal.send("which files?\r")
            thought = terminal.wait_for("∴ thought")
            tool = terminal.wait_for("✓ list_dir .", after=thought)
            terminal.wait_for("It says:", after=tool)
            terminal.send("/exit\r")
            assert terminal.wait() == 0


@pytest.mark.parametrize("how", ["the key", "a signal", "/stop"])
def test_a_turn_is_stopped_and_the_conversation_goes_on(configure: Configure, how: str) -> None:
    with scripted_server(answer) as server:
        configure(server.base_url)
        with open_pty("agent") as terminal:
            ready(terminal)
            terminal.send("a story\r")
            place = terminal.wait_for("upon")
            if how == "the key":
                terminal.send("\x03")
            elif how == "a signal":
                os.kill(terminal.process.pid, signal.SIGINT)
            else:
                terminal.send("/stop\r")
            place = terminal.wait_for("stopped", after=place)
            terminal.send("hello\r")
            terminal.wait_for("Heard by any", after=place)
            terminal.send("/exit\r")
            assert terminal.wait() == 0
        server.wait_until(lambda counts: counts.open_connections == 0)


def test_what_is_typed_during_a_turn_waits_for_its_end(configure: Configure) -> None:
    slow = Answer(["Slowly. ", "Done."], before_first_delta_s=1.0)
    script = [slow, Answer("Second.")]
    with scripted_server(script) as server:
        configure(server.base_url)
        with open_pty("agent") as terminal:
            ready(terminal)
            terminal.send("one\r")
            terminal.wait_for("waiting for the model")
            terminal.send("two\r")
            first = terminal.wait_for("Slowly. Done.")
            terminal.wait_for("Second.", after=first)
            terminal.send("/exit\r")
            assert terminal.wait() == 0
            assert len(server.requests) == 2


def test_a_question_is_answered_by_the_next_line(configure: Configure) -> None:
    with scripted_server(answer) as server:
        configure(server.base_url, others={"tools": {"approval": {"list_dir": "ask"}}})
        with open_pty("agent") as terminal:
            ready(terminal)
            terminal.send("which files?\r")
            asked = terminal.wait_for("may it run this?")
            terminal.send("not that one\r")
            denied = terminal.wait_for("✗ list_dir", after=asked)
            denied = terminal.wait_for("It says:", after=denied)
            assert "not that one" in server.requests[-1].json["messages"][-1]["content"]
            terminal.send("which files?\r")
            asked = terminal.wait_for("may it run this?", after=denied)
            terminal.send("a\r")
            allowed = terminal.wait_for("✓ list_dir", after=asked)
            terminal.wait_for("It says:", after=allowed)
            terminal.send("which files?\r")  # not asked about any more
            terminal.wait_for("✓ list_dir", after=allowed)
            terminal.send("/exit\r")
            assert terminal.wait() == 0


def test_ctrl_c_takes_the_question_along(configure: Configure) -> None:
    with scripted_server(answer) as server:
        configure(server.base_url, others={"tools": {"approval": {"list_dir": "ask"}}})
        with open_pty("agent") as terminal:
            ready(terminal)
            terminal.send("which files?\r")
            asked = terminal.wait_for("may it run this?")
            terminal.send("\x03")
            stopped = terminal.wait_for("stopped", after=asked)
            terminal.send("y\r")  # text by now, and no answer any more
            terminal.wait_for("Heard by any", after=stopped)
            terminal.send("/exit\r")
            assert terminal.wait() == 0


def test_several_lines_are_one_message(configure: Configure) -> None:
    with scripted_server(answer) as server:
        configure(server.base_url)
        with open_pty("agent") as terminal:
            ready(terminal)
            terminal.send("first\\\rsecond\x1b\rthird\r")
            terminal.wait_for("3 line(s)")
            terminal.send("\x1b[200~pasted\nlines\x1b[201~\r")
            terminal.wait_for("2 line(s)")
            terminal.send("/exit\r")
            assert terminal.wait() == 0


def test_commands_of_the_conversation(configure: Configure) -> None:
    with scripted_server(answer) as server:
        configure(server.base_url, others={"modelPresets": {"fast": {"model": "scripted/small"}}})
        with open_pty("agent", "-s", "mine") as terminal:
            ready(terminal)
            for typed, shown in (
                ("/help", "begin a new session"),
                ("/status", "session mine: 0 messages, idle"),
                ("/model", "presets: fast"),
                ("/model fast", "from now on scripted/small"),
                ("hello", "Heard by small"),
                ("/model local/big", "Error: The embedded provider has one model"),
                ("/stop", "nothing is running"),
                ("/compact", "there is nothing to compact"),
                ("/sessions", "hello"),
                ("/new", "new session cli:"),
                ("/sessions mine", "mine: 2 messages so far"),
                ("/nwe", "/nwe is no command"),
                ("/usr/bin is a path", "Heard by small"),
                ("fail", "Error: scripted answered HTTP 401"),
            ):
                place = len(terminal.text)
                terminal.send(f"{typed}\r")
                terminal.wait_for(shown, after=terminal.wait_for(typed, after=place))
            terminal.send(":q\r")
            assert terminal.wait() == 0


def test_a_plain_terminal_gets_plain_lines(configure: Configure) -> None:
    with scripted_server(answer) as server:
        configure(server.base_url)
        with open_pty("agent", env={"TERM": "dumb"}) as terminal:
            ready(terminal)
            terminal.send("hello\n")
            heard = terminal.wait_for("**Heard** by any")
            terminal.send("a story\n")
            heard = terminal.wait_for("Once upon", after=heard)
            terminal.send("\x03")
            terminal.wait_for("stopped", after=heard)
            terminal.send("\x04")
            assert terminal.wait() == 0
            assert b"\x1b" not in terminal._raw


def test_ctrl_c_on_a_plain_terminal_without_a_turn_leaves(configure: Configure) -> None:
    configure("http://127.0.0.1:9/v1")
    with open_pty("agent", env={"TERM": "dumb"}) as terminal:
        ready(terminal)
        terminal.send("\x03")
        assert terminal.wait() == 130
        assert "Traceback" not in terminal.text


def test_a_plain_terminal_is_asked_in_plain_lines(configure: Configure) -> None:
    with scripted_server(answer) as server:
        configure(server.base_url, others={"tools": {"approval": {"list_dir": "ask"}}})
        with open_pty("agent", env={"TERM": "dumb"}) as terminal:
            ready(terminal)
            terminal.send("which files?\n")
            asked = terminal.wait_for("may it run this?")
            terminal.send("y\n")
            terminal.wait_for("It says:", after=asked)
            terminal.send("/exit\n")
            assert terminal.wait() == 0


def test_a_folder_that_cannot_be_written_costs_the_history_and_nothing_else(
    configure: Configure, home: Path
) -> None:
    with scripted_server(answer) as server:
        configure(server.base_url)
        (
            home / ".nanobot" / "cli-history"
        ).mkdir()  # root may write anywhere, but not into a folder
        with open_pty("agent") as terminal:
            ready(terminal)
            terminal.send("hello\r")
            terminal.wait_for("Heard by any")
            terminal.send("/exit\r")
            assert terminal.wait() == 0
