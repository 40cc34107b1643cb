"""A conversation at a terminal: lines go to turns, one after the other, and what turns do is shown as it happens."""

from __future__ import annotations

import math
import signal
import sys
import time
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING

import trio
from rich.console import Console
from rich.text import Text

from nanobot import (
    STREAM_EVENT_RUN_FAILED,
    STREAM_EVENT_TEXT_COMPLETED,
    STREAM_EVENT_TEXT_DELTA,
    Nanobot,
    StreamEvent,
)
from nanobot.config import state_folder
from nanobot.errors import NanobotError
from nanobot.tools import ApprovalRequest, Denied

from ._chat_commands import ChatCommands
from ._chat_line import Command, Mistyped, Say, read_line
from ._failure import INTERRUPTED, failure_from_error
from ._instance import Instance
from ._keyboard import Keyboard, PlainKeyboard, PromptKeyboard
from ._once import failure_from_event
from ._permission import answer_from_line, question
from ._render import QuietMarkdown
from ._screen import Screen
from ._turn_view import Finished, TurnView

if TYPE_CHECKING:
    from nanobot.sdk import EventStream

__all__ = ["chat"]

_FRAME_S = 0.1


def chat(instance: Instance, session_key: str, *, markdown: bool) -> int:
    """Talk until the user leaves; returns the exit code."""
    bot = instance.open()
    try:
        return trio.run(_talk, bot, instance, session_key, markdown)
    finally:
        bot.close()


async def _talk(bot: Nanobot, instance: Instance, session_key: str, markdown: bool) -> int:
    with ExitStack() as stack:
        rich_terminal = not Console().is_dumb_terminal and sys.stdout.isatty()
        console = Console(
            file=sys.stdout, highlight=False, emoji=False, force_terminal=rich_terminal or None
        )
        conversation = Conversation(bot, instance, session_key, Screen(console), markdown)
        signals = stack.enter_context(trio.open_signal_receiver(signal.SIGINT))
        async with bot, trio.open_nursery() as nursery:
            keyboard = conversation.keyboard(rich_terminal)
            console.file = keyboard.above
            await conversation.greet()
            nursery.start_soon(conversation.stop_at_signals, signals)
            nursery.start_soon(conversation.run_turns)
            nursery.start_soon(conversation.animate, keyboard)
            nursery.start_soon(bot.runtime.compact_while_idle)
            code = await conversation.listen(keyboard)
            nursery.cancel_scope.cancel()
    return code


class Question:
    """A question that waits for the next line."""

    def __init__(self) -> None:
        self._answered = trio.Event()
        self._line = ""

    def answer(self, line: str) -> None:
        """Take a line as the answer; the first one counts."""
        if not self._answered.is_set():
            self._line = line
            self._answered.set()

    async def wait(self) -> str:
        """Wait for the line."""
        await self._answered.wait()
        return self._line


class Conversation:
    """One conversation: what it is about, the turns that wait, and the turn that runs."""

    def __init__(
        self, bot: Nanobot, instance: Instance, session_key: str, screen: Screen, markdown: bool
    ) -> None:
        self.bot = bot
        self.instance = instance
        self.session_key = session_key
        self.screen = screen
        self.model: str | None = None  # both for turns from now on; None is the bot's own
        self.preset: str | None = None
        self._markdown = markdown
        self._token = trio.lowlevel.current_trio_token()
        # Nobody types so much; and a line that was typed must not be lost.
        self._say, self._said = trio.open_memory_channel[str](math.inf)
        self._turn: EventStream | None = None
        self._stopping = False
        self._leave = trio.Event()
        self._asking = trio.Lock()
        self._question: Question | None = None
        self._always: set[str] = set()  # tools that need not be asked about any more

    @property
    def busy(self) -> bool:
        """Whether a turn is running."""
        return self._turn is not None

    def keyboard(self, rich_terminal: bool) -> Keyboard:
        """The keyboard that fits the terminal."""
        if not rich_terminal:
            return PlainKeyboard()
        path = self.instance.load().path
        assert path is not None  # a configuration that was read from a path, or has the default one
        return PromptKeyboard(
            history=state_folder(path) / "cli-history",
            on_ctrl_c=self._ctrl_c,
            moving=lambda: self.screen.moving,
        )

    async def listen(self, keyboard: Keyboard) -> int:
        """Take lines until the user leaves; returns the exit code."""
        commands = ChatCommands(self)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_keyboard, keyboard, nursery.cancel_scope)
            while not self._leave.is_set():
                try:
                    line = await trio.to_thread.run_sync(
                        keyboard.read, abandon_on_cancel=isinstance(keyboard, PlainKeyboard)
                    )
                except EOFError:
                    break
                if self._question is not None:
                    self._question.answer(line)
                    continue
                match read_line(line):
                    case Say(text):
                        self._say.send_nowait(text)
                    case Command("exit"):
                        break
                    case Command() as command:
                        await commands.do(command)
                    case Mistyped(word):
                        self.screen.note(
                            f"/{word} is no command; /help lists them. To say it, begin with a space."
                        )
            nursery.cancel_scope.cancel()
        return INTERRUPTED if self._leave.is_set() else 0

    async def run_turns(self) -> None:
        """Run what was said, one turn after the other."""
        async for text in self._said:
            await self._run_turn(text)

    async def animate(self, keyboard: Keyboard) -> None:
        """Keep the moving part moving: ten frames a second, each drawn only if it differs."""
        while True:
            if self.screen.draw():
                keyboard.redraw()
            await trio.sleep(_FRAME_S)

    async def stop_at_signals(self, signals: object) -> None:
        """SIGINT from outside, or from a terminal without an editor, stops the turn; without a turn, it ends all."""
        async for _ in signals:  # type: ignore[attr-defined]  # Trio's type for it is private
            if not self.stop():
                self._leave.set()

    def stop(self) -> bool:
        """Stop the turn that runs, if one does, and drop those that wait; returns whether there was one."""
        waiting = False
        while True:
            try:
                self._said.receive_nowait()
            except trio.WouldBlock:
                break
            waiting = True
        if self._turn is None:
            return waiting
        if not self._stopping:
            self._stopping = True
            trio.lowlevel.spawn_system_task(self._turn.aclose, name="stop the turn")
        return True

    def begin(self, session_key: str) -> None:
        """Go on with another session."""
        self.session_key = session_key

    def fresh_key(self) -> str:
        """A key for a new session, told apart by the moment."""
        return f"cli:{datetime.now().astimezone():%Y-%m-%d-%H%M%S}"

    async def greet(self) -> None:
        """Say with whom one talks, and in which session."""
        stored = await trio.to_thread.run_sync(self.bot.sessions.get, self.session_key)
        known = f"{len(stored.messages)} messages so far" if stored else "new session"
        self.screen.show(
            Text.assemble(
                ("nanobot", "bold"),
                f"  {self.bot.runtime.model}",
                (f"  {self.session_key}, {known}", "dim"),
            )
        )
        if self.bot.runtime.notice:
            self.screen.note(self.bot.runtime.notice)
        self.screen.note("/help for help, Ctrl-D to leave")
        self.screen.show("")

    async def _run_turn(self, text: str) -> None:
        view = TurnView(
            now=time.monotonic,
            width=lambda: self.screen.width,
            drawn=QuietMarkdown if self._markdown else Text,
        )
        try:
            stream = self.bot.stream(
                text,
                session_key=self.session_key,
                model=self.model,
                model_preset=self.preset,
                approver=self._permit,
            )
        except NanobotError as error:
            self.screen.fail(failure_from_error(error))
            return
        async with stream as events:
            self._turn, self._stopping = stream, False
            self.screen.follow(view)
            try:
                async for event in events:
                    self._show(event, view.feed(event))
                    if event.type == STREAM_EVENT_RUN_FAILED:
                        if event.metadata.get("reason") == "cancelled":
                            self.screen.note("stopped")
                        else:
                            self.screen.fail(failure_from_event(event))
            except NanobotError as error:  # a caller's mistake that only the run could tell
                self.screen.fail(failure_from_error(error))
            finally:
                self._turn = None
                self.screen.follow(None)
        self.screen.show("")

    def _show(self, event: StreamEvent, finished: list[Finished]) -> None:
        for item in finished:
            if not (self.screen.plain and item.kind == "answer"):  # which came word by word
                self.screen.show(item.renderable, gap=item.gap)
        if self.screen.plain:
            if event.type == STREAM_EVENT_TEXT_DELTA:
                self.screen.write(event.delta)
            elif event.type == STREAM_EVENT_TEXT_COMPLETED and event.content:
                self.screen.write("\n")

    async def _permit(self, request: ApprovalRequest) -> bool | Denied:
        """Ask the person, one question at a time; a turn that is stopped takes its question along."""
        async with self._asking:
            if request.name in self._always:
                return True
            self._question = Question()
            self.screen.ask(question(request, width=self.screen.width))
            try:
                answer = answer_from_line(await self._question.wait())
            finally:
                self._question = None
                self.screen.ask(None)
        if isinstance(answer, str):
            self._always.add(request.name)
            return True
        return answer

    def _ctrl_c(self) -> bool:
        """In the keyboard's thread: stop the turn, if one runs."""
        busy = self.busy
        self._token.run_sync_soon(self.stop)
        return busy

    async def _stop_keyboard(self, keyboard: Keyboard, listening: trio.CancelScope) -> None:
        """End the reading when the conversation is left by a signal, or cancelled."""
        try:
            await self._leave.wait()
        finally:
            keyboard.stop()
        listening.cancel()
