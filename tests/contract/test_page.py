"""Every example of the page that users were promised, word for word, under asyncio.

The snippets are compiled as they stand, with `await` at the top level, as in a notebook; what surrounds one on the page (a
bot, a name used before) is given to it. The same flows under trio and without a loop are in test_flows.py.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import pytest

from nanobot import Nanobot

if TYPE_CHECKING:
    from tests.contract.conftest import World

PLAIN = {
    "result": """
        result = await bot.run("Review this repository")
        print(result.content)      # final answer
        print(result.tools_used)   # tools the agent used
        print(result.usage)        # token usage when available
        print(result.stop_reason)  # why the run stopped
    """,
    "session": """
        await bot.run("My name is Alice.", session_key="user:alice")
        result = await bot.run("What is my name?", session_key="user:alice")
        print(result.content)
    """,
    "stream": """
        from nanobot import STREAM_EVENT_TEXT_DELTA

        async for event in bot.stream("Write a migration plan"):
            if event.type == STREAM_EVENT_TEXT_DELTA:
                print(event.delta, end="", flush=True)
    """,
    "workspace": """
        from nanobot import Nanobot

        async with Nanobot.from_config(workspace="/my/project") as bot:
            result = await bot.run("Explain the project structure")
    """,
    "two instances": """
        async with Nanobot.from_config(
            config_path="./bot-a/config.json",
            workspace="./bot-a/workspace",
        ) as bot:
            result = await bot.run("Hello from bot A")
    """,
    "default model": """
        bot = Nanobot.from_config(model="openai/gpt-4.1")
    """,
    "model for one run": """
        result = await bot.run("Summarize this file", model="openai/gpt-4.1-mini")
    """,
    "preset": """
        bot = Nanobot.from_config(model_preset="fast")
        result = await bot.run("Think deeply about this bug", model_preset="reasoning")
    """,
    "keys": """
        await bot.run("hi", session_key="user-alice")
        await bot.run("hi", session_key="task-42")
    """,
    "stable keys": """
        session_key = f"user:{user_id}"
        result = await bot.run(user_message, session_key=session_key)
    """,
    "errors": """
        try:
            result = await bot.run("Review this repo", session_key="project:demo")
        except Exception as exc:
            print(f"SDK call failed before a result was returned: {exc}")
        else:
            if result.error:
                print(f"Agent run failed: {result.error}")
            else:
                print(result.content)
    """,
    "close": """
        run = await bot.run_streamed("Write a long answer", session_key="task:123")
        try:
            async for event in run.stream_events():
                ...
        finally:
            if not run.done:
                await run.aclose()
    """,
    "events": """
        from nanobot import (
            STREAM_EVENT_RUN_COMPLETED,
            STREAM_EVENT_TEXT_DELTA,
            STREAM_EVENT_TOOL_STARTED,
        )

        async for event in bot.stream("Review this repository"):
            if event.type == STREAM_EVENT_TEXT_DELTA:
                print(event.delta, end="", flush=True)
            elif event.type == STREAM_EVENT_TOOL_STARTED:
                print(f"\\nusing {event.name}")
            elif event.type == STREAM_EVENT_RUN_COMPLETED:
                print("\\nfinal:", event.result.content)
    """,
    "handle": """
        from nanobot import STREAM_EVENT_TEXT_DELTA

        run = await bot.run_streamed("Write a detailed migration plan")
        async for event in run.stream_events():
            if event.type == STREAM_EVENT_TEXT_DELTA:
                print(event.delta, end="", flush=True)

        result = await run.wait()
    """,
    "ingest": """
        await bot.sessions.ingest(
            "eval:case-1",
            [
                {
                    "role": "user",
                    "content": "I graduated with a degree in Business Administration.",
                    "timestamp": "2023/05/30 (Tue) 17:27",
                    "source_session_id": "answer_280352e9",
                },
                {
                    "role": "assistant",
                    "content": "Congratulations on your degree.",
                    "timestamp": "2023/05/30 (Tue) 17:27",
                },
            ],
            source="longmemeval",
        )

        await bot.runtime.compact_session("eval:case-1")

        result = await bot.run(
            "Current Date: 2023/05/30 (Tue) 23:40\\n"
            "Question: What degree did I graduate with?",
            session_key="eval:case-1",
        )
        print(result.content)
    """,
    "audit hook": """
        from nanobot.agent import AgentHook, AgentHookContext


        class AuditHook(AgentHook):
            async def before_execute_tools(self, context: AgentHookContext) -> None:
                for tc in context.tool_calls:
                    print(f"[tool] {tc.name}")


        result = await bot.run("Review this change", hooks=[AuditHook()])
    """,
    "generate": """
        run = await bot.run_streamed("Generate a long answer")
        async for event in run.stream_events():
            ...
        result = await run.wait()
    """,
    "iterate": """
        async for event in bot.stream("Generate a long answer"):
            ...
    """,
    "block": """
        async with Nanobot.from_config() as bot:
            result = await bot.run("Summarize this repo")
    """,
    "audit in full": """
        from nanobot.agent import AgentHook, AgentHookContext


        class AuditHook(AgentHook):
            def __init__(self) -> None:
                super().__init__()
                self.calls: list[str] = []

            async def before_execute_tools(self, context: AgentHookContext) -> None:
                for tc in context.tool_calls:
                    self.calls.append(tc.name)
                    print(f"[audit] {tc.name}({tc.arguments})")


        hook = AuditHook()
        result = await bot.run("List files in /tmp", hooks=[hook])
        print(result.content)
        print(f"Tools observed: {hook.calls}")
    """,
    "streaming hook": """
        from nanobot.agent import AgentHook, AgentHookContext


        class StreamingHook(AgentHook):
            def wants_streaming(self) -> bool:
                return True

            async def on_stream(self, context: AgentHookContext, delta: str) -> None:
                print(delta, end="", flush=True)

            async def on_stream_end(self, context: AgentHookContext, *, resuming: bool) -> None:
                print()
    """,
    "two hooks": """
        result = await bot.run("hi", hooks=[AuditHook(), MetricsHook()])
    """,
    "censor": """
        from nanobot.agent import AgentHook


        class Censor(AgentHook):
            def finalize_content(self, context, content):
                return content.replace("secret", "***") if content else content
    """,
}

TIMING = """
import asyncio
import time

from nanobot import Nanobot
from nanobot.agent import AgentHook, AgentHookContext


class TimingHook(AgentHook):
    def __init__(self) -> None:
        super().__init__()
        self._started_at = 0.0

    async def before_iteration(self, context: AgentHookContext) -> None:
        self._started_at = time.perf_counter()

    async def after_iteration(self, context: AgentHookContext) -> None:
        elapsed_ms = (time.perf_counter() - self._started_at) * 1000
        print(f"[timing] iteration {context.iteration} took {elapsed_ms:.1f}ms")


async def main() -> None:
    async with Nanobot.from_config(workspace="/my/project") as bot:
        result = await bot.run(
            "Explain the main function",
            session_key="sdk:demo",
            hooks=[TimingHook()],
        )
        print(result.content)


asyncio.run(main())
"""

TOKYO = """
import asyncio

from nanobot import Nanobot


async def main() -> None:
    async with Nanobot.from_config() as bot:
        result = await bot.run("What time is it in Tokyo?")
        print(result.content)


asyncio.run(main())
"""


def compiled(snippet: str) -> CodeType:
    """The snippet with `await` allowed at its top level, as a notebook compiles it."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(textwrap.dedent(snippet), "<page>", "exec", flags=flags)
    return code


def run_snippet(name: str, **names: Any) -> dict[str, Any]:
    """Run one snippet under asyncio, with a bot, and return the names it leaves."""
    snippet = PLAIN[name].replace("/my/project", os.environ["HOME"] + "/my/project")

    async def main() -> dict[str, Any]:
        async with Nanobot.from_config() as bot:
            namespace: dict[str, Any] = {"Nanobot": Nanobot, "bot": bot, **names}
            code = compiled(snippet)
            pending = eval(code, namespace)  # the example, as a notebook would run it
            if inspect.iscoroutine(pending):
                await pending
            if namespace["bot"] is not bot:
                await namespace["bot"].aclose()
            return namespace

    return asyncio.run(main())


def run_program(program: str | Path, world: World, *arguments: str) -> str:
    """Run a whole program of the page in an interpreter of its own and return what it printed."""
    source = Path(program).read_text() if isinstance(program, Path) else program
    source = source.replace("/my/project", str(world.home / "my" / "project"))
    completed = subprocess.run(
        [sys.executable, "-W", "error", "-c", source, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=world.home,
        check=False,
    )
    assert (completed.returncode, completed.stderr) == (0, "")
    return completed.stdout


def test_the_first_program_prints_an_answer(world: World) -> None:
    assert "all is well" in run_program(TOKYO, world)
    [request] = world.server.requests
    assert "now: " in str(request.json["messages"][-1]["content"])


def test_sdk_demo_prints_what_the_page_shows(world: World) -> None:
    demo = Path(__file__).with_name("sdk_demo.py")
    printed = run_program(
        demo, world, "List", "the", "top-level", "files", "in", "the", "workspace."
    )
    lines = printed.splitlines()
    assert lines[0] == "model: openai/gpt-4.1-mini"
    assert lines[1] == f"workspace: {world.workspace}"
    assert "[tool] list_dir" in lines
    assert "Here are the files I found" in printed
    assert lines[-3:-1] == ["stop_reason: completed", "tools_used: ['list_dir']"]
    assert lines[-1].startswith("usage: {'prompt_tokens': ")


def test_the_timing_hook_prints_each_iteration(world: World) -> None:
    printed = run_program(TIMING, world)
    assert "[timing] iteration 0 took" in printed
    assert printed.endswith("all is well.\n")


@pytest.mark.parametrize(
    "name", sorted(PLAIN.keys() - {"two instances", "two hooks", "stable keys"})
)
def test_a_snippet_runs_as_it_stands(name: str, world: World) -> None:
    run_snippet(name)


def test_a_result_has_what_the_page_names(world: World) -> None:
    result = run_snippet("result")["result"]
    assert result.content == "The secret is that all is well."
    assert result.tools_used == []
    assert (
        result.usage["total_tokens"]
        == result.usage["prompt_tokens"] + result.usage["completion_tokens"]
    )
    assert result.stop_reason == "completed"


def test_a_session_remembers_and_another_does_not(world: World) -> None:
    assert run_snippet("session")["result"].content == "Your name is Alice."


def test_two_instances_have_two_configs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.home)
    (world.home / "bot-a").mkdir()
    (world.home / "bot-a" / "config.json").write_text(
        (world.home / ".nanobot" / "config.json").read_text()
    )
    names = run_snippet("two instances")
    assert names["result"].error is None
    assert names["bot"].runtime.workspace == world.home / "bot-a" / "workspace"


def test_an_override_is_for_one_run(world: World) -> None:
    names = run_snippet("model for one run")
    assert names["result"].error is None
    assert names["bot"].runtime.model == "openai/gpt-4.1-mini"
    assert run_snippet("preset")["bot"].runtime.model == "openai/gpt-4.1-nano"
    assert [request.json["model"] for request in world.server.requests] == ["gpt-4.1-mini", "o3"]


def test_stable_keys_may_come_from_anywhere(world: World) -> None:
    assert run_snippet("stable keys", user_id=7, user_message="hi")["result"].error is None


def test_an_ingested_transcript_is_what_the_model_knows(world: World) -> None:
    assert run_snippet("ingest")["result"].content == "Business Administration."


def test_hooks_see_tools_and_change_the_answer(world: World) -> None:
    hook = run_snippet("audit in full")["hook"]
    assert hook.calls == ["list_dir"]
    censor = run_snippet("censor")["Censor"]

    async def main() -> str:
        async with Nanobot.from_config() as bot:
            return (await bot.run("hi", hooks=[censor()])).content

    assert asyncio.run(main()) == "The *** is that all is well."


def test_a_streaming_hook_gets_each_token(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    streaming = run_snippet("streaming hook")["StreamingHook"]

    async def main() -> None:
        async with Nanobot.from_config() as bot:
            await bot.run("hi", hooks=[streaming()])

    asyncio.run(main())
    assert capsys.readouterr().out == "The secret is that all is well.\n"


def test_several_hooks_combine(world: World) -> None:
    audit = run_snippet("audit hook")["AuditHook"]
    streaming = run_snippet("streaming hook")["StreamingHook"]
    names = run_snippet("two hooks", AuditHook=audit, MetricsHook=streaming)
    assert names["result"].stop_reason == "completed"
