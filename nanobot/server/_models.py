"""`GET /v1/models`: the one model that answers. Pure.

Source: https://platform.openai.com/docs/api-reference/models
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["Model", "ModelList"]


class Model(Struct, frozen=True):
    """A model that requests may name."""

    id: str
    created: int
    object: Literal["model"] = "model"
    owned_by: str = "nanobot"


class ModelList(Struct, frozen=True):
    """All of them."""

    data: tuple[Model, ...]
    object: Literal["list"] = "list"
