"""Recording what a model answers, and playing it again: the same for the program, and no secret in the file."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import trio

from nanobot import Nanobot, tool
from nanobot.errors import ProviderError, RateLimited, UsageError
from nanobot.messages import (
    Delta,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolCallDelta,
    UserMessage,
)
from nanobot.providers import ModelRequest
from nanobot.testing import (
    Answer,
    CassetteMismatch,
    Cut,
    InMemoryStore,
    RecordingProvider,
    ReplayProvider,
    ScriptedProvider,
    Stall,
    cassette,
    configured_provider,
    scripted_server,
)
from nanobot.testing._cassette import delta_from_builtins, delta_to_builtins
from nanobot.testing._scrub import SECRET, Scrubber
from tests.special_files import any_special_file, make_special

SCRIPT: list[str | Answer | Exception] = [
    Answer("Let me look.", reasoning="Hm.", tool_calls=[("list_dir", {"path": "."})]),
    "It is empty.",
    "Still empty.",
    RateLimited("slow down", provider="scripted", status=429, retry_after_s=3.0),
    Answer("one two three", fault=Cut(2)),
]


def played(provider: Any, folder: Path) -> list[dict[str, Any]]:
    """A conversation with a bot, as its results tell it; in a workspace of its own."""
    seen: list[dict[str, Any]] = []
    with Nanobot.from_config(
        provider=provider, store=InMemoryStore(), workspace=folder / "workspace"
    ) as bot:
        for question in ("Look.", "And now?", "And now?", "What?"):
            result = bot.run_sync(question, session_key="s")
            facts = {
                name: result.metadata.get(name)
                for name in ("exception_type", "status", "retry_after_s", "finish_reason")
            }
            facts |= {"content": result.content, "error": result.error, "tools": result.tools_used}
            seen.append({**facts, **result.usage})
    return seen


def test_what_was_recorded_is_played_again_in_another_folder(tmp_path: Path) -> None:
    file = tmp_path / "tapes" / "one.jsonl"
    recorded = played(RecordingProvider(ScriptedProvider(SCRIPT), file), tmp_path / "a")
    replay = ReplayProvider(file)
    assert replay.left == 5
    assert played(replay, tmp_path / "b") == recorded
    assert replay.left == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert str(tmp_path) not in file.read_text()


def test_other_requests_are_refused_with_what_is_different(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    played(RecordingProvider(ScriptedProvider(SCRIPT), file), tmp_path / "a")
    with Nanobot.from_config(
        provider=ReplayProvider(file), store=InMemoryStore(), workspace=tmp_path / "b"
    ) as bot:
        with pytest.raises(CassetteMismatch, match=r"(?s)no answer.*-.*Look\..*\+.*Listen\."):
            bot.run_sync("Listen.", session_key="s")
        assert bot.run_sync("Look.", session_key="t").content == "It is empty."
        with pytest.raises(CassetteMismatch, match="fewer answers"):
            bot.run_sync("Look.", session_key="u")


def test_requests_may_come_in_any_order(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"

    def ask(provider: Any, names: list[str]) -> dict[str, str]:
        with Nanobot.from_config(
            provider=provider, store=InMemoryStore(), workspace=tmp_path / "w"
        ) as bot:
            return {name: bot.run_sync(name, session_key=name).content for name in names}

    recording = RecordingProvider(ScriptedProvider(["A", "B", "C"]), file)
    assert ask(recording, ["a", "b", "c"]) == {"a": "A", "b": "B", "c": "C"}
    assert ask(ReplayProvider(file), ["c", "a", "b"]) == {"a": "A", "b": "B", "c": "C"}


@pytest.mark.parametrize("ignored", ["system", "settings", "tools"])
def test_what_is_ignored_may_be_different(tmp_path: Path, ignored: Any) -> None:
    def request(value: str) -> ModelRequest:
        from nanobot.messages import SystemMessage, ToolSpec

        return ModelRequest(
            "m",
            [SystemMessage(value if ignored == "system" else ""), UserMessage("Hi")],
            tools=[ToolSpec(value, "", {})] if ignored == "tools" else (),
            reasoning_effort=value if ignored == "settings" else None,
        )

    async def story() -> None:
        file = tmp_path / "one.jsonl"
        recording = RecordingProvider(ScriptedProvider(["A"]), file, ignore=[ignored])
        stream = await recording.open(request("one"))
        async for _ in stream:
            pass
        await ReplayProvider(file, ignore=[ignored]).open(request("two"))
        with pytest.raises(CassetteMismatch):
            await ReplayProvider(file).open(request("two"))

    trio.run(story)


def test_one_that_was_broken_off_is_silent_from_there_on(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    request = ModelRequest("m", [UserMessage("Hi")])
    source = ScriptedProvider([Answer(["a", "b"], between_deltas_s=1, fault=Stall(2))])

    async def heard(provider: Any) -> list[str]:
        texts: list[str] = []
        with trio.move_on_after(60):
            stream = await provider.open(request)
            try:
                async for batch in stream:
                    texts += [delta.text for delta in batch if isinstance(delta, TextDelta)]
            finally:
                await stream.aclose()
            texts.append("(ended)")
        return texts

    async def story() -> None:
        assert await heard(RecordingProvider(source, file)) == ["a", "b"]
        assert await heard(ReplayProvider(file)) == ["a", "b"]

    from nanobot.testing import virtual_clock

    trio.run(story, clock=virtual_clock())


SECRETS = {
    "OpenAI": "sk-proj-" + "a1B2" * 6,
    "GitHub": "ghp_" + "a1B2" * 8,
    "AWS": "AKIA" + "A1B2C3D4E5F6G7H8",
    "JWT": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "URL": "hunter:secret",
    "named": "correct horse",
    "in the environment": "x-y-z-0815-canary",
    "with marks": 'quo"ted\\and\nbroken-ü',
}


def test_no_secret_is_written_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", SECRETS["in the environment"])
    monkeypatch.setenv("MY_PASSWORD", SECRETS["with marks"])
    said = " ".join(
        f"https://{secret}@host/" if name == "URL" else secret for name, secret in SECRETS.items()
    )
    pieces = [said[at : at + 7] for at in range(0, len(said), 7)]  # each secret in several deltas
    arguments = json.dumps({"path": SECRETS["OpenAI"], "more": said})
    script = [
        Answer(pieces, tool_calls=[("list_dir", arguments)], delta_size=5),
        Answer(pieces),
    ]
    file = tmp_path / "one.jsonl"

    def told(provider: Any) -> str:
        with Nanobot.from_config(
            provider=provider, store=InMemoryStore(), workspace=tmp_path / "w"
        ) as bot:
            return bot.run_sync(f"What is {said}?").content

    recording = RecordingProvider(ScriptedProvider(script), file, secrets=[SECRETS["named"]])
    assert told(recording) == said  # the program gets what the model said
    written = file.read_text()
    for secret in SECRETS.values():
        in_json, twice = json.dumps(secret)[1:-1], json.dumps(json.dumps(secret)[1:-1])[1:-1]
        for form in (secret, in_json, twice):
            assert form not in written
    assert SECRET in written
    replayed = told(ReplayProvider(file, secrets=[SECRETS["named"]]))
    assert replayed.count(SECRET) == len(SECRETS)


CANARY = "canary/Zq8-Lw3-Tn6-Xv2-Rp9-Jd4-Hs7-Kf5"  # like no key that is known by its looks


@pytest.mark.parametrize("shown", range(8, len(CANARY)))
def test_a_secret_that_our_own_cut_of_an_error_left_a_piece_of_is_not_written(
    tmp_path: Path, shown: int
) -> None:
    @tool
    def connect() -> str:
        """Connect."""
        raise OSError("x" * (500 - shown) + CANARY)  # 500 characters are shown of an error

    script: list[Any] = [Answer(tool_calls=[("connect", {})]), "It failed."]
    file = tmp_path / "one.jsonl"
    recording = RecordingProvider(ScriptedProvider(script), file, secrets=[CANARY])
    with Nanobot.from_config(
        provider=recording, store=InMemoryStore(), workspace=tmp_path / "w", tools=[connect]
    ) as bot:
        assert bot.run_sync("Hi").content == "It failed."
        kept = bot.sessions.get("sdk:default")
        assert kept is not None
        told = kept.messages[2]["content"]
    assert told.endswith("x" + CANARY[:shown])  # the model hears what the tool said
    assert CANARY[:8] not in file.read_text()
    assert f"x{SECRET}" in file.read_text()


def test_both_pieces_of_a_secret_in_the_gap_of_a_long_result_are_not_written() -> None:
    scrubber = Scrubber([CANARY], env={})
    for head in range(8, len(CANARY)):
        for tail in (0, 7, 8, len(CANARY) - head, len(CANARY) - 1):
            begun, ended = CANARY[:head], CANARY[len(CANARY) - tail :]
            gap = f"a {begun}\n[The beginning and the end of 20,000 characters.]\n{ended} z"
            clean = scrubber.text(gap)
            assert CANARY[:8] not in clean
            assert CANARY[-8:] not in clean
            assert clean.startswith(f"a {SECRET}\n[The")
            assert clean.endswith(" z")
    assert scrubber.text(f"{CANARY[:12]}… and …{CANARY[9:]}") == f"{SECRET}… and …{SECRET}"
    # Fewer characters, and what only begins like a secret, stand in ordinary texts.
    for plain in (f"the {CANARY[:7]}", f"{CANARY[:12]} and on", f"{CANARY[:12]}\nand on"):
        assert scrubber.text(plain) == plain


def test_a_piece_that_the_service_sends_is_no_cut(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    said = ["the canary/Zq8", " sings"]
    recording = RecordingProvider(ScriptedProvider([Answer(said)]), file, secrets=[CANARY])
    with Nanobot.from_config(
        provider=recording, store=InMemoryStore(), workspace=tmp_path / "w"
    ) as bot:
        assert bot.run_sync("Hi").content == "".join(said)
    replay = ReplayProvider(file, secrets=[CANARY])
    with Nanobot.from_config(
        provider=replay, store=InMemoryStore(), workspace=tmp_path / "w"
    ) as bot:
        assert bot.run_sync("Hi").content == "".join(said)


@pytest.mark.parametrize(
    "text", ["ask-me-anything-about-it", "risk-free and task-oriented", "", "é" * 20]
)
def test_ordinary_words_are_left_alone(text: str) -> None:
    assert Scrubber(env={"API_KEY": "true", "HOME": "/root"}).text(text) == text


@pytest.mark.parametrize(
    "delta",
    [
        TextDelta("a"),
        ThinkingDelta(ThinkingBlock("thinking", "hm", "sig", {"a": [1]})),
        ToolCallDelta(1, "id", "name", "{}", {"signature": "x"}),
    ],
)
def test_deltas_are_what_they_were(delta: Delta) -> None:
    assert delta_from_builtins(json.loads(json.dumps(delta_to_builtins(delta)))) == delta


def test_a_cassette_is_recorded_once_and_replayed_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "one.jsonl"
    made: list[ScriptedProvider] = []

    def make() -> ScriptedProvider:
        made.append(ScriptedProvider(SCRIPT))
        return made[-1]

    with pytest.raises(FileNotFoundError):
        cassette(file, make, record="never")
    first = played(cassette(file, make), tmp_path / "a")
    assert played(cassette(file, make), tmp_path / "a") == first
    assert len(made) == 1
    monkeypatch.setenv("NANOBOT_CASSETTES", "always")
    played(cassette(file, make), tmp_path / "a")
    assert len(made) == 2
    monkeypatch.setenv("NANOBOT_CASSETTES", "perhaps")
    with pytest.raises(UsageError, match="perhaps"):
        cassette(file, make)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    file.write_text('{"key": "a", "request": {}}\n{"key": 1}\n')
    with pytest.raises(UsageError, match="line 2"):
        ReplayProvider(file)


@pytest.mark.parametrize(
    "line",
    [
        b'{"key": "\xff"}',
        b'{"request": {"a":' + b"[" * 100_000,
        b'{"key": "a", "request": {}, "batches": [[{"kind": "Song", "text": "la"}]]}',
        b'{"key": "a", "request": {}, "batches": [[{"kind": "TextDelta", "text": 1}]]}',
        b'{"key": "a", "request": {}, "batches": [[{}]]}',
    ],
    ids=range(5),
)
def test_a_line_that_nothing_can_read_is_named(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "one.jsonl"
    file.write_bytes(b'{"key": "a", "request": {}}\n' + line)
    with pytest.raises(UsageError, match=r"one\.jsonl, line 2"):
        ReplayProvider(file)


@any_special_file
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "one.jsonl"
    make_special(file, kind)
    with pytest.raises(UsageError, match=rf"one\.jsonl cannot be read: not a .* but {kind}"):
        ReplayProvider(file)


@any_special_file
def test_what_is_no_file_is_not_recorded_over(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "one.jsonl"
    make_special(file, kind)
    before = file.stat().st_mode
    with pytest.raises(UsageError, match=rf"one\.jsonl cannot be written: not a .* but {kind}"):
        RecordingProvider(ScriptedProvider([]), file)
    assert file.stat().st_mode == before


def test_a_configured_provider_is_recorded_over_http(tmp_path: Path) -> None:
    key = "canary.0123456789"
    with scripted_server(["Hello"]) as server:
        config = {
            "agents": {"defaults": {"model": "own/m"}},
            "providers": {"own": {"apiKey": key, "apiBase": server.base_url}},
        }
        (tmp_path / "config.json").write_text(json.dumps(config))

        def story(provider: Any) -> str:
            with Nanobot.from_config(
                tmp_path / "config.json", provider=provider, workspace=tmp_path / "w"
            ) as bot:
                return bot.run_sync("Hi", ephemeral=True).content

        file = tmp_path / "one.jsonl"
        recording = RecordingProvider(configured_provider(tmp_path / "config.json"), file)
        assert story(recording) == "Hello"
        assert len(server.requests) == 1
        assert server.requests[0].headers["authorization"] == f"Bearer {key}"
    assert key not in file.read_text()
    assert story(ReplayProvider(file)) == "Hello"


def test_what_was_recorded_with_a_key_is_replayed_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"agents": {"defaults": {"model": "openai/gpt-4.1"}}}')
    file = tmp_path / "one.jsonl"

    def answer(provider: Any) -> str:
        with Nanobot.from_config(
            tmp_path / "config.json", provider=provider, store=InMemoryStore()
        ) as bot:
            return bot.run_sync("Hi").content

    with scripted_server(["Hello"]) as server, monkeypatch.context() as environment:
        environment.setenv("OPENAI_API_KEY", "sk-test")
        environment.setenv("OPENAI_BASE_URL", server.base_url)
        provider = configured_provider(tmp_path / "config.json")
        assert answer(RecordingProvider(provider, file)) == "Hello"
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert answer(ReplayProvider(file)) == "Hello"


async def test_errors_keep_their_class_and_facts(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    request = ModelRequest("m", [UserMessage("Hi")])
    refused = RateLimited("slow down", provider="p", status=429, retry_after_s=3.0)
    with pytest.raises(RateLimited):
        await RecordingProvider(ScriptedProvider([refused]), file).open(request)
    with pytest.raises(ProviderError) as caught:
        await ReplayProvider(file).open(request)
    assert type(caught.value) is RateLimited
    assert (caught.value.status, caught.value.retry_after_s) == (429, 3.0)
