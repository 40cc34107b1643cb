"""The page in a real browser: Chromium, driven by playwright-core from npm. `make test-all` sets both up where it can."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from nanobot.errors import ToolError
from nanobot.gateway._client_frames import FrameError
from nanobot.messages import ImagePart
from nanobot.testing import Answer, Stall, scripted_server
from nanobot.tools import tool
from tests.gateway.browser.hostile import HOSTILE
from tests.gateway.conftest import Stage, open_stage

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

STORIES = Path(__file__).with_name("stories.mjs")
INSTALLED = Path(sys.prefix) / "browser"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_S = 200
BLOCKED = "Content Security Policy"
WORDS = [f"w{number} " for number in range(150)]
MANY_WORDS = [f"w{number} " for number in range(600)]
"""Half a minute of them: longer than loading the page three times takes on a machine that is busy."""

Answering = Callable[[str], Awaitable[None]]


@pytest.fixture(scope="session")
def browser() -> tuple[Path, str]:
    """The folder in which playwright-core is installed, and the browser; skips with what is missing."""
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium)")
    if shutil.which("node") is None:
        pytest.skip("node is not installed (Debian: apt install nodejs npm)")
    if not (INSTALLED / "node_modules" / "playwright-core").is_dir():
        pytest.skip("playwright-core is not installed: make .venv/installed-browser")
    return INSTALLED, chromium


async def nothing_to_answer(_: str) -> None:
    """For stories that ask nothing."""


async def tell(
    browser: tuple[Path, str],
    story: str,
    page: str,
    answer: Answering = nothing_to_answer,
    *,
    blocked: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Run one story; returns what it saw. `answer` is called with what it asks, and it goes on afterwards.

    Nothing may be complained about in the console, but for what the page's policy has `blocked`, where that is the story.
    """
    folder, chromium = browser
    node = shutil.which("node")
    assert node is not None
    command = [node, str(STORIES), str(folder), chromium, story, page, json.dumps(options)]
    told: dict[str, Any] = {}
    problems = b""

    async def read_problems(process: trio.Process) -> None:
        nonlocal problems
        assert process.stderr is not None
        async for part in process.stderr:
            problems += part

    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            nursery.start_soon(read_problems, process)
            rest = b""
            async for part in process.stdout:
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    kind, _, what = line.decode().partition(" ")
                    if kind == "told":
                        told = json.loads(what)
                    elif kind == "ask":
                        await answer(what)
                        await process.stdin.send_all(b"done\n")
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            for stream in (process.stdin, process.stdout):
                await trio.aclose_forcefully(stream)
    assert process.returncode == 0, problems.decode()[-2_000:]
    errors = [error for error in told.pop("errors") if not blocked or BLOCKED not in error]
    assert errors == []
    return told


def paced(_: object) -> Answer:
    return Answer(WORDS, between_deltas_s=0.01)


async def test_what_is_typed_is_answered_word_by_word(browser: tuple[Path, str]) -> None:
    async with open_stage(paced, limit_s=PATIENCE_S) as stage:
        told = await tell(browser, "type_and_stream", stage.page)
    assert told["text"].strip() == "".join(WORDS).strip()
    assert told["steps"] > 3
    assert told["said"] == "Tell me"
    assert "Tell me" in told["title"]


async def test_an_answer_can_be_stopped_by_key_and_by_button(browser: tuple[Path, str]) -> None:
    def stalls(_: object) -> Answer:
        return Answer(WORDS, between_deltas_s=0.01, fault=Stall(after_deltas=30))

    async with open_stage(stalls, limit_s=PATIENCE_S) as stage:
        told = await tell(browser, "stop", stage.page)
        assert stage.bot.runtime.statistics().live_runs == 0
    assert told["first"].startswith("Stopped")
    assert told["second"].startswith("Stopped")


class Gated:
    """An answer whose last words wait to be let go."""

    def __init__(self) -> None:
        self.go = trio.Event()

    def tool_and_answers(self) -> tuple[Any, Callable[[Any], Answer]]:
        @tool
        async def wait() -> str:
            """Wait."""
            await self.go.wait()
            return "waited"

        def answer(request: Any) -> Answer:
            if type(request.messages[-1]).__name__ == "ToolMessage":
                return Answer("The end.")
            return Answer(MANY_WORDS, between_deltas_s=0.05, tool_calls=[("wait", {})])

        return wait, answer


async def test_a_page_that_is_reloaded_again_and_again_shows_every_word_once(
    browser: tuple[Path, str],
) -> None:
    gated = Gated()
    wait, answer = gated.tool_and_answers()

    async def finish(_: str) -> None:
        gated.go.set()

    async with open_stage(answer, tools=[wait], limit_s=PATIENCE_S) as stage:
        async with stage.client() as watching:
            told = await tell(browser, "reload", stage.page, finish)
            rows = await chats_of(watching)
            snapshot = stage.bot.sessions.get(f"websocket:{rows[0]['chat_id']}")
    assert told == {"text": "The end.", "turns": 1}
    assert snapshot is not None
    assert snapshot.messages[1]["content"] == "".join(MANY_WORDS)


async def chats_of(client: Any) -> list[dict[str, Any]]:
    await client.say({"type": "list_chats"})
    rows: list[dict[str, Any]] = (await client.until("chats"))["chats"]
    return rows


async def test_a_line_that_is_cut_again_and_again_loses_and_doubles_nothing(
    browser: tuple[Path, str],
) -> None:
    words = [f"w{number} " for number in range(400)]

    async with open_stage(
        lambda _: Answer(words, between_deltas_s=0.015), limit_s=PATIENCE_S
    ) as stage:

        async def cut(what: str) -> None:
            if what == "cut":
                for connection in list(stage.gateway._connections):
                    await trio.aclose_forcefully(connection._wire)

        told = await tell(browser, "cut_off", stage.page, cut)
    assert told["text"].strip() == "".join(words).strip()


async def test_twenty_chats_are_answered_at_once_each_in_its_place(
    browser: tuple[Path, str],
) -> None:
    all_asked, go = trio.Event(), trio.Event()
    asked: set[str] = set()

    async def answer(request: Any) -> str:
        said = str(request.messages[-1].content).splitlines()[0]
        asked.add(said)
        if len(asked) == 20:
            all_asked.set()
        await go.wait()
        return f"Answer to {said}."

    async def let_go(_: str) -> None:
        await (
            all_asked.wait()
        )  # a chat is shown as running before its turn has reached the model; none has ended
        go.set()

    async with open_stage(answer, limit_s=PATIENCE_S) as stage:
        told = await tell(browser, "many_chats", stage.page, let_go, count=20)
    said = [f"chat {number}" for number in range(20)]
    assert told["answers"] == {one: f"Answer to {one}." for one in said}


async def test_nothing_that_a_model_or_a_tool_says_is_run(browser: tuple[Path, str]) -> None:
    @tool
    async def fetch(payload: str) -> str:
        """Fetch."""
        return "\n".join(HOSTILE)

    def answer(request: Any) -> Answer:
        if type(request.messages[-1]).__name__ == "ToolMessage":
            return Answer("\n\n".join(HOSTILE))
        return Answer(
            "\n".join(HOSTILE),
            reasoning="\n".join(HOSTILE),
            tool_calls=[("fetch", {"payload": HOSTILE[0]})],
        )

    async with open_stage(answer, tools=[fetch], limit_s=PATIENCE_S) as stage:
        told = await tell(browser, "hostile", stage.page, blocked=True)
    assert told.pop("shown") == 2
    assert HOSTILE[0] in told.pop("result")  # as text
    assert told == {
        "ran": False,
        "forbidden": [],
        "svg": 0,
        "handlers": [],
        "links": [],
        "openers": 0,
        "images": [],
        "clobbered": False,
        "dialogs": 0,
        "elsewhere": [],
    }


async def test_a_call_can_be_allowed_and_is_shown_with_its_time(browser: tuple[Path, str]) -> None:
    @tool(approval="ask")
    async def launch(target: str) -> str:
        """Launch a rocket."""
        return f"launched to the {target}"

    answers = [Answer(tool_calls=[("launch", {"target": "moon"})]), "Done."]
    async with open_stage(answers, tools=[launch], limit_s=PATIENCE_S) as stage:
        told = await tell(browser, "approve", stage.page)
    assert "was allowed" in told["decided"]
    assert "launched to the moon" in told["tool"]
    assert told["elapsed"].endswith("s")


async def test_a_parked_turn_goes_on_after_the_page_was_loaded_anew(
    browser: tuple[Path, str],
) -> None:
    @tool(approval="ask")
    async def launch(target: str) -> str:
        """Launch a rocket."""
        return f"launched to the {target}"

    answers = [Answer(tool_calls=[("launch", {"target": "moon"})]), "We are off."]
    async with open_stage(
        answers, tools=[launch], limit_s=PATIENCE_S, approval_timeout_s=0.5, park=True
    ) as stage:
        told = await tell(browser, "park", stage.page)
    assert "Allow launch?" in told["waits"]
    assert "was allowed" in told["decided"]
    assert told["tools"] == ["launch"]
    assert told["said"].strip() == "We are off."
    assert told["turns"] == 2


MARKDOWN = """| left | right | middle |
|:-----|------:|:------:|
| a | b | c |

7. seventh

- [x] done
- [ ] open"""


async def test_columns_lists_and_tasks_are_shown_as_they_are_meant(
    browser: tuple[Path, str],
) -> None:
    async with open_stage(lambda _: MARKDOWN, limit_s=PATIENCE_S) as stage:
        told = await tell(browser, "markdown", stage.page)
    assert told["columns"] == ["left", "right", "center"]
    assert told["first"] == 7
    assert told["tasks"] == [["checkbox", True, True], ["checkbox", False, True]]


REPORT = """Three things changed since **yesterday**:

1. `retry_after_s` is honoured, also as an HTTP date.
2. A cancelled turn keeps what was said.

| Store | Appends/s | p99 |
|---|---:|---:|
| SQLite | 11,400 | 4 ms |
| PostgreSQL | 8,900 | 9 ms |

```python
async with Nanobot.from_config() as bot:
    print((await bot.run("hi")).content)
```

> More in the [changelog](https://example.org/changes)."""


async def test_axe_finds_nothing_wrong_with_any_view_in_any_scheme_and_size(
    browser: tuple[Path, str],
) -> None:
    @tool(approval="ask")
    async def read_log(path: str, lines: int) -> str:
        """Read the end of a log."""
        return "\n".join(f"12:00:0{n} worker {n} is ready" for n in range(lines))

    @tool
    async def broken(query: str) -> str:
        """Never work."""
        raise ToolError("the index is being rebuilt")

    answers = [
        Answer(
            "Let me look at the log first.",
            reasoning="The user wants to know what changed. The log should say.",
            tool_calls=[
                ("read_log", {"path": "logs/app.log", "lines": 4}),
                ("broken", {"query": "changes since yesterday"}),
            ],
        ),
        REPORT,
    ]
    pictures = os.environ.get("NANOBOT_PICTURES", "")
    async with open_stage(answers, tools=[read_log, broken], limit_s=PATIENCE_S) as stage:
        told = await tell(
            browser,
            "inspect",
            stage.page,
            question="What changed since yesterday?",
            png=base64.b64encode(picture(640, 420)).decode(),
            folder=pictures,
        )
    assert told["found"] == [], "\n".join(told["found"])


def picture(width: int, height: int) -> bytes:
    """A PNG of a slope from one colour to another, so that there is something to look at."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return len(content).to_bytes(4, "big") + kind + content + check.to_bytes(4, "big")

    rows = b"".join(
        b"\0"
        + b"".join(
            bytes((60 + x * 150 // width, 110, 90 + y * 120 // height)) for x in range(width)
        )
        for y in range(height)
    )
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + bytes((8, 2, 0, 0, 0)))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


async def test_files_are_attached_by_button_key_paste_and_drop_within_the_limits(
    browser: tuple[Path, str],
) -> None:
    requests: list[Any] = []

    def answer(request: Any) -> str:
        requests.append(request)
        return "Seen."

    png = picture(8, 6)
    async with open_stage(answer, limit_s=PATIENCE_S) as stage:
        told = await tell(browser, "attach", stage.page, png=base64.b64encode(png).decode())
        kept = uploads_of(stage)
    assert told["chosen"] == ["shot one.png", "notes.txt"]
    assert told["preview"] == "data:image/png;base64,"
    assert told["limits"] == "20 files, 10 MB each, 24 MB in all"
    assert told["focused"] == "Remove dropped.md"
    assert [one.partition("”")[0] for one in told["refusals"]] == ["“empty.txt", "“huge.bin"]
    assert told["kept"] == ["shot one.png", "notes.txt", "dropped.md", "a.bin", "b.bin"]
    assert told["shown"] == told["kept"]
    assert told["empty"] is True
    assert told["after"] == ["shot_one.png", *told["kept"][1:], "alone.txt"]
    assert kept["shot_one.png"] == png
    assert kept["notes.txt"] == b"from a file"
    assert any(isinstance(part, ImagePart) for part in requests[0].messages[-1].content)


async def test_what_the_server_refuses_comes_back_to_be_changed(browser: tuple[Path, str]) -> None:
    """By an error that names the message, and by the end of the connection, which names nothing."""
    back = {"text": "take this", "files": ["x.txt"], "turns": 0}
    async with open_stage(limit_s=PATIENCE_S) as stage:
        stage.gateway.media.keep = no_room  # type: ignore[method-assign]  # a disk that is full
        told = await tell(browser, "refused", stage.page, size=100)
        assert "no space" in told.pop("note")
        assert told == back
    async with open_stage(limit_s=PATIENCE_S, max_frame_chars=30_000) as stage:
        stage.gateway.settings = replace(
            stage.gateway.settings, max_frame_chars=300_000
        )  # a proxy takes less
        told = await tell(browser, "refused", stage.page, size=27_000)
        assert "size" in told.pop("note")
        assert told == back


def uploads_of(stage: Stage) -> dict[str, bytes]:
    """The files that came with messages, by the names that the clients gave them."""
    folder = Path(stage.bot.runtime.workspace, ".nanobot", "uploads")
    return {path.name[17:]: path.read_bytes() for path in folder.iterdir()}


def no_room(*_: object, **__: object) -> tuple[str, ...]:
    raise FrameError("unavailable", "there is no space left on the device")


async def test_keyboard_screen_reader_theme_phone_and_runtime(browser: tuple[Path, str]) -> None:
    async with open_stage(limit_s=PATIENCE_S) as stage:
        told = await tell(browser, "look_around", stage.page)
    assert told["unnamed"] == []
    assert {"new-chat", "search", "composer-text", "theme", "runtime-link"} <= {*told["reachable"]}
    assert told["runtime"] == {"path": "/runtime", "plots": 2}
    assert told["overflow"] <= 0
    assert told["back"] == "open-sidebar"


async def test_a_token_is_asked_for_and_remembered(browser: tuple[Path, str]) -> None:
    async with open_stage(token="canary.0123456789", limit_s=PATIENCE_S) as stage:
        told = await tell(browser, "token", stage.page, token="canary.0123456789")
    assert told["text"] == "Hello there."


async def test_a_server_that_is_killed_and_started_again_is_found_again(
    browser: tuple[Path, str], tmp_path: Path
) -> None:
    """What is said while it is down is sent when it is back, once."""
    with scripted_server(lambda request: f"{len(request.json['messages'])} messages") as model:
        server = _Server(tmp_path, model.base_url)
        page = await server.start()
        try:

            async def answer(what: str) -> None:
                await (server.kill() if what == "kill" else server.start())

            with trio.fail_after(PATIENCE_S):
                told = await tell(browser, "restart", page, answer)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                await server.kill()
    assert told["note"] == "Waiting for the connection"
    assert told["said"].count("two") == 1
    assert "messages" in told["answer"]


class _Server:
    """`nanobot gateway` as a process, on ports that stay the same."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self._folder = folder
        self._ports = [0, 0]
        self._config = {
            "agents": {"defaults": {"model": "scripted/m"}},
            "providers": {"scripted": {"apiKey": "k", "apiBase": base_url}},
        }
        self._process: subprocess.Popen[str] | None = None

    async def start(self) -> str:
        (self._folder / "config.json").write_text(json.dumps(self._config))
        command = [sys.executable, "-m", "nanobot", "gateway", "-c", "config.json", "-w", "work"]
        ports = ["--port", str(self._ports[0]), "--ws-port", str(self._ports[1])]
        self._process = await trio.to_thread.run_sync(
            lambda: subprocess.Popen(
                [*command, *ports], stdout=subprocess.PIPE, text=True, cwd=self._folder
            )
        )
        assert self._process.stdout is not None
        lines = [await trio.to_thread.run_sync(self._process.stdout.readline) for _ in range(2)]
        self._ports = [int(line.rstrip("/\n").rsplit(":", 1)[1]) for line in lines]
        return lines[0].split()[1]

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await trio.to_thread.run_sync(self._process.wait)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None
