"""The wire formats against servers and types that others wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest
import trio

from nanobot.errors import (
    AuthenticationFailed,
    ProviderError,
    RateLimited,
    RequestRejected,
    ServiceUnavailable,
)
from nanobot.messages import (
    Assembler,
    AssistantMessage,
    FilePart,
    ImagePart,
    Message,
    SystemMessage,
    TextDelta,
    TextPart,
    ThinkingBlock,
    ToolCall,
    ToolMessage,
    ToolSpec,
    UserMessage,
)
from nanobot.providers import Endpoint, ModelRequest, Provider
from nanobot.providers.anthropic import AnthropicProvider
from nanobot.providers.openai_chat import OpenAIChatProvider
from nanobot.providers.openai_responses import OpenAIResponsesProvider
from tests.providers.loopback import MockPool
from tests.providers.peer_servers import aimock, llama_server, needs_aimock, needs_llama

pytestmark = pytest.mark.peer

Asked: TypeAlias = type[AnthropicProvider | OpenAIChatProvider | OpenAIResponsesProvider]

MODELS: dict[Asked, str] = {
    AnthropicProvider: "claude-opus-4-5",
    OpenAIChatProvider: "gpt-5",
    OpenAIResponsesProvider: "gpt-5",
}
any_format = pytest.mark.parametrize("asked", MODELS, ids=lambda asked: asked.__name__)

BRIEF = SystemMessage("You are a helpful AI assistant. Answer in one short sentence.")
CAPITAL = UserMessage("What is the capital of France?")
READ = ToolSpec(
    "read_file",
    "Reads a file.",
    {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
)
LIST = ToolSpec("list_dir", "Lists a folder.", {"type": "object", "properties": {}})


async def answer(provider: Provider, request: ModelRequest) -> Assembler:
    assembler = Assembler()
    stream = await provider.open(request)
    try:
        async for batch in stream:
            assembler.feed(batch)
    finally:
        await stream.aclose()
    return assembler


# llama.cpp ------------------------------------------------------------------------------------


@needs_llama
@any_format
async def test_llama_cpp_answers_and_counts(asked: Asked) -> None:
    async with llama_server() as endpoint:
        provider = asked(endpoint)
        request = ModelRequest("smollm2-135m", [BRIEF, CAPITAL], temperature=0.0)
        for cached in (0, 1):
            found = await answer(provider, request)
            assert "Paris" in found.message().content
            assert found.finish_reason == "stop"
            assert found.usage is not None
            assert found.usage.prompt_tokens > 20
            assert found.usage.completion_tokens > 3
            assert bool(found.usage.cached_tokens) == bool(cached)
        await provider.aclose()


@needs_llama
@any_format
async def test_llama_cpp_takes_a_history_of_every_shape(asked: Asked) -> None:
    history: list[Message] = [
        BRIEF,
        UserMessage("Which files are there?"),
        AssistantMessage("Let me look.", (ToolCall("functions.list:0", "list files", "{"),)),
        ToolMessage("functions.list:0", "list files", "No such tool.", outcome="error"),
        AssistantMessage("", (ToolCall("c1", "list_dir"), ToolCall("c2", "read_file", '{"a":1}'))),
        ToolMessage("c1", "list_dir", "a.txt"),
        ToolMessage("c2", "read_file", ""),
        SystemMessage("Be polite."),
        AssistantMessage("There is a.txt."),
        CAPITAL,
    ]
    async with llama_server() as endpoint:
        provider = asked(endpoint)
        for tools in ((READ, LIST), ()):
            request = ModelRequest("m", history, tools, "none", max_tokens=32, temperature=0.0)
            assert (await answer(provider, request)).message().content
        await provider.aclose()


@needs_llama
@any_format
async def test_llama_cpp_refuses_a_wrong_key_and_a_request_that_fits_no_window(
    asked: Asked,
) -> None:
    async with llama_server() as endpoint:
        stranger = asked(Endpoint(name="x", base_url=endpoint.base_url, api_key="wrong-key-123"))
        with pytest.raises(AuthenticationFailed):
            await stranger.open(ModelRequest("m", [CAPITAL]))
        await stranger.aclose()
        provider = asked(endpoint)
        with pytest.raises(RequestRejected, match="context size"):
            await answer(provider, ModelRequest("m", [UserMessage("many words " * 2000)]))
        assert (await answer(provider, ModelRequest("m", [BRIEF, CAPITAL]))).message().content
        await provider.aclose()


@needs_llama
@any_format
async def test_llama_cpp_goes_on_after_an_answer_that_was_cancelled(asked: Asked) -> None:
    async with llama_server() as endpoint:
        provider = asked(endpoint)
        for _ in range(2):  # there is one slot: it must have been given back
            stream = await provider.open(ModelRequest("m", [UserMessage("Tell a long story.")]))
            with trio.CancelScope() as scope:
                async for batch in stream:
                    if any(isinstance(delta, TextDelta) for delta in batch):
                        scope.cancel()
            assert scope.cancelled_caught
            await stream.aclose()
        assert (await answer(provider, ModelRequest("m", [BRIEF, CAPITAL]))).message().content
        await provider.aclose()


# aimock ---------------------------------------------------------------------------------------

CALLS = [
    {"name": "read_file", "arguments": '{"path":"a.txt"}'},
    {"name": "list_dir", "arguments": "{}"},
]
FIXTURES: list[dict[str, Any]] = [
    {
        "match": {"userMessage": "read", "toolResultContains": "not allowed"},
        "response": {"content": "It says hello."},
    },
    {
        "match": {"userMessage": "read"},
        "response": {
            "content": "Let me look, Grüße 🌍.",
            "reasoning": "The user wants to know what is in a file.",
            "toolCalls": CALLS,
        },
        "chunkSize": 3,
    },
    {
        "match": {"userMessage": "busy"},
        "response": {"error": {"message": "Too fast", "type": "rate_limit_error"}, "status": 429},
    },
    {"match": {"userMessage": "cut"}, "response": {"content": "a" * 50}, "truncateAfterChunks": 2},
]


@needs_aimock
@any_format
async def test_a_turn_with_streamed_calls_goes_round_with_aimock(
    asked: Asked, tmp_path: Path
) -> None:
    model = MODELS[asked]
    async with aimock(tmp_path, FIXTURES) as endpoint:
        provider = asked(endpoint)
        history: list[Message] = [BRIEF, UserMessage("read a.txt, please")]
        tools = (READ, LIST)
        first = await answer(provider, ModelRequest(model, history, tools, reasoning_effort="low"))
        message = first.message()
        assert message.content == "Let me look, Grüße 🌍."
        assert message.reasoning == "The user wants to know what is in a file."
        assert [(call.name, call.arguments) for call in message.tool_calls] == [
            (call["name"], call["arguments"]) for call in CALLS
        ]
        assert len(message.thinking) == (
            asked is not OpenAIChatProvider
        )  # which has nothing to return
        assert first.finish_reason == "tool_calls"

        history += [
            message,
            ToolMessage(message.tool_calls[0].id, "read_file", "hello from a.txt"),
            ToolMessage(message.tool_calls[1].id, "list_dir", "not allowed", outcome="denied"),
        ]
        last = await answer(provider, ModelRequest(model, history, tools, reasoning_effort="low"))
        assert last.message().content == "It says hello."
        assert last.finish_reason == "stop"
        await provider.aclose()


@needs_aimock
@any_format
async def test_what_aimock_breaks_is_an_error_of_its_kind(asked: Asked, tmp_path: Path) -> None:
    async with aimock(tmp_path, FIXTURES) as endpoint:
        provider = asked(endpoint)
        with pytest.raises(RateLimited, match="Too fast") as limited:
            await provider.open(ModelRequest("m", [UserMessage("busy")]))
        assert limited.value.retry_after_s is not None
        with pytest.raises(ProviderError) as cut:
            await answer(provider, ModelRequest("m", [UserMessage("cut")]))
        assert cut.value.retryable
        await provider.aclose()
        stranger = asked(Endpoint(name="x", base_url=endpoint.base_url, api_key="wrong-key-123"))
        with pytest.raises(AuthenticationFailed):
            await stranger.open(ModelRequest("m", [UserMessage("read")]))
        await stranger.aclose()


# The vendors' own clients ---------------------------------------------------------------------

HISTORY: list[Message] = [
    BRIEF,
    UserMessage((TextPart("look"), ImagePart("data:image/png;base64,AAAA"), FilePart("a.pdf"))),
    AssistantMessage(
        "Let me see.",
        (ToolCall("c1", "read_file", '{"path":"a"}'), ToolCall("c2", "list_dir")),
        thinking=(
            ThinkingBlock("thinking", "hm", "sig"),
            ThinkingBlock("redacted_thinking", payload={"data": "x"}),
            ThinkingBlock("reasoning", "hm", payload={"id": "rs_1", "encrypted_content": "x"}),
        ),
    ),
    ToolMessage("c1", "read_file", (TextPart("x"), ImagePart("https://a.example/b.png"))),
    ToolMessage("c2", "list_dir", "", outcome="error"),
    SystemMessage("Hurry."),
    UserMessage("go on"),
    AssistantMessage("Done."),
    UserMessage("And now?"),
]


@pytest.mark.parametrize(
    ("asked", "module", "name"),
    [
        (
            AnthropicProvider,
            "anthropic.types.message_create_params",
            "MessageCreateParamsStreaming",
        ),
        (
            OpenAIChatProvider,
            "openai.types.chat.completion_create_params",
            "CompletionCreateParamsStreaming",
        ),
        (
            OpenAIResponsesProvider,
            "openai.types.responses.response_create_params",
            "ResponseCreateParamsStreaming",
        ),
    ],
    ids=["AnthropicProvider", "OpenAIChatProvider", "OpenAIResponsesProvider"],
)
@pytest.mark.parametrize("offered", [(), (READ, LIST)], ids=["no tools", "tools"])
@pytest.mark.parametrize("effort", [None, "none", "low", "high"])
async def test_what_is_sent_is_what_the_vendors_own_types_describe(
    asked: Asked, module: str, name: str, offered: tuple[ToolSpec, ...], effort: str | None
) -> None:
    vendors_types = pytest.importorskip(module)
    pydantic = pytest.importorskip("pydantic")
    sent: list[bytes] = []

    def respond(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        return httpx.Response(500)

    endpoint = Endpoint(name="acme", base_url="https://a.example/v1")
    provider = asked(endpoint, pool=MockPool(respond))
    for model in (MODELS[asked], "claude-opus-5", "gpt-4.1"):
        request = ModelRequest(
            model, HISTORY, offered, "none", max_tokens=99, reasoning_effort=effort
        )
        with pytest.raises(ServiceUnavailable):
            await provider.open(request)
        body = json.loads(sent.pop())
        described = getattr(vendors_types, name)
        assert body.keys() <= described.__annotations__.keys() | {"stream"}
        pydantic.TypeAdapter(described).validate_python(body)
