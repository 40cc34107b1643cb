"""What a request has room for, by the tokens that the model counts and not by those that we do."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from nanobot import Nanobot
from nanobot.context import Calibration, history_budget
from nanobot.runtime._history_room import HistoryRoom
from nanobot.testing import ScriptedProvider


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_window_and_answer_are_both_told_in_the_tokens_that_we_count(
    tmp_path: Path, ratio: float
) -> None:
    config = {
        "agents": {"defaults": {"model": "scripted/m"}},
        "providers": {"scripted": {"apiBase": "http://127.0.0.1:9"}},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    provider = ScriptedProvider([])
    bot = Nanobot.from_config(
        tmp_path / "config.json", workspace=tmp_path / "ws", provider=provider
    )
    room = HistoryRoom.of(
        msgspec.structs.replace(bot._selection, context_window_tokens=20_000, max_tokens=6_000),
        ratio=0.5,
        fixed_tokens=1_000,
        calibration=Calibration(ratio, 1),
    )
    window, answer = int(20_000 / ratio), int(6_000 / ratio)
    assert room.budget == history_budget(window, answer, fixed_tokens=1_000)
