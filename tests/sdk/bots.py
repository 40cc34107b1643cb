"""Bots whose model is a scripted server, reached over real HTTP; and what must be true of them at rest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import trio

from actors import Call, ask
from nanobot import Nanobot
from nanobot.agent import AgentHook
from nanobot.messages import Message, check, messages_from_openai
from nanobot.testing import RecordedRequest
from nanobot.tools import Tool

KEY = "canary.0123456789.abcdef"
"""The key of every bot here, unlike any that a pattern would recognize. It must reach the server, and nobody else."""


def make_bot(
    folder: Path,
    base_url: str,
    *,
    others: Mapping[str, str] | None = None,
    timeouts: Mapping[str, float] | None = None,
    presets: Mapping[str, Any] | None = None,
    sessions: Mapping[str, Any] | None = None,
    provider_settings: Mapping[str, Any] | None = None,
    retries: bool = False,
    tools: Sequence[Tool] = (),
    hooks: Sequence[AgentHook] = (),
    **defaults: Any,
) -> Nanobot:
    """A bot with a folder of its own for its configuration and its workspace.

    `others` are further providers, name to base URL; `timeouts` and `provider_settings` are those of all providers;
    `presets` are `modelPresets`; `sessions` says where these are kept, which is on disk, without waiting for it; with
    `retries`, failed requests are sent again; `defaults` are entries of `agents.defaults`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    providers = {
        name: {
            "apiKey": KEY,
            "apiBase": url,
            "timeouts": dict(timeouts or {}),
            **(provider_settings or {}),
        }
        for name, url in {"scripted": base_url, **(others or {})}.items()
    }
    if not retries:
        defaults = {"retry": {"maxAttempts": 1, "maxRefusals": 1}, **defaults}
    config = {
        "agents": {"defaults": {"model": "scripted/m", **defaults}},
        "providers": providers,
        "modelPresets": dict(presets or {}),
        "sessions": dict(sessions or {"durability": "fast"}),
    }
    (folder / "config.json").write_text(json.dumps(config))
    return Nanobot.from_config(
        folder / "config.json", workspace=folder / "workspace", tools=tools, hooks=hooks
    )


def shown(request: RecordedRequest) -> tuple[Message, ...]:
    """The conversation as the model was shown it; fails unless every provider would accept it."""
    history = messages_from_openai(request.json["messages"])
    assert check(history) == (), history
    return history


class Rest(NamedTuple):
    """What a runtime holds; all of it is zero when nobody wants anything of the bot."""

    live_runs: int
    lock_holders: int
    lock_waiters: int
    messages_in_mailboxes: int


NOTHING = Rest(0, 0, 0, 0)


async def rest_of(bot: Nanobot) -> Rest:
    """Look into the living runtime of a bot, from where it lives."""
    runtime = bot._engine.runtime
    assert runtime is not None

    async def look() -> Rest:
        directory = runtime._directory
        mailboxes = [] if directory is None else [directory.mailbox(key) for key in directory]
        return Rest(
            runtime.live_runs,
            runtime.lock.holders,
            runtime.lock.waiting,
            sum(len(mailbox) for mailbox in mailboxes if mailbox is not None),
        )

    def submit(call: Call[Rest]) -> None:
        trio.lowlevel.spawn_system_task(call.run)

    return await ask(runtime.home, Call(look), submit)
