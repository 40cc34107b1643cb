"""`nanobot agent -m`: the answer on standard output, the rest on standard error, and exit codes to trust."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Event

import pytest

from nanobot.providers.local import missing_wheels
from nanobot.testing import Answer, Cut, HttpResponse, RecordedRequest, scripted_server

from .conftest import Configure, Invoke
from .terminal import open_pty


def test_the_answer_is_all_there_is_on_standard_output(
    invoke: Invoke, configure: Configure
) -> None:
    script = [
        Answer("Let me look.", reasoning="Hm.", tool_calls=[("list_dir", {"path": "."})]),
        Answer(["There is ", "*nothing*.\n"]),
    ]
    with scripted_server(script) as server:
        configure(server.base_url)
        answer = invoke("agent", "-m", "What is here?")
    assert answer.exit_code == 0
    assert answer.stdout == "Let me look.\n\nThere is *nothing*.\n"
    assert "✓ list_dir ." in answer.stderr
    assert "∴ thought" in answer.stderr


def test_a_failed_run_is_exit_code_1_with_what_to_do(invoke: Invoke, configure: Configure) -> None:
    with scripted_server([HttpResponse(401)]) as server:
        configure(server.base_url)
        answer = invoke("agent", "-m", "Hello")
    assert answer.exit_code == 1
    assert answer.stdout == ""
    what, do = answer.stderr.splitlines()
    assert what.startswith("Error: scripted answered HTTP 401")
    assert do.startswith("Do:")


def test_what_came_before_a_failure_is_printed(invoke: Invoke, configure: Configure) -> None:
    script: list[Answer | HttpResponse] = [
        Answer("one two three", fault=Cut(after_deltas=2)),
        *[HttpResponse(400)] * 9,
    ]
    with scripted_server(lambda request: script.pop(0)) as server:
        configure(server.base_url)
        answer = invoke("agent", "-m", "Hello")
    assert answer.exit_code == 1
    assert answer.stdout == "one two \n"
    assert "Error:" in answer.stderr


def test_json_gives_every_event_as_a_line(invoke: Invoke, configure: Configure) -> None:
    with scripted_server(["Hello there"]) as server:
        configure(server.base_url)
        answer = invoke("agent", "-m", "Hi", "--json")
    assert answer.exit_code == 0
    events = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [event["type"] for event in events] == [
        "run.started",
        "text.delta",
        "text.delta",
        "text.completed",
        "run.completed",
    ]
    assert events[-1]["result"]["content"] == "Hello there"
    assert events[3]["resuming"] is False


def test_json_of_a_failed_run_ends_with_its_failure(invoke: Invoke, configure: Configure) -> None:
    with scripted_server([HttpResponse(401)]) as server:
        configure(server.base_url)
        answer = invoke("agent", "-m", "Hi", "--json")
    assert answer.exit_code == 1
    last = json.loads(answer.stdout.splitlines()[-1])
    assert (last["type"], last["metadata"]["exception_type"]) == (
        "run.failed",
        "AuthenticationFailed",
    )


def test_a_dash_reads_the_message_from_standard_input(invoke: Invoke, configure: Configure) -> None:
    with scripted_server(["Read."]) as server:
        configure(server.base_url)
        assert invoke("agent", "-m", "-", stdin="a long\nletter\n").stdout == "Read.\n"
        assert "a long\nletter" in str(server.requests[0].json["messages"][-1]["content"])


def test_a_dash_alone_does_so_too_and_is_no_second_message(
    invoke: Invoke, configure: Configure
) -> None:
    with scripted_server(["Read."]) as server:
        configure(server.base_url)
        assert invoke("agent", "-", stdin="a letter").stdout == "Read.\n"
        assert "a letter" in str(server.requests[0].json["messages"][-1]["content"])
    assert invoke("agent", "-", "-m", "x", stdin="y").exit_code == 2
    assert invoke("agent", "hello").exit_code == 2
    assert invoke("agent", "-", stdin=" ").exit_code == 2


def test_sessions_continue_and_are_kept_apart(invoke: Invoke, configure: Configure) -> None:
    with scripted_server(lambda request: str(len(request.json["messages"]))) as server:
        configure(server.base_url)
        assert invoke("agent", "-m", "one").stdout == "2\n"
        assert invoke("agent", "-m", "two", "-s", "other").stdout == "2\n"
        assert invoke("agent", "-m", "three").stdout == "4\n"


def test_model_and_preset_choose_for_this_command(invoke: Invoke, configure: Configure) -> None:
    with scripted_server(lambda request: str(request.json["model"])) as server:
        configure(server.base_url, others={"modelPresets": {"fast": {"model": "scripted/small"}}})
        assert invoke("agent", "-m", "one", "--model", "scripted/big").stdout == "big\n"
        assert invoke("agent", "-m", "one", "--preset", "fast").stdout == "small\n"
    both = invoke("agent", "-m", "one", "--model", "scripted/big", "--preset", "fast")
    assert both.exit_code == 2
    unknown = invoke("agent", "-m", "one", "--preset", "slow")
    assert unknown.exit_code == 1
    assert "nanobot config get modelPresets" in unknown.stderr


def test_media_goes_along_and_a_missing_file_is_refused(
    invoke: Invoke, configure: Configure, home: Path
) -> None:
    (home / "notes.txt").write_text("a note")
    with scripted_server(["Seen."]) as server:
        configure(server.base_url)
        assert invoke("agent", "-m", "Look", "--media", "notes.txt").stdout == "Seen.\n"
        assert "notes.txt" in json.dumps(server.requests[0].json["messages"])
        missing = invoke("agent", "-m", "Look", "--media", "nowhere.png")
    assert missing.exit_code == 1
    assert missing.stderr.count("nowhere.png") == 1  # told once
    assert missing.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["agent"], 1, "-m TEXT"),
        (["agent", "-m", "  "], 2, "The message is empty"),
        (["agent", "--json"], 2, "need a message"),
        (["agent", "-m", "x", "-c", "nowhere.json"], 1, "Config not found"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    invoke: Invoke, arguments: list[str], code: int, said: str
) -> None:
    answer = invoke(*arguments)
    assert answer.exit_code == code
    assert said in answer.stderr


def test_without_a_key_it_says_in_one_line_what_to_do(invoke: Invoke) -> None:
    if not missing_wheels():
        pytest.skip("the embedded model is installed here, and would answer")
    answer = invoke("agent", "-m", "Hello")
    assert answer.exit_code == 1
    what, do = answer.stderr.splitlines()
    assert "ANTHROPIC_API_KEY" in what
    assert "nanobot onboard" in do


def test_ctrl_c_is_130_and_the_session_keeps_what_was_said(
    invoke: Invoke, configure: Configure
) -> None:
    asked = Event()

    def answer(request: RecordedRequest) -> Answer:
        if "again" in str(request.json["messages"][-1]["content"]):
            return Answer(str(len(request.json["messages"])))
        asked.set()
        return Answer(["Once ", "upon ", *["a time "] * 500], between_deltas_s=0.1)

    with scripted_server(answer) as server:
        configure(server.base_url)
        with open_pty("agent", "-m", "Tell me a story") as terminal:
            terminal.wait_for("upon")
            terminal.send("\x03")
            assert terminal.wait() == 130
            assert "Stopped." in terminal.text
        assert asked.is_set()
        assert invoke("agent", "-m", "again").stdout == "4\n"  # system, story, its part, again


def test_on_a_terminal_markdown_is_laid_out_and_without_colour_if_asked(
    configure: Configure,
) -> None:
    text = "# Title\n\nsome **bold** words\n"
    with scripted_server(lambda request: Answer(text)) as server:
        configure(server.base_url)
        with open_pty("agent", "-m", "one") as terminal:
            assert terminal.wait() == 0
            assert "some bold words" in terminal.text
            assert b"\x1b[1m" in terminal._raw
        with open_pty("agent", "-m", "two", env={"NO_COLOR": "1"}) as terminal:
            assert terminal.wait() == 0
            assert "some bold words" in terminal.text
            assert b"\x1b[3" not in terminal._raw
        with open_pty("agent", "-m", "three", "--no-markdown") as terminal:
            assert terminal.wait() == 0
            assert "some **bold** words" in terminal.text
        with open_pty("agent", "-m", "four", env={"TERM": "dumb"}) as terminal:
            assert terminal.wait() == 0
            assert "some **bold** words" in terminal.text
            assert b"\x1b" not in terminal._raw


def test_a_piped_answer_is_the_text_itself_while_the_terminal_shows_what_goes_on(
    configure: Configure, tmp_path: Path
) -> None:
    script = [Answer(tool_calls=[("list_dir", {"path": "."})]), Answer("*Nothing*.")]
    with scripted_server(script) as server:
        configure(server.base_url)
        target = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
        try:
            with open_pty("agent", "-m", "What is here?", stdout=target) as terminal:
                assert terminal.wait() == 0
                assert "✓ list_dir ." in terminal.text
        finally:
            os.close(target)
    assert (tmp_path / "out").read_text() == "*Nothing*.\n"


@pytest.mark.parametrize(("typed", "outcome"), [("y\r", "✓ list_dir"), ("n\r", "✗ list_dir")])
def test_a_tool_that_asks_is_asked_about(configure: Configure, typed: str, outcome: str) -> None:
    script = [Answer(tool_calls=[("list_dir", {"path": "."})]), Answer("Done.")]
    with scripted_server(script) as server:
        configure(server.base_url, others={"tools": {"approval": {"list_dir": "ask"}}})
        with open_pty("agent", "-m", "What is here?") as terminal:
            terminal.wait_for("may it run this?")
            terminal.wait_for("  >")
            terminal.send(typed)
            terminal.wait_for(outcome)
            assert terminal.wait() == 0


def test_ctrl_c_at_a_question_is_130(configure: Configure) -> None:
    script = [Answer(tool_calls=[("list_dir", {"path": "."})]), Answer("Done.")]
    with scripted_server(lambda request: script.pop(0)) as server:
        configure(server.base_url, others={"tools": {"approval": {"list_dir": "ask"}}})
        with open_pty("agent", "-m", "What is here?") as terminal:
            terminal.wait_for("may it run this?")
            terminal.wait_for("  >")
            terminal.send("\x03")
            assert terminal.wait() == 130


def test_nobody_to_ask_means_no(invoke: Invoke, configure: Configure) -> None:
    script = [Answer(tool_calls=[("list_dir", {"path": "."})]), Answer("Done.")]
    with scripted_server(script) as server:
        configure(server.base_url, others={"tools": {"approval": {"list_dir": "ask"}}})
        answer = invoke("agent", "-m", "What is here?")
    assert answer.exit_code == 0
    assert "✗ list_dir" in answer.stderr
