"""docs/providers.md says what the catalog says, and what can be pasted from it works."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nanobot.config import config_from_tree
from nanobot.providers._catalog import CATALOG, Kind, ProviderEntry
from nanobot.providers._endpoint import Timeouts
from nanobot.providers._select import select_model

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text("utf-8")
RECIPES = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
ENVIRONMENT = {
    "ANTHROPIC_API_KEY": "sk-ant",
    "OPENAI_API_KEY": "sk-openai",
    "AZURE_OPENAI_API_KEY": "azure",
}


def rows_of(heading: str) -> dict[str, list[str]]:
    """The table under a heading: cells by the name in the first one."""
    _, _, section = PAGE.partition(f"\n## {heading}\n")
    section = section.partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows}


def base_of(entry: ProviderEntry) -> str:
    return f"`{entry.base_url}`" if entry.base_url else f"yours, ending in `{entry.api_path}`"


def keys_of(entry: ProviderEntry) -> str:
    star = " *" if entry.env_keys and not (entry.env_configures or entry.local) else ""
    return (", ".join(f"`{key}`" for key in entry.env_keys) or "–") + star


def test_the_services_are_those_of_the_catalog() -> None:
    formats: dict[Kind, str] = {"openai_chat": "chat", "anthropic": "messages"}
    assert rows_of("Services") == {
        entry.name: [
            entry.label,
            formats[entry.kind],
            base_of(entry),
            keys_of(entry),
            f"`{entry.default_model}`" if entry.default_model else "–",
        ]
        for entry in CATALOG.values()
        if not entry.local and entry.kind != "local"
    }


def test_the_servers_are_those_of_the_catalog() -> None:
    assert rows_of("Servers on your own machine") == {
        entry.name: [entry.label, base_of(entry), keys_of(entry)]
        for entry in CATALOG.values()
        if entry.local
    }


def test_the_variables_for_addresses_are_those_of_the_catalog() -> None:
    said = set(re.findall(r"`(\w+_(?:BASE_URL|ENDPOINT))`", PAGE))
    assert said == {base for entry in CATALOG.values() for base in entry.env_bases}


def test_the_timeouts_are_the_usual_ones() -> None:
    said = dict(re.findall(r"`(\w+S)` \((\d+)", PAGE))
    usual = Timeouts()
    assert {name: float(number) for name, number in said.items()} == {
        "connectS": usual.connect_s,
        "firstTokenS": usual.first_token_s,
        "betweenTokensS": usual.between_tokens_s,
        "requestS": usual.request_s,
    }


CHOSEN: list[tuple[str, Kind, str, str]] = [
    ("anthropic", "anthropic", "claude-opus-4-5", "https://api.anthropic.com/v1"),
    ("groq", "openai_chat", "openai/gpt-oss-120b", "https://api.groq.com/openai/v1"),
    ("openai", "openai_responses", "gpt-5", "https://api.openai.com/v1"),
    ("azure_openai", "openai_chat", "my-deployment", "https://my-resource.openai.azure.com/openai/v1"),
    ("ollama", "openai_chat", "qwen3", "http://localhost:11434/v1"),
    ("acme", "openai_chat", "their-model", "https://llm.acme.example/v1"),
    ("anthropic", "anthropic", "their-model", "https://llm.acme.example/v1"),
    ("openai", "openai_responses", "gpt-5", "https://api.openai.com/v1"),
]  # fmt: skip


def test_every_recipe_is_tried() -> None:
    assert len(RECIPES) == len(CHOSEN)


@pytest.mark.parametrize(("at", "chosen"), list(enumerate(CHOSEN)))
def test_a_recipe_that_is_pasted_selects_what_the_page_says(
    at: int, chosen: tuple[str, Kind, str, str]
) -> None:
    # What stands for the rest of a key on the page is no part of any.
    tree: dict[str, Any] = json.loads(RECIPES[at].replace("…", "123"))
    config = config_from_tree(tree, path=Path("/home/me/.nanobot/config.json"), env=ENVIRONMENT)
    selection = select_model(config, env=ENVIRONMENT)
    assert (
        selection.provider_name,
        selection.kind,
        selection.model,
        selection.endpoint.base_url,
    ) == chosen
    assert selection.endpoint.api_key or selection.provider_name == "ollama"
    if at == len(CHOSEN) - 1:
        assert selection.endpoint.timeouts == Timeouts(first_token_s=600.0)
        assert selection.endpoint.extra_body == {"reasoning": {"summary": None}}
