"""Sessions that never hear of each other, runs that wait for each other where they must, and bots that share nothing."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nanobot import Nanobot
from nanobot.errors import UnknownPreset
from nanobot.messages import AssistantMessage, UserMessage
from nanobot.testing import Answer, RecordedRequest, ScriptedServerThread, scripted_server
from tests.sdk.bots import NOTHING, make_bot, rest_of, shown
from tests.sdk.crowd import Crowd

if TYPE_CHECKING:
    from tests.sdk.conftest import Host


class Meter:
    """A model that answers when it is told to, and knows at any time which sessions it is being asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.asked: list[str] = []
        self.models: list[str] = []

    def __call__(self, request: RecordedRequest) -> Answer:
        with self._lock:
            self.asked.append(request.user_texts[-1].splitlines()[0])
            self.models.append(request.model)
        return Answer(["a ", "b"], before_first_delta_s=0.05)


@contextmanager
def metered() -> Iterator[tuple[Meter, ScriptedServerThread]]:
    meter = Meter()
    with scripted_server(meter) as server:
        yield meter, server


def peak_of(server: ScriptedServerThread) -> int:
    """How many runs were with the model at once."""
    return server.statistics().peak_requests_in_flight


def test_a_hundred_sessions_interleaved_at_random_never_see_each_other(
    host: Host, tmp_path: Path
) -> None:
    chance = random.Random(11)
    turns = [(session, turn) for session in range(100) for turn in range(4)]
    chance.shuffle(turns)
    order: defaultdict[int, list[str]] = defaultdict(list)

    def answer(request: RecordedRequest) -> str:
        return f"answer to {request.user_texts[-1].splitlines()[0]}"

    def one(bot: Nanobot, session: int, turn: int) -> Callable[[], Any]:
        async def run() -> None:
            await host.sleep(chance.random() * 0.2)
            canary = f"canary-{session}-{turn}"
            order[session].append(canary)
            result = await bot.run(canary, session_key=f"user:{session}")
            assert result.content == f"answer to {canary}"

        return run

    async def story() -> None:
        async with make_bot(tmp_path, server.base_url) as bot:
            await host.gather(*(one(bot, session, turn) for session, turn in turns))
            assert await rest_of(bot) == NOTHING

    with scripted_server(answer) as server:
        host.run(story)
    assert len(server.requests) == 400
    last: dict[int, RecordedRequest] = {}
    for request in server.requests:
        canary = request.user_texts[-1].splitlines()[0]
        session = int(canary.split("-")[1])
        assert f"canary-{session}-" in request.body.decode()
        assert request.body.count(b"canary-") == request.body.count(b"canary-%d-" % session)
        last[session] = request
    for session, request in last.items():
        said = [str(m.content).splitlines()[0] for m in shown(request)[1:]]
        answered = [f"answer to {canary}" for canary in order[session]]
        assert said[::2] == order[session], "not in the order in which they were started"
        assert said[1::2] == answered[:-1]


def test_one_session_is_served_in_order_and_one_run_at_a_time(host: Host, tmp_path: Path) -> None:
    async def story() -> None:
        async with make_bot(tmp_path, server.base_url) as bot:
            runs = [await bot.run_streamed(str(n), session_key="one") for n in range(8)]
            for run in reversed(runs):
                assert (await run.wait()).content == "a b"

    with metered() as (meter, server):
        host.run(story)
        assert meter.asked == [str(n) for n in range(8)]
        assert peak_of(server) == 1
        told = [m for m in shown(server.requests[-1]) if isinstance(m, UserMessage)]
        assert len(told) == 8


def test_different_sessions_overlap(host: Host, tmp_path: Path) -> None:
    async def story() -> None:
        async with make_bot(tmp_path, server.base_url) as bot:
            runs = [await bot.run_streamed("x", session_key=str(n)) for n in range(8)]
            for run in runs:
                assert (await run.wait()).content == "a b"

    with scripted_server(Crowd(8, Answer("a b"))) as server:  # answers nobody before all have asked
        host.run(story)
        assert peak_of(server) == 8


def test_an_override_run_is_alone_and_comes_in_its_turn(host: Host, tmp_path: Path) -> None:
    async def story() -> None:
        async with make_bot(tmp_path, server.base_url) as bot:
            runs = [await bot.run_streamed("before", session_key=str(n)) for n in range(3)]
            while (await rest_of(bot)).lock_holders < 3:
                await host.sleep(0.001)
            alone = await bot.run_streamed("alone", session_key="x", model="scripted/other")
            runs.append(alone)
            while not (alone.done or (await rest_of(bot)).lock_waiters):
                await host.sleep(0.001)
            runs += [await bot.run_streamed("after", session_key=f"a{n}") for n in range(3)]
            during = []
            for run in runs:
                assert (await run.wait()).content == "a b"
                during.append(bot.runtime.model)
            assert set(during) == {"scripted/m"}

    with metered() as (meter, server):
        host.run(story)
        assert meter.asked == ["before"] * 3 + ["alone"] + ["after"] * 3
        assert meter.models == ["m"] * 3 + ["other"] + ["m"] * 3
        times = {
            name: [
                r for r, asked in zip(server.requests, meter.asked, strict=True) if asked == name
            ]
            for name in ("before", "alone", "after")
        }
        [alone] = times["alone"]
        assert all((r.answered_at or 0) <= alone.arrived_at for r in times["before"])
        assert all(r.arrived_at >= (alone.answered_at or 0) for r in times["after"])
        assert peak_of(server) == 3


def test_override_runs_never_overlap_whatever_they_override_with(
    host: Host, tmp_path: Path
) -> None:
    overrides: list[dict[str, Any]] = [
        {"model": "scripted/other"},
        {"model": "second/other"},
        {"model_preset": "fast"},
        {"model": "scripted/other"},
    ]

    async def story() -> None:
        bot = make_bot(
            tmp_path,
            server.base_url,
            others={"second": server.base_url},
            presets={"fast": {"model": "scripted/fast"}},
        )
        async with bot:
            runs = [
                await bot.run_streamed("x", session_key=str(n), **override)
                for n, override in enumerate(overrides)
            ]
            for run in runs:
                assert (await run.wait()).content == "a b"
            assert bot.runtime.model == "scripted/m"

    with metered() as (meter, server):
        host.run(story)
        assert peak_of(server) == 1
        assert sorted(meter.models) == ["fast", "other", "other", "other"]


def test_isolated_overrides_overlap_each_with_its_own_model(host: Host, tmp_path: Path) -> None:
    async def story() -> None:
        bot = make_bot(tmp_path, server.base_url, overridePolicy="isolated")
        async with bot:
            models = [None, "scripted/other", None, "scripted/third"]
            runs = [
                await bot.run_streamed(f"x{n}", session_key=str(n), model=model)
                for n, model in enumerate(models)
            ]
            for run in runs:
                await run.wait()
                assert bot.runtime.model == "scripted/m"
            results = [await run.wait() for run in runs]
            assert [r.metadata["model"] for r in results] == ["m", "other", "m", "third"]

    # Answers nobody before all have asked.
    with scripted_server(Crowd(4, Answer("a b"))) as server:
        host.run(story)
        assert peak_of(server) == 4
        assert sorted(request.model for request in server.requests) == ["m", "m", "other", "third"]


def test_an_override_that_fails_or_is_cancelled_leaves_the_model_and_the_lock_alone(
    host: Host, tmp_path: Path
) -> None:
    async def story() -> None:
        async with make_bot(tmp_path, server.base_url) as bot:
            waiting = await bot.run_streamed("x", session_key="one")
            override = await bot.run_streamed("y", session_key="two", model="scripted/other")
            behind = await bot.run_streamed("z", session_key="three")
            await override.cancel()  # while it waits for the lock: who waits behind it may go on
            assert (await behind.wait()).content == "a b"
            assert (await waiting.wait()).content == "a b"

            async def impatient() -> None:
                await bot.run("y", session_key="two", model="scripted/other")

            assert await host.cancel_after(0.02, impatient)
            with pytest.raises(UnknownPreset, match="nowhere"):
                await bot.run("y", model_preset="nowhere")
            assert (await bot.run("x", session_key="one")).content == "a b"
            assert bot.runtime.model == "scripted/m"
            assert await rest_of(bot) == NOTHING

    with metered() as (_, server):
        host.run(story)


def test_two_bots_with_two_configurations_never_see_each_other(host: Host, tmp_path: Path) -> None:
    def says(name: str) -> Callable[[RecordedRequest], str]:
        return lambda request: f"{name} knows {len(request.user_texts)}"

    async def story() -> None:
        a = make_bot(tmp_path / "a", server_a.base_url)
        b = make_bot(tmp_path / "b", server_b.base_url, model="scripted/b")
        (a.runtime.workspace / "AGENTS.md").write_text("Be like canary-a.")
        async with a, b:

            def ask(bot: Nanobot, name: str) -> Callable[[], Any]:
                async def run() -> None:
                    for number in range(1, 6):
                        result = await bot.run(f"canary-{name}", session_key="shared")
                        assert result.content == f"{name} knows {number}"

                return run

            await host.gather(ask(a, "a"), ask(b, "b"))
            assert a.runtime.model == "scripted/m"
            assert b.runtime.model == "scripted/b"
            assert a.runtime.workspace != b.runtime.workspace
            await a.aclose()
            assert (await b.run("canary-b", session_key="shared")).content == "b knows 6"

    with scripted_server(says("a")) as server_a, scripted_server(says("b")) as server_b:
        host.run(story)
    assert all(b"canary-b" not in request.body for request in server_a.requests)
    assert all(b"canary-a" not in request.body for request in server_b.requests)
    assert {request.model for request in server_b.requests} == {"b"}


KEYS = {
    "empty": "",
    "a way up": "../x",
    "an absolute path": "/etc/passwd",
    "10 kB": "k" * 10_000,
    "10 kB and one": "k" * 10_000 + "!",
    "emoji": "🐈‍⬛ 👩🏽‍🚀",
    "a zero": "\x00",
    "zeros": "\x00\x00",
    "a line break": "one\ntwo",
    "white space": " ",
    "one way to write é": "\u00e9",
    "another way to write é": "e\u0301",
    "upper case": "USER",
    "lower case": "user",
    "half a character": "\ud83d",
    "another half": "\ude00",
}


def test_a_session_key_may_be_any_string_and_no_two_are_taken_for_each_other(
    host: Host, tmp_path: Path
) -> None:
    def answer(request: RecordedRequest) -> str:
        return " ".join(text.splitlines()[0] for text in request.user_texts)

    async def story() -> None:
        async with make_bot(tmp_path / "bot", server.base_url) as bot:
            for turn in ("1", "2"):

                def ask(name: str, key: str, turn: str = turn) -> Callable[[], Any]:
                    async def run() -> None:
                        canary = f"{name.replace(' ', '-')}:{turn}"
                        result = await bot.run(canary, session_key=key)
                        first = canary.replace(":2", ":1")
                        assert result.error is None
                        assert result.content == (f"{first} {canary}" if turn == "2" else canary)

                    return run

                await host.gather(*(ask(name, key) for name, key in KEYS.items()))
            assert await rest_of(bot) == NOTHING

    with scripted_server(answer) as server:
        host.run(story)
        for request in server.requests:
            answers = [m for m in shown(request) if isinstance(m, AssistantMessage)]
            assert len(answers) <= 1
    assert [path.name for path in tmp_path.iterdir()] == ["bot"], "a key was taken for a path"


@pytest.mark.parametrize("key", [None, 7, b"one", ["one"]])
def test_a_session_key_that_is_no_string_is_refused_at_once(key: object, tmp_path: Path) -> None:
    bot = make_bot(tmp_path, "http://127.0.0.1:9/v1")
    with bot, pytest.raises(ValueError, match="session_key must be a string"):
        bot.run_sync("hello", session_key=key)  # type: ignore[call-overload]  # the point of this test
