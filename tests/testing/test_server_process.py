"""The scripted server as a process: its command line, its canned answers, its end, and many connections at once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from nanobot.messages import ToolCall
from nanobot.testing import Answer, RecordedRequest
from nanobot.testing._canned import CANNED, canned_answers
from nanobot.testing.server import main

COMMAND = [sys.executable, "-m", "nanobot.testing.server"]


@contextmanager
def server_process(
    *options: str, command: Sequence[str] = COMMAND, **pipes: Any
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its base URL; ended with the block."""
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, text=True, **pipes
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            yield process, url
        finally:
            process.kill()


def ask(url: str, model: str = "m", **more: Any) -> httpx.Response:
    messages = more.pop("messages", [{"role": "user", "content": "Hi there"}])
    asked = {"model": model, "messages": messages} | more
    return httpx.post(f"{url}/chat/completions", json=asked, timeout=30)


def test_the_process_says_where_it_is_and_answers_what_it_was_told() -> None:
    with server_process(
        "--answer", "Two files.", "--tool", "list_dir", "--tool-arguments", "{"
    ) as (_, url):
        first = ask(url).json()["choices"][0]
        second = ask(url, messages=[{"role": "tool", "content": "a b"}]).json()["choices"][0]
        counts = httpx.get(f"{url.removesuffix('/v1')}/statistics").json()
    assert first["message"]["tool_calls"][0]["function"] == {"name": "list_dir", "arguments": "{"}
    assert second["message"]["content"] == "Two files."
    assert counts["requests"] == 2


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT], ids=lambda ending: ending.name)
def test_a_signal_ends_the_process_properly(ending: signal.Signals) -> None:
    with server_process() as (process, url):
        assert ask(url).status_code == 200
        process.send_signal(ending)
        assert process.wait(10) == 0


def test_the_process_can_end_with_its_standard_input() -> None:
    with server_process("--until-stdin-closes", stdin=subprocess.PIPE) as (process, url):
        assert ask(url).status_code == 200
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def test_a_signal_ends_the_process_also_while_it_watches_its_standard_input() -> None:
    with server_process("--until-stdin-closes", stdin=subprocess.PIPE) as (process, _):
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_the_process_allows_itself_as_many_files_as_it_may_have() -> None:
    import resource  # deferred: Windows has no such module

    code = (
        "import resource, runpy; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard)); "
        "runpy.run_module('nanobot.testing.server', run_name='__main__')"
    )
    with server_process(command=[sys.executable, "-c", code]) as (process, _):
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard


def test_an_answer_is_split_into_as_many_deltas_as_are_wanted() -> None:
    with server_process("--answer", "Hello", "--deltas", "12", "--reasoning", "Hm") as (_, url):
        text = ask(url, stream=True).text
    events = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]
    deltas = [event["choices"][0]["delta"] for event in events]
    contents = [delta["content"] for delta in deltas if delta.get("content")]
    assert len(contents) == 12
    assert "".join(contents) == "HelloHelloHello"
    assert [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta] == [
        "Hm"
    ]


def test_delays_are_in_milliseconds() -> None:
    options = ["--head-delay-ms", "20", "--delay-ms", "30", "--between-ms", "50", "--deltas", "2"]
    with server_process(*options) as (_, url):
        assert ask(url, stream=True).elapsed.total_seconds() >= 0.1


def test_connections_can_be_refused_after_so_many() -> None:
    with server_process("--refuse-after", "1") as (_, url):
        assert ask(url).status_code == 200
        with pytest.raises(httpx.ConnectError):
            ask(url)


@pytest.mark.parametrize(
    "options",
    [["--deltas", "0"], ["--deltas", "3", "--answer", ""], ["--delay-ms", "-1"], ["--nonsense"]],
    ids=str,
)
def test_a_wrong_option_is_named(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(options)
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_the_help_lists_the_models_that_make_trouble(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(name in "".join(shown.split()) for name in CANNED)


def request_for(model: str, last_role: str = "user", text: str = "Hi") -> RecordedRequest:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()
    return RecordedRequest(
        number=1,
        connection=1,
        path="/v1/chat/completions",
        headers={},
        body=body,
        model=model,
        stream=True,
        last_role=last_role,
        arrived_at=0.0,
    )


@pytest.mark.parametrize("model", CANNED)
def test_a_model_that_makes_trouble_does_so_whatever_is_configured(model: str) -> None:
    script = canned_answers(Answer("fine"), tool=ToolCall("", "f"))
    assert script(request_for(model)) is CANNED[model]


def test_other_models_echo_refuse_or_do_as_configured() -> None:
    script = canned_answers(Answer("fine", before_head_s=1), tool=ToolCall("", "f"))
    assert script(request_for("echo", text="say this")) == Answer("say this")
    refused = script(request_for("status-429-retry-30"))
    assert (getattr(refused, "status", 0), getattr(refused, "headers", {})) == (
        429,
        {"retry-after": "30"},
    )
    assert getattr(script(request_for("status-500")), "headers", None) == {}
    called = script(request_for("gpt"))
    assert called == Answer(tool_calls=[ToolCall("", "f")], before_head_s=1)
    assert script(request_for("gpt")) is called
    assert script(request_for("gpt", last_role="tool")) == Answer("fine", before_head_s=1)


@pytest.mark.parametrize("model", ["cut", "reset", "garbage", "empty-response"])
def test_trouble_comes_over_the_wire_too(model: str) -> None:
    with server_process() as (_, url):
        with pytest.raises(httpx.TransportError):
            ask(url, model, stream=True)


CLIENT_OF_MANY = """
import resource, socket, sys
import trio

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
body = b'{"model": "m", "messages": [], "stream": true}'
request = b"POST /v1/chat/completions HTTP/1.1\\r\\nhost: t\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body)

async def ask():
    async with await trio.open_tcp_stream(host, port) as stream:
        await stream.send_all(request + body)
        received = b""
        while not received.endswith(b"0\\r\\n\\r\\n"):
            more = await stream.receive_some()
            assert more
            received += more

async def main():
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(ask)

trio.run(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of open files to raise")
@pytest.mark.slow
def test_ten_thousand_connections_are_served_at_once() -> None:
    import resource  # deferred: Windows has no such module

    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 10_200:
        pytest.skip("this machine allows fewer open files")
    with server_process("--delay-ms", "10000") as (_, url):
        address = url.removeprefix("http://").removesuffix("/v1").split(":")
        client = [sys.executable, "-c", CLIENT_OF_MANY, *address, "10000"]
        assert subprocess.run(client, check=False).returncode == 0
        counts = httpx.get(f"{url.removesuffix('/v1')}/statistics").json()
    assert (counts["requests"], counts["peak_connections"], counts["hang_ups"]) == (
        10_000,
        10_000,
        0,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_a_server_that_is_out_of_files_goes_on_when_some_are_free_again() -> None:
    import resource  # deferred: Windows has no such module

    with server_process() as (process, url):
        used = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used + 2, used + 2))
        limits = httpx.Limits(max_keepalive_connections=1)
        with (
            httpx.Client(limits=limits) as first,
            httpx.Client() as second,
            httpx.Client() as third,
        ):
            health = f"{url.removesuffix('/v1')}/health"
            assert first.get(health).status_code == second.get(health).status_code == 200
            with pytest.raises(httpx.ReadTimeout):
                third.get(health, timeout=0.3)
            first.close()
            assert third.get(health, timeout=30).status_code == 200
