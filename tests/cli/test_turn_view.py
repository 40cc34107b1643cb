"""A turn on the screen: finished things once and in order, running ones with the time they have taken."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

from nanobot import StreamEvent
from nanobot.cli._render import QuietMarkdown
from nanobot.cli._turn_view import Finished, TurnView


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def drawn(what: RenderableType | None) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    with console.capture() as shown:
        if what is not None:
            console.print(what)
    return "\n".join(line.rstrip() for line in shown.get().splitlines())


def texts(finished: list[Finished]) -> list[tuple[str, str, bool]]:
    return [(item.kind, drawn(item.renderable), item.gap) for item in finished]


def make_view(clock: Clock) -> TurnView:
    return TurnView(now=clock, width=lambda: 100, drawn=QuietMarkdown)


def test_before_anything_comes_it_says_how_long_it_waits() -> None:
    clock = Clock()
    view = make_view(clock)
    clock.now = 2.5
    assert drawn(view.live(height=5)) == "  · waiting for the model  2.5 s"


def test_reasoning_moves_while_it_comes_and_folds_into_one_line() -> None:
    clock = Clock()
    view = make_view(clock)
    assert view.feed(StreamEvent("reasoning.delta", delta="Hm, let me\nsee.")) == []
    clock.now = 3.0
    assert drawn(view.live(height=5)) == "  ∴ thinking  3.0 s  Hm, let me see."
    finished = view.feed(StreamEvent("reasoning.completed", content="Hm, let me\nsee."))
    assert texts(finished) == [("aside", "  ∴ thought  3.0 s  Hm, let me see.", False)]
    assert view.live(height=5) is None


def test_text_stays_block_by_block() -> None:
    view = make_view(Clock())
    assert view.feed(StreamEvent("text.delta", delta="One *b")) == []
    assert drawn(view.live(height=5)) == "One *b"
    assert view.feed(StreamEvent("text.delta", delta="lock*.\n\n")) == []
    finished = view.feed(StreamEvent("text.delta", delta="- a\n"))
    finished += view.feed(StreamEvent("text.completed", content="", resuming=False))
    assert texts(finished) == [("answer", "One block.", False), ("answer", " • a", True)]
    assert view.feed(StreamEvent("run.completed")) == []
    assert view.live(height=5) is None


def test_only_the_end_of_a_long_open_block_moves() -> None:
    view = make_view(Clock())
    view.feed(StreamEvent("text.delta", delta="```\n" + "\n".join(map(str, range(50)))))
    assert drawn(view.live(height=3)).split() == ["47", "48", "49"]


def test_tools_that_run_are_shown_each_with_its_time_and_fold_as_they_end() -> None:
    clock = Clock()
    view = make_view(clock)
    for number, path in enumerate(("a", "b")):
        view.feed(
            StreamEvent(
                "tool.started",
                name="read_file",
                tool_call_id=f"c{number}",
                arguments={"path": path},
                iteration=0,
            )
        )
        clock.now += 1.0
    assert drawn(view.live(height=5)) == "  · read_file a  2.0 s\n  · read_file b  1.0 s"
    ended = view.feed(
        StreamEvent(
            "tool.completed",
            name="read_file",
            tool_call_id="c1",
            iteration=0,
            metadata={"result": "x\ny"},
        )
    )
    ended += view.feed(
        StreamEvent(
            "tool.failed", name="read_file", tool_call_id="c0", iteration=0, error="not there"
        )
    )
    assert texts(ended) == [
        ("aside", "  ✓ read_file b  1.0 s  x (+1 lines)", False),
        ("aside", "  ✗ read_file a  2.0 s  not there", False),
    ]
    assert drawn(view.live(height=5)).startswith("  · waiting for the model")


def test_an_escape_sequence_of_the_model_does_not_reach_the_screen() -> None:
    view = make_view(Clock())
    view.feed(StreamEvent("text.delta", delta="a\x1b[2Jb"))
    finished = view.feed(StreamEvent("text.completed", content=""))
    assert texts(finished) == [("answer", "a[2Jb", False)]
