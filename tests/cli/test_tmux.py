"""The commands in a real terminal, as tmux says it looks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nanobot.testing import Answer, RecordedRequest, scripted_server

from .conftest import Configure
from .terminal import Tmux, open_tmux, tmux_missing

pytestmark = pytest.mark.skipif(bool(tmux_missing()), reason=tmux_missing())

TEXT = """# Loops

An *event loop* waits for **many things**.

- one
- two

```python
print("hello")
```

That is all.
"""


def answer(request: RecordedRequest) -> Answer:
    last = request.json["messages"][-1]
    if last["role"] == "tool":
        return Answer("Two files.")
    if "files" in str(last["content"]):
        return Answer(
            "Let me look.", reasoning="They want files.", tool_calls=[("list_dir", {"path": "."})]
        )
    if "story" in str(last["content"]):
        return Answer(["Once ", "upon ", *["a time "] * 500], between_deltas_s=0.1)
    return Answer(TEXT, between_deltas_s=0.01)


@pytest.fixture
def tmux(configure: Configure) -> Iterator[Tmux]:
    with scripted_server(answer) as server, open_tmux() as terminal:
        configure(server.base_url)
        yield terminal


def rest_after(shown: str, line: str) -> list[str]:
    """The lines below the last one that is `line`."""
    lines = shown.splitlines()
    return lines[len(lines) - lines[::-1].index(line) :]


def test_what_was_said_stays_and_what_moved_leaves_no_trace(tmux: Tmux) -> None:
    tmux.send("nanobot agent", "Enter")
    tmux.wait_for("/help for help")
    tmux.send("tell me", "Enter")
    shown = tmux.wait_for(lambda screen: "That is all." in screen and screen.rstrip()[-1] == ">")
    assert rest_after(shown.rstrip(), "> tell me") == [
        "Loops",
        "",
        "An event loop waits for many things.",
        "",
        " • one",
        " • two",
        "",
        '  print("hello")',
        "",
        "That is all.",
        "",
        ">",
    ]


def test_a_turn_with_a_tool_is_a_few_calm_lines(tmux: Tmux) -> None:
    tmux.send("nanobot agent", "Enter")
    tmux.wait_for("/help for help")
    tmux.send("which files?", "Enter")
    shown = tmux.wait_for(lambda screen: "Two files." in screen and screen.rstrip()[-1] == ">")
    thought, gap, said, gap2, tool, gap3, answered, gap4, prompt = rest_after(
        shown.rstrip(), "> which files?"
    )
    assert thought.startswith("  ∴ thought  ")
    assert tool.startswith("  ✓ list_dir .  ")
    assert (said, answered, prompt) == ("Let me look.", "Two files.", ">")
    assert (gap, gap2, gap3, gap4) == ("", "", "", "")


def test_ctrl_c_stops_the_turn_and_ctrl_d_leaves_to_the_shell(tmux: Tmux) -> None:
    tmux.send("nanobot agent", "Enter")
    tmux.wait_for("/help for help")
    tmux.send("a story", "Enter")
    tmux.wait_for("Once upon")
    tmux.send("C-c")
    shown = tmux.wait_for("stopped")
    assert "^C" not in shown
    tmux.send("C-d")
    tmux.wait_for(lambda screen: screen.rstrip().endswith("$"))
    tmux.send("echo code $?", "Enter")
    tmux.wait_for("code 0")


def test_one_message_leaves_the_answer_and_the_prompt(tmux: Tmux) -> None:
    tmux.send("clear; nanobot agent -m files; echo code $?", "Enter")
    shown = tmux.wait_for("code 0")
    lines = [line for line in shown.splitlines() if line]
    assert [line for line in lines if not line.startswith("  ")] == [
        "Let me look.",
        "Two files.",
        "code 0",
        "$",
    ]


def test_one_message_that_is_stopped_keeps_what_was_said(tmux: Tmux) -> None:
    tmux.send("clear; nanobot agent -m 'a story'; echo code $?", "Enter")
    tmux.wait_for("Once upon")
    tmux.send("C-c")
    shown = tmux.wait_for("code 130")
    assert "Once upon" in shown
    assert "Stopped." in shown
