"""Model servers that others wrote, started for a test: llama.cpp's, and aimock's imitations of the vendors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from nanobot.providers import Endpoint
from nanobot.providers.local import INSTALL_COMMAND, missing_wheels
from nanobot.providers.local._child import start_child
from nanobot.providers.local._server_process import ServerSettings
from nanobot.providers.local._wheels import embedded_model_path, server_import_path
from nanobot.testing import no_leaks

__all__ = ["aimock", "llama_server", "needs_aimock", "needs_llama"]

_START_WITHIN_S: Final = 30.0

_AIMOCK: Final = Path("node_modules/@copilotkit/aimock/dist/cli.js")
_PREFIXES: Final = (Path(sys.prefix), Path(__file__).parents[2])
_NODE: Final = shutil.which("node")
_AIMOCK_PROGRAM: Final = next((p / _AIMOCK for p in _PREFIXES if (p / _AIMOCK).is_file()), None)

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
            name="aimock", base_url=f"{await _address(process)}/v1", api_key="test-key-123"
        )
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            assert process.stdout is not None
            await process.stdout.aclose()
            await process.wait()


async def _address(process: trio.Process) -> str:
    assert process.stdout is not None
    log = b""
    with trio.fail_after(_START_WITHIN_S):
        while b"listening on " not in log or not log.endswith(b"\n"):
            received = await process.stdout.receive_some()
            assert received, f"aimock ended instead of listening: {log.decode()}"
            log += received
    return log.partition(b"listening on ")[2].split()[0].decode()
