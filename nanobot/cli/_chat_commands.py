"""The commands of a conversation: `/new`, `/status`, `/model` and so on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio
from msgspec.structs import replace
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nanobot.errors import NanobotError

from ._chat_line import COMMANDS, Command
from ._failure import Failure, failure_from_error
from ._fold import one_line
from ._instance import Instance
from ._readiness import Readiness, look
from ._status import print_readiness

if TYPE_CHECKING:
    from ._chat import Conversation

__all__ = ["ChatCommands"]

_LISTED_SESSIONS = 15


class ChatCommands:
    """Carries commands out, for one conversation."""

    def __init__(self, conversation: Conversation) -> None:
        self._chat = conversation
        self._screen = conversation.screen

    async def do(self, command: Command) -> None:
        """Carry out one command; what goes wrong is shown."""
        try:
            match command.name:
                case "new":
                    self._new()
                case "stop":
                    if not self._chat.stop():
                        self._screen.note("nothing is running")
                case "status":
                    await self._status()
                case "model":
                    await self._model(command.argument)
                case "sessions":
                    await self._sessions(command.argument)
                case "compact":
                    await self._compact()
                case "help":
                    self._help()
        except Failure as failure:
            self._screen.fail(failure)
        except NanobotError as error:
            self._screen.fail(failure_from_error(error))

    def _new(self) -> None:
        self._refuse_while_busy()
        self._chat.begin(self._chat.fresh_key())
        self._screen.note(f"new session {self._chat.session_key}")

    async def _status(self) -> None:
        found = await self._look(self._instance())
        print_readiness(self._screen.console, found)
        stored = await trio.to_thread.run_sync(self._chat.bot.sessions.get, self._chat.session_key)
        count = len(stored.messages) if stored else 0
        state = "a turn is running" if self._chat.busy else "idle"
        self._screen.note(f"session {self._chat.session_key}: {count} messages, {state}")

    async def _model(self, name: str) -> None:
        if not name:
            found = await self._look(self._instance())
            named = f" (preset {found.preset})" if found.preset else ""
            self._screen.note(f"{found.model}{named}, by {found.provider}")
            if found.presets:
                self._screen.note(f"presets: {', '.join(found.presets)}")
            return
        is_preset = name in (await self._look(self._chat.instance)).presets
        model = None if is_preset else name
        preset = name if is_preset else None
        found = await self._look(replace(self._chat.instance, model=model, preset=preset))
        if not found.ready:
            raise Failure(found.problem, found.do)
        self._chat.model, self._chat.preset = model, preset
        self._screen.note(f"from now on {found.model}, by {found.provider}")

    async def _look(self, instance: Instance) -> Readiness:
        return await trio.to_thread.run_sync(look, instance, os.environ)

    def _instance(self) -> Instance:
        """The instance with the model of the next turn."""
        if self._chat.model is None and self._chat.preset is None:
            return self._chat.instance
        return replace(self._chat.instance, model=self._chat.model, preset=self._chat.preset)

    async def _sessions(self, key: str) -> None:
        if key:
            self._refuse_while_busy()
            self._chat.begin(key)
            stored = await trio.to_thread.run_sync(self._chat.bot.sessions.get, key)
            count = f"{len(stored.messages)} messages so far" if stored else "new session"
            self._screen.note(f"{key}: {count}")
            return
        rows = await trio.to_thread.run_sync(self._chat.bot.sessions.list, _LISTED_SESSIONS)
        if not rows:
            self._screen.note("no sessions yet")
            return
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(style="dim", justify="right", no_wrap=True)
        table.add_column(style="dim", overflow="ellipsis", no_wrap=True)
        for row in rows:
            here = "bold" if row.key == self._chat.session_key else ""
            table.add_row(
                Text(one_line(row.key), style=here),
                f"{row.message_count}",
                Text(one_line(row.title or row.preview)),
            )
        self._screen.show(Padding(table, (0, 0, 0, 2)))

    async def _compact(self) -> None:
        self._refuse_while_busy()
        self._screen.note("compacting …")
        summary = await self._chat.bot.runtime.compact_idle_session(self._chat.session_key)
        self._screen.note(one_line(summary) if summary else "there is nothing to compact")

    def _help(self) -> None:
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(style="dim")
        for name, (argument, what) in COMMANDS.items():
            table.add_row(Text(f"/{name} {argument}".rstrip()), what)
        table.add_row("Ctrl-C", "stop the turn")
        table.add_row("Alt-Enter", "another line; so does a backslash at the end")
        self._screen.show(Padding(table, (0, 0, 0, 2)))

    def _refuse_while_busy(self) -> None:
        if self._chat.busy:
            raise Failure("A turn is running.", "Wait for its end, or stop it with /stop.")
