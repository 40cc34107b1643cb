"""`nanobot serve` refuses to start when that would be wrong, in one line that says what to do."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from nanobot.cli import main
from tests.server.servers import make_bot


def serve(folder: Path, *options: str) -> tuple[int, str]:
    make_bot(folder)
    config = str(folder / "config.json")
    answer = CliRunner().invoke(main, ["serve", "-c", config, "-w", str(folder / "w"), *options])
    return answer.exit_code, answer.output


def test_a_reachable_address_without_a_key_is_refused(tmp_path: Path) -> None:
    code, said = serve(tmp_path, "-H", "0.0.0.0")
    assert code == 1
    assert "api.apiKey" in said


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = serve(tmp_path, "-p", str(port))
    assert code == 1
    assert f"127.0.0.1:{port}" in said


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    answer = CliRunner().invoke(main, ["serve", "-c", str(tmp_path / "no.json")])
    assert answer.exit_code == 1
    assert "no.json" in answer.output


def test_a_missing_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ("nanobot.server", "nanobot._http_connections")
    for name in [name for name in sys.modules if name.startswith(ours)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("nanobot.server", raising=False)
    monkeypatch.setitem(sys.modules, "hypercorn", None)
    monkeypatch.setitem(sys.modules, "hypercorn.config", None)
    code, said = serve(tmp_path)
    assert code == 1
    assert "pip install 'nanobot-ai[server]'" in said
    assert len(said.splitlines()) == 2


def test_the_command_line_goes_before_the_configuration(tmp_path: Path) -> None:
    make_bot(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["api"] = {"host": "0.0.0.0", "apiKey": ""}
    path.write_text(json.dumps(config))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = ["-c", str(path), "-w", str(tmp_path / "w"), "-H", "127.0.0.1", "-p", port]
        answer = CliRunner().invoke(main, ["serve", *options])
    assert f"127.0.0.1:{port}" in answer.output
