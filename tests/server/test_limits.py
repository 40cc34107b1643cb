"""Sizes at their limits, to the byte."""

from __future__ import annotations

import base64

import pytest

from nanobot.server._api_error import ApiError
from nanobot.server._data_url import attachment_from_data
from nanobot.server._limits import MAX_FILE_BYTES


def encoded(size: int) -> str:
    return f"data:text/plain;base64,{base64.b64encode(bytes(size)).decode()}"


def test_a_file_may_have_its_limit_and_not_a_byte_more() -> None:
    taken = attachment_from_data(encoded(MAX_FILE_BYTES), name="a", param="p")
    assert len(taken.content) == MAX_FILE_BYTES
    for more in (1, 2, 3, 4, 1_000):
        with pytest.raises(ApiError) as refused:
            attachment_from_data(encoded(MAX_FILE_BYTES + more), name="a", param="p")
        assert (refused.value.status, refused.value.code) == (413, "file_too_large")
