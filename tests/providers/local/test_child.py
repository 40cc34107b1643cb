"""One server process, from its start to its end, with a stand-in for the server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from nanobot.providers.local import _server_process
from nanobot.providers.local._child import ServerChild, StartFailed, start_child
from nanobot.providers.local._server_process import ServerSettings, threads_for
from nanobot.testing import no_leaks


class Model(Protocol):
    def __call__(self, **script: object) -> Path: ...


def settings(model: Path) -> ServerSettings:
    return ServerSettings(
        model="small",
        model_path=str(model),
        context_window_tokens=1024,
        parallel=1,
        import_path=str(model.parent / "site-packages"),
    )


@asynccontextmanager
async def child_of(model: Path, start_timeout_s: float = 30.0) -> AsyncIterator[ServerChild]:
    child = await start_child(settings(model), start_timeout_s=start_timeout_s)
    try:
        yield child
    finally:
        await child.aclose()


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


async def test_it_tells_its_address_and_serves_those_who_have_its_key(
    scripted_model: Model,
) -> None:
    async with no_leaks(), child_of(scripted_model()) as child:
        address = await child.address()
        assert address.url.startswith("http://127.0.0.1:")
        assert len(address.api_key) >= 32
        assert address.api_key not in repr(address)
        body = {"messages": [{"role": "user", "content": "hi"}]}
        url = f"{address.url}/v1/chat/completions"
        async with httpx.AsyncClient(trust_env=False) as client:
            refused = await client.post(url, json=body)
            key = {"authorization": f"Bearer {address.api_key}"}
            accepted = await client.post(url, json=body, headers=key)
        assert (refused.status_code, accepted.status_code) == (401, 200)


async def test_each_child_has_a_key_of_its_own(scripted_model: Model) -> None:
    async with child_of(scripted_model()) as one, child_of(scripted_model()) as other:
        assert (await one.address()).api_key != (await other.address()).api_key


@linux_only
async def test_the_key_is_neither_in_the_arguments_nor_in_the_environment(
    scripted_model: Model,
) -> None:
    async with child_of(scripted_model()) as child:
        key = (await child.address()).api_key.encode()
        shown = trio.Path(f"/proc/{child.pid}")
        assert key not in await (shown / "cmdline").read_bytes()
        assert key not in await (shown / "environ").read_bytes()


async def test_what_native_code_prints_is_not_taken_for_the_address(scripted_model: Model) -> None:
    noise = '{"url": "http://elsewhere", "api_key": "none"}\n'
    async with child_of(scripted_model(prints=noise)) as child:
        assert (await child.address()).url.startswith("http://127.0.0.1:")
        assert child.log_tail() == noise.strip()


async def test_a_cancelled_wait_is_continued_by_the_next(
    scripted_model: Model, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    async with child_of(scripted_model(waits_for=str(go))) as child:
        for _ in range(3):
            with trio.move_on_after(0.01) as scope:
                await child.address()
            assert scope.cancelled_caught
        go.touch()
        assert await child.address() == await child.address()


async def test_a_start_that_fails_says_how_it_ended_and_what_it_logged(
    scripted_model: Model,
) -> None:
    model = scripted_model(logs="0.00.003.550 E cause\n\n  consequence\n", raises="no model")
    async with child_of(model) as child:
        with pytest.raises(StartFailed, match=r"^it exited with status 1$") as caught:
            await child.address()
    assert caught.value.log_tail == "cause\nconsequence\nRuntimeError: no model"


async def test_a_start_that_crashes_names_the_signal(scripted_model: Model) -> None:
    async with child_of(scripted_model(signal=signal.SIGILL)) as child:
        with pytest.raises(StartFailed, match=r"^it was ended by SIGILL$"):
            await child.address()


async def test_a_server_that_cannot_be_imported_is_explained_in_one_line(
    scripted_model: Model, wheels: Path
) -> None:
    package = wheels / "xllamacpp" / "__init__.py"
    package.write_text("raise ImportError('libgomp.so.1: cannot open shared object file')")
    async with child_of(scripted_model()) as child:
        with pytest.raises(StartFailed) as caught:
            await child.address()
    assert caught.value.log_tail == (
        "xllamacpp cannot be loaded: libgomp.so.1: cannot open shared object file"
    )


async def test_of_a_long_log_the_end_is_shown(scripted_model: Model) -> None:
    model = scripted_model(logs="early\n" * 5000 + "late\n", raises="no")
    async with child_of(model) as child:
        with pytest.raises(StartFailed) as caught:
            await child.address()
    assert len(caught.value.log_tail) <= 1000
    assert caught.value.log_tail.endswith("late\nRuntimeError: no")


async def test_a_start_that_takes_too_long_fails(scripted_model: Model) -> None:
    async with no_leaks(), child_of(scripted_model(stuck_s=60), start_timeout_s=0.2) as child:
        with pytest.raises(StartFailed, match=r"^it gave no address within 0\.2 s$"):
            await child.address()


EMBEDDED = """
import sys
sys.executable = ""  # as where Python is a part of another program

import trio
from nanobot.providers.local._child import StartFailed, start_child
from nanobot.providers.local._server_process import ServerSettings

async def main():
    try:
        await start_child(ServerSettings("m", "m.gguf", 1024, 1, "."), start_timeout_s=1)
    except StartFailed as exc:
        print(exc)

trio.run(main)
"""


def test_without_an_interpreter_the_start_fails_with_the_reason() -> None:
    done = subprocess.run([sys.executable, "-c", EMBEDDED], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.startswith("there is no Python to run it with")


async def test_a_start_that_is_cancelled_leaves_nothing(scripted_model: Model) -> None:
    async with no_leaks():
        with trio.CancelScope() as scope:
            scope.cancel()
            await start_child(settings(scripted_model()), start_timeout_s=1)
        assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("script", "ending"),
    [
        ({}, "exited with status 0"),
        ({"stuck_s": 60}, "ended by SIGTERM"),
        ({"stuck_s": 60, "ignores_sigterm": True}, "ended by SIGKILL"),
        ({"raises": "no"}, "exited with status 1"),
    ],
    ids=["serving", "starting", "starting, deaf to SIGTERM", "failed"],
)
async def test_closing_ends_the_process_by_the_mildest_means_that_works(
    script: dict[str, object], ending: str, scripted_model: Model
) -> None:
    async with no_leaks():
        model = scripted_model(logs="here I am", **script)
        child = await start_child(settings(model), start_timeout_s=30)
        while "here I am" not in child.log_tail():  # noqa: ASYNC110 - it is another process
            await trio.sleep(0.01)
        if script in ({}, {"raises": "no"}):
            with suppress(StartFailed):
                await child.address()
        with trio.CancelScope() as scope:
            scope.cancel()
            await child.aclose()  # also when cancelled
        assert not child.running
        assert ending in child.ending()
        await child.aclose()


@linux_only
async def test_the_log_does_not_grow_without_bound(scripted_model: Model) -> None:
    async with child_of(scripted_model(log_forever=True)) as child:
        await child.address()
        log = trio.Path(f"/proc/{child.pid}/fd/2")
        sizes: list[int] = []
        with trio.fail_after(30):  # it is written at 5 MB/s and looked after every second
            while len(sizes) < 2 or sizes[-1] >= sizes[-2]:
                sizes.append((await log.stat()).st_size)
                await trio.sleep(0.05)
        assert "the same complaint again" in child.log_tail()


PARENT = """
import os, subprocess, sys, time

child = subprocess.Popen(
    [sys.executable, *sys.argv[2:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
)
child.stdout.readline()
if sys.argv[1] == "forked" and not os.fork():
    print(os.getpid(), child.pid, flush=True)  # a copy that holds the pipes open
    time.sleep(60)
if sys.argv[1] == "alone":
    print(child.pid, flush=True)
time.sleep(60)
"""


@linux_only
@pytest.mark.parametrize("parent", ["alone", "forked"])
def test_it_is_gone_two_seconds_after_its_parent_was_killed(
    parent: str, scripted_model: Model, is_alive: Callable[[int], bool]
) -> None:
    arguments = ["-P", _server_process.__file__, json.dumps(settings(scripted_model())._asdict())]
    command = [sys.executable, "-c", PARENT, parent, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        *copies, child = map(int, killed.stdout.readline().split())
        assert is_alive(child)
        killed.kill()
        killed.wait()
        deadline = time.monotonic() + 2
        try:
            while is_alive(child):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            for copy in copies:
                os.kill(copy, signal.SIGKILL)


@given(st.integers(min_value=1, max_value=512))
def test_threads_leave_a_core_to_the_caller_where_there_are_two(cores: int) -> None:
    one_token, many_tokens = threads_for(cores)
    assert 1 <= one_token <= many_tokens
    assert many_tokens < cores or cores == 1
