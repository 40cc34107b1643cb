"""The page's examples where there is no asyncio: word for word under `trio.run`, and in their blocking forms without a loop."""

from __future__ import annotations

import ast
import inspect
import os
import textwrap
from types import CodeType
from typing import TYPE_CHECKING, Any

import pytest
import trio

from nanobot import STREAM_EVENT_RUN_COMPLETED, STREAM_EVENT_TEXT_DELTA, Nanobot
from tests.contract.test_page import PLAIN

if TYPE_CHECKING:
    from tests.contract.conftest import World


def run_snippet_under_trio(name: str, **names: Any) -> dict[str, Any]:
    """Run one snippet under Trio, with a bot, and return the names it leaves."""
    snippet = textwrap.dedent(
        PLAIN[name].replace("/my/project", os.environ["HOME"] + "/my/project")
    )
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

    async def main() -> dict[str, Any]:
        async with Nanobot.from_config() as bot:
            namespace: dict[str, Any] = {"Nanobot": Nanobot, "bot": bot, **names}
            code: CodeType = compile(snippet, "<page>", "exec", flags=flags)
            pending = eval(code, namespace)  # the example, as it stands
            if inspect.iscoroutine(pending):
                await pending
            if namespace["bot"] is not bot:
                await namespace["bot"].aclose()
            return namespace

    return trio.run(main)


@pytest.mark.parametrize(
    "name", sorted(PLAIN.keys() - {"two instances", "two hooks", "stable keys"})
)
def test_a_snippet_runs_under_trio_as_it_stands(name: str, world: World) -> None:
    run_snippet_under_trio(name)


def test_under_trio_a_session_remembers_and_a_transcript_is_known(world: World) -> None:
    assert run_snippet_under_trio("session")["result"].content == "Your name is Alice."
    assert run_snippet_under_trio("ingest")["result"].content == "Business Administration."


def test_under_trio_hooks_see_tools(world: World) -> None:
    assert run_snippet_under_trio("audit in full")["hook"].calls == ["list_dir"]


def test_sdk_demo_in_its_blocking_form(world: World) -> None:
    with Nanobot.from_config() as bot:
        assert bot.runtime.model == "openai/gpt-4.1-mini"
        text, finished = "", None
        for event in bot.stream_sync("List the top-level files.", session_key="sdk:demo"):
            if event.type == STREAM_EVENT_TEXT_DELTA:
                text += event.delta
            elif event.type == STREAM_EVENT_RUN_COMPLETED:
                finished = event.result
        assert finished is not None
        assert finished.tools_used == ["list_dir"]
        assert text.endswith(finished.content)


def test_sessions_overrides_and_transcripts_without_a_loop(world: World) -> None:
    with Nanobot.from_config() as bot:
        bot.run_sync("My name is Alice.", session_key="user:alice")
        assert (
            bot.run_sync("What is my name?", session_key="user:alice").content
            == "Your name is Alice."
        )
        assert bot.run_sync("What is my name?", session_key="user:bob").content == "I do not know."
        assert bot.run_sync("Hello", model="openai/gpt-4.1").error is None
        assert bot.runtime.model == "openai/gpt-4.1-mini"
        bot.sessions.ingest_sync(
            "eval:case-1",
            [{"role": "user", "content": "I graduated with a degree in Business Administration."}],
        )
        bot.runtime.compact_session_sync("eval:case-1")
        result = bot.run_sync("What degree did I graduate with?", session_key="eval:case-1")
        assert result.content == "Business Administration."
