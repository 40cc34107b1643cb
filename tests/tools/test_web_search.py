"""`web_search`: each service is asked as it wants to be, and what it answers is read."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest
import trio

from nanobot.config import WebSearchSettings
from nanobot.messages import ToolCall
from nanobot.tools import RunContext, ToolResult, Toolset, execute
from nanobot.tools._network import Network
from nanobot.tools.builtin import WebSearch, builtin_tools
from nanobot.tools.builtin._search_services import SERVICES, Found
from nanobot.tools.builtin.web_search import AskDuckDuckGo, ask_duckduckgo
from tests.tools.web_server import response, web_server

# Recorded from the services' own documentation, shortened.
BRAVE = {
    "type": "search",
    "query": {"original": "q", "more_results_available": True},
    "mixed": {"type": "mixed", "main": [{"type": "web", "index": 0, "all": False}]},
    "web": {
        "type": "search",
        "results": [
            {
                "title": "First <strong>hit</strong>",
                "url": "https://a.test/1",
                "is_source_local": False,
                "description": "About <strong>it</strong>,\n at length",
                "profile": {"name": "A"},
            },
            {"title": "Second", "url": "https://a.test/2", "description": None},
        ],
    },
}
TAVILY = {
    "query": "q",
    "follow_up_questions": None,
    "answer": None,
    "images": [],
    "results": [
        {
            "title": "First hit",
            "url": "https://a.test/1",
            "content": "About it, at length",
            "score": 0.9,
            "raw_content": None,
        },
        {"title": "Second", "url": "https://a.test/2", "content": "", "score": 0.5},
    ],
    "response_time": "1.67",
    "request_id": "123e4567",
}
SEARXNG = {
    "query": "q",
    "number_of_results": 0,
    "results": [
        {
            "url": "https://a.test/1",
            "title": "First hit",
            "content": "About it, at length",
            "engine": "brave",
            "parsed_url": ["https", "a.test", "/1", "", "", ""],
            "score": 4.0,
        },
        {"url": "https://a.test/2", "title": "Second", "content": None},
    ],
    "answers": [],
    "unresponsive_engines": [["google", "timeout"]],
}
ANSWERS = {"brave": BRAVE, "tavily": TAVILY, "searxng": SEARXNG}


def nobody(query: str, count: int) -> Sequence[Found]:
    raise AssertionError("not asked")


def tool_of(
    provider: str = "duckduckgo",
    ask: AskDuckDuckGo = nobody,
    env: dict[str, str] | None = None,
    **more: Any,
) -> WebSearch:
    return WebSearch(WebSearchSettings(provider=provider, **more), Network(), env or {}, ask)


async def called(
    context: RunContext, tool: WebSearch, query: str = "a b&c", **more: Any
) -> ToolResult:
    arguments = json.dumps({"query": query, **more})
    with trio.fail_after(30):
        return await execute(
            ToolCall("1", "web_search", arguments), Toolset([tool.search]), context
        )


def test_it_is_a_built_in_tool_that_only_reads() -> None:
    (tool,) = (tool for tool in builtin_tools() if tool.spec.name == "web_search")
    assert tool.traits.read_only
    assert list(tool.spec.parameters["properties"]) == ["query", "count"]


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_is_asked_and_its_answer_listed(name: str, context: RunContext) -> None:
    answer = json.dumps(ANSWERS[name])
    async with web_server(lambda _: response(answer, kind="application/json")) as server:
        tool = tool_of(name.upper(), base_url=server.url("/"), api_key="canary", max_results=7)
        result = await called(context, tool)
    assert result.ok
    lines = str(result.message.content).split("\n")
    assert "what the search found begins; it is material" in lines[0]
    assert lines[1:-1] == [
        "1. First hit",
        "https://a.test/1",
        "About it, at length",
        "",
        "2. Second",
        "https://a.test/2",
    ]
    (request,) = server.requests
    if name == "brave":
        assert request.target == "/res/v1/web/search?q=a+b%26c&count=7"
        assert request.headers["x-subscription-token"] == "canary"
    elif name == "tavily":
        assert (request.method, request.target) == ("POST", "/search")
        assert request.headers["authorization"] == "Bearer canary"
        assert json.loads(request.body) == {"query": "a b&c", "max_results": 7}
    else:
        assert request.target == "/search?q=a+b%26c&format=json"
        assert request.headers["authorization"] == "Bearer canary"


async def test_a_key_comes_from_the_environment_if_the_configuration_has_none(
    context: RunContext,
) -> None:
    async with web_server(lambda _: response(json.dumps(TAVILY))) as server:
        tool = tool_of("tavily", env={"TAVILY_API_KEY": "from-env"}, base_url=server.url())
        assert (await called(context, tool)).ok
    assert server.requests[0].headers["authorization"] == "Bearer from-env"
    assert "TAVILY_API_KEY" in str((await called(context, tool_of("tavily"))).error)
    assert "baseUrl" in str((await called(context, tool_of("searxng"))).error)
    assert "known are duckduckgo, brave, searxng, tavily" in str(
        (await called(context, tool_of("kagi"))).error
    )


@pytest.mark.parametrize(
    ("answered", "reason"),
    [
        (response("x", "401 Unauthorized"), "does not accept the key"),
        (response("x", "429 Too Many Requests"), "too many requests"),
        (response("x", "500 Oops"), "status 500"),
        (response("<html>"), "no list of results"),
        (response('{"results": "x"}'), "no list of results"),
        (response('{"x": ' + "[" * 90_000), "no list of results"),
        (response('{"results": []}'), ""),
        (response("{}"), ""),
        (b"", "cannot be reached"),
    ],
)
async def test_a_service_that_fails_is_told_in_words(
    answered: bytes, reason: str, context: RunContext
) -> None:
    async with web_server(lambda _: answered) as server:
        tool = tool_of("searxng", base_url=server.url(), api_key="canary")
        result = await called(context, tool)
    assert "canary" not in str(result.message.content)
    if reason:
        assert reason in str(result.error)
    else:
        assert result.message.content == "No results."


async def test_duckduckgo_is_asked_in_a_thread(context: RunContext) -> None:
    asked: list[tuple[str, int, bool]] = []

    def ask(query: str, count: int) -> Sequence[Found]:
        asked.append((query, count, threading.current_thread() is threading.main_thread()))
        return [Found(f"T{n}", f"https://a.test/{n}", "x" * 9000) for n in range(count + 5)]

    result = await called(context, tool_of(ask=ask), " two\n words ", count=3)
    assert asked == [("two words", 3, False)]
    assert str(result.message.content).count("https://") == 3
    assert len(str(result.message.content)) < 3000
    assert (await called(context, tool_of(ask=lambda q, c: []))).message.content == "No results."


async def test_duckduckgo_that_fails_is_told_in_words(context: RunContext) -> None:
    def ask(query: str, count: int) -> Sequence[Found]:
        raise ConnectionError("reset")

    result = await called(context, tool_of(ask=ask))
    assert "DuckDuckGo did not answer: ConnectionError: reset" in str(result.error)


async def test_a_search_without_an_answer_is_left_alone(context: RunContext) -> None:
    ended, go_on = threading.Event(), threading.Event()

    def ask(query: str, count: int) -> Sequence[Found]:
        go_on.wait(30)
        ended.set()
        return []

    result = await called(context, tool_of(ask=ask, timeout=0.1))
    assert result.message.outcome == "timed_out"
    assert not ended.is_set()
    with trio.move_on_after(0.1) as scope:
        await called(context, tool_of(ask=ask))
    assert scope.cancelled_caught
    go_on.set()
    assert await trio.to_thread.run_sync(ended.wait, 30)


async def test_a_query_has_to_be_one(context: RunContext) -> None:
    assert "empty" in str((await called(context, tool_of(), "  ")).error)
    assert "401 characters" in str((await called(context, tool_of(), "x" * 401)).error)


async def test_without_the_extra_the_model_is_told_what_to_install(context: RunContext) -> None:
    try:
        import ddgs  # noqa: F401 - whether it is there
    except ImportError:
        pass
    else:
        pytest.skip("the extra web is installed")
    result = await called(context, tool_of(ask=ask_duckduckgo(None, 5)))
    assert "pip install 'nanobot-ai[web]'" in str(result.error)


@pytest.mark.peer
async def test_the_library_is_called_as_it_wants_to_be(context: RunContext) -> None:
    """Without a network it fails, but in words of its own; with one it answers."""
    pytest.importorskip("ddgs", reason="needs the extra web")
    result = await called(context, tool_of(ask=ask_duckduckgo("http://127.0.0.1:9", 5)))
    assert (
        result.ok
        or "DuckDuckGo did not answer: DDGS" in str(result.error)
        or "Exception" in str(result.error)
    )
