"""One message, one answer: the answer to standard output as it comes, all else to standard error."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from nanobot import (
    STREAM_EVENT_RUN_COMPLETED,
    STREAM_EVENT_RUN_FAILED,
    STREAM_EVENT_TEXT_COMPLETED,
    STREAM_EVENT_TEXT_DELTA,
    StreamEvent,
)
from nanobot.errors import NanobotError
from nanobot.tools import ApprovalRequest, Denied

from ._console import to_stderr, to_stdout
from ._failure import INTERRUPTED, Failure, advice
from ._permission import answer_from_line, question
from ._turn_view import Finished, TurnView

if TYPE_CHECKING:
    from nanobot import Nanobot
    from nanobot.runtime import RunOptions

__all__ = ["answer_once", "event_line", "failure_from_event"]

_LIVE_LINES: Final = 12
"""Lines of an unfinished block that are shown while it grows."""

_REDRAWS_PER_S: Final = 10


def answer_once(
    bot: Nanobot, message: str, options: RunOptions, *, as_json: bool, markdown: bool
) -> int:
    """Run one turn and show it; returns the exit code. Ctrl-C ends the run, keeps what there is of it, and gives 130."""
    person = Person()
    if sys.stdin.isatty() and sys.stderr.isatty():
        options = {**options, "approver": person.permit}
    try:
        with bot.stream_sync(message, **options) as stream:
            if as_json:
                return _write_lines(stream)
            if sys.stdout.isatty() and not to_stdout().is_dumb_terminal:
                return _draw(stream, person, markdown)
            return _write_text(stream, person)
    except NanobotError:  # such as a file of --media that is not there
        if not person.told_of_failure:
            raise
        return 1
    except KeyboardInterrupt:
        click.echo("Stopped. The session keeps what was said.", err=True)
        return INTERRUPTED


class Person:
    """The person at the terminal, who may be asked whether a tool may run, and is told once that the run failed."""

    def __init__(self) -> None:
        self.told_of_failure = False
        self.moving: Moving | None = None  # gives the screen to a question while it is asked
        self._always: set[str] = set()

    def tell_of_failure(self, event: StreamEvent) -> None:
        """Say why the run failed."""
        failure_from_event(event).show()
        self.told_of_failure = True

    def permit(self, request: ApprovalRequest) -> bool | Denied:
        """Ask at standard error. Blocks this thread, which has nothing else to do; the run lives in another one."""
        if request.name in self._always:
            return True
        if self.moving is not None:
            self.moving.stop()
        # The loop that runs this function has Ctrl-C cancel its task, which a thread that waits for a key does not notice.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            to_stderr().print(question(request, width=to_stderr().width))
            click.echo("  > ", nl=False, err=True)
            answer = answer_from_line(_read_line())
        finally:
            signal.signal(signal.SIGINT, handler)
            if self.moving is not None:
                self.moving.start()
        if isinstance(answer, str):
            self._always.add(request.name)
            return True
        return answer


def _read_line() -> str:
    """Read a line from standard input; Ctrl-C is never missed.

    `input()` misses it in the moment before it waits for a key: the signal is noted, and looked at after the next key.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        # If a signal is what woke it, KeyboardInterrupt is raised right after it.
        select.select([0, woken], [], [])
        return os.read(0, 65_536).decode(errors="replace")
    finally:
        signal.set_wakeup_fd(before)
        os.close(woken)
        os.close(wake)


def _write_lines(events: Iterable[StreamEvent]) -> int:
    """Every event as one JSON object on a line of its own."""
    code = 1
    for event in events:
        click.echo(event_line(event))
        code = _exit_code(event, code)
    return code


def _write_text(events: Iterable[StreamEvent], person: Person) -> int:
    """For programs and plain terminals: the model's text as it comes, word for word."""
    code = 1
    view = TurnView(now=time.monotonic, width=lambda: 100)
    asides = to_stderr()
    segments = 0
    column_zero = fresh = True
    for event in events:
        if event.type == STREAM_EVENT_TEXT_DELTA:
            if fresh and segments:
                click.echo()  # an empty line between what was said before and after the tools
            fresh = False
            click.echo(event.delta, nl=False)
            column_zero = event.delta.endswith("\n")
        elif event.type == STREAM_EVENT_TEXT_COMPLETED and not fresh:
            if not column_zero:
                click.echo()
            column_zero = fresh = True
            segments += 1
        for item in view.feed(event):
            if item.kind == "aside":
                asides.print(item.renderable)
        code = _exit_code(event, code)
        if event.type == STREAM_EVENT_RUN_FAILED:
            if not column_zero:
                click.echo()
            person.tell_of_failure(event)
    return code


def _draw(events: Iterable[StreamEvent], person: Person, markdown: bool) -> int:
    """For people: finished blocks stay, what is unfinished moves below them."""
    # deferred: Markdown and its highlighter are a tenth of what a program that reads the answer waits for
    from ._render import QuietMarkdown

    code = 1
    answers, asides = to_stdout(), to_stderr()
    # The moving part goes where nobody mistakes it for the answer, if that is a terminal, too.
    screen = asides if asides.is_terminal else answers
    view = TurnView(
        now=time.monotonic, width=lambda: screen.width, drawn=QuietMarkdown if markdown else Text
    )
    with ExitStack() as stack:
        live = person.moving = Moving(screen, view)

        def keep_what_was_said() -> None:
            live.stop()
            for item in view.close():
                _print(item, answers, asides)

        stack.callback(keep_what_was_said)  # also after Ctrl-C
        live.start()
        for event in events:
            finished = view.feed(event)
            if finished:
                live.stop()
                for item in finished:
                    _print(item, answers, asides)
                live.start()
            code = _exit_code(event, code)
            if event.type == STREAM_EVENT_RUN_FAILED:
                live.stop()
                person.tell_of_failure(event)
    return code


class Moving:
    """The part of the screen that is drawn again and again; gone without a trace when it is stopped."""

    def __init__(self, console: Console, view: TurnView) -> None:
        self._console = console
        self._view = view
        self._live: Live | None = None

    def start(self) -> None:
        self._live = Live(
            console=self._console,
            get_renderable=self._renderable,
            refresh_per_second=_REDRAWS_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _renderable(self) -> RenderableType:
        height = min(_LIVE_LINES, max(1, self._console.height - 4))
        return self._view.live(height=height) or Text("")


def _print(item: Finished, answers: Console, asides: Console) -> None:
    console = answers if item.kind == "answer" else asides
    if item.gap:
        console.print()
    console.print(item.renderable)


def _exit_code(event: StreamEvent, code: int) -> int:
    if event.type == STREAM_EVENT_RUN_COMPLETED:
        return 0
    return 1 if event.type == STREAM_EVENT_RUN_FAILED else code


def failure_from_event(event: StreamEvent) -> Failure:
    """What a person is told of a run that failed."""
    kind = str(event.metadata.get("exception_type", ""))
    return Failure(event.error or "The run failed.", advice(kind))


def event_line(event: StreamEvent) -> str:
    """One event as a line of JSON, without the fields that have nothing to say."""
    fields: dict[str, Any] = msgspec.to_builtins(event, enc_hook=repr)
    told = {
        name: value
        for name, value in fields.items()
        if value is not None and value != "" and value != {}
    }
    return msgspec.json.encode(told).decode()
