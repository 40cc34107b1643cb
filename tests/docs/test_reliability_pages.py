"""docs/reliability.md and docs/provider-cookbook.md: programs print what is shown, recipes load and select."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nanobot.config import config_from_tree
from nanobot.providers import RetryPolicy
from nanobot.providers._catalog import CATALOG
from nanobot.providers._retry import PATIENT
from nanobot.providers._select import select_model
from tests.docs.programs import output_of

DOCS = Path(__file__).parents[2] / "docs"
RELIABILITY = (DOCS / "reliability.md").read_text("utf-8")
COOKBOOK = (DOCS / "provider-cookbook.md").read_text("utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", RELIABILITY, re.DOTALL)
CONFIGS = re.findall(r"```json\n(.*?)```", RELIABILITY, re.DOTALL)
RECIPES = dict(re.findall(r"### (.+?)\n\n```json\n(.*?)```", COOKBOOK, re.DOTALL))
ENVIRONMENT = {key: f"key-of-{key}" for entry in CATALOG.values() for key in entry.env_keys}


@pytest.mark.parametrize(
    ("program", "printed"), PROGRAMS, ids=[f"program {n}" for n, _ in enumerate(PROGRAMS, 1)]
)
def test_a_program_prints_what_the_page_shows(program: str, printed: str, docs_home: Path) -> None:
    assert output_of(program, docs_home) == printed


@pytest.mark.parametrize("text", CONFIGS, ids=[f"config {n}" for n, _ in enumerate(CONFIGS, 1)])
def test_a_configuration_can_be_pasted(text: str) -> None:
    config = config_from_tree(json.loads(text), path=None, env=ENVIRONMENT)
    assert config.unknown_keys == ()
    selection = select_model(config, env=ENVIRONMENT)
    assert len(selection.fallbacks) == len(config.agents.defaults.fallback_models)


def test_the_page_names_the_retry_policies_that_there_are() -> None:
    (retry,) = [json.loads(text)["agents"]["defaults"].get("retry") for text in CONFIGS[:1]]
    usual = RetryPolicy()
    assert retry == {
        "maxAttempts": usual.max_attempts,
        "maxRefusals": usual.max_refusals,
        "totalS": usual.total_s,
        "firstDelayS": usual.first_delay_s,
        "maxDelayS": usual.max_delay_s,
    }
    assert (
        PATIENT.max_attempts,
        PATIENT.max_refusals,
        PATIENT.total_s,
        PATIENT.first_delay_s,
        PATIENT.max_delay_s,
    ) == (12, 120, 3600, 1, 60)


def test_there_is_a_recipe_for_each_provider_of_the_catalog() -> None:
    assert list(RECIPES) == [
        entry.label
        for entry in sorted(CATALOG.values(), key=lambda one: one.local or one.kind == "local")
    ]


@pytest.mark.parametrize("entry", CATALOG.values(), ids=CATALOG)
def test_a_recipe_loads_and_selects_its_provider(entry: Any) -> None:
    tree = json.loads(RECIPES[entry.label])
    only = {key: ENVIRONMENT[key] for key in entry.env_keys[:1]}
    config = config_from_tree(tree, path=None, env=only)
    assert config.unknown_keys == ()
    selection = select_model(config, env={})  # the key is the one that the recipe refers to
    assert selection.provider_name == entry.name
    assert selection.endpoint.api_key == (only[entry.env_keys[0]] if entry.needs_key else "")
