"""What the page on scaling out shows is accepted by what it is for."""

from __future__ import annotations

import json
import re
from pathlib import Path

from nanobot.config import config_from_tree

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()


def test_the_configuration_of_the_page_is_one() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    config = config_from_tree(json.loads(block), path=None, env={"NANOBOT_DB_PASSWORD": "secret"})
    assert config.sessions.store == "postgres"
    assert config.sessions.url == "postgresql://nanobot:secret@db.internal:5432/nanobot"


def test_every_test_and_benchmark_that_the_page_cites_is_there() -> None:
    cited = set(re.findall(r"`((?:tests|benchmarks)/[a-z_/]+\.py)", PAGE))
    assert len(cited) >= 3
    for name in cited:
        assert (Path(__file__).parents[2] / name).is_file(), name
