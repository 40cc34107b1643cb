"""Tokens are estimated without a network, upwards rather than down, and corrected by what providers report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.context import (
    Calibration,
    estimate_text,
    exact_counter,
    message_tokens,
    messages_tokens,
    tool_tokens,
)
from nanobot.messages import (
    AssistantMessage,
    FilePart,
    ImagePart,
    SystemMessage,
    TextPart,
    ThinkingBlock,
    ToolCall,
    ToolMessage,
    ToolSpec,
    UserMessage,
)

# Tokens as OpenAI's o200k_base counts them.
SAMPLES = {
    "English": (
        "The quick brown fox jumps over the lazy dog, and then it takes a long nap in the sun.",
        21,
    ),
    "Python": (
        "def total(values: list[int]) -> int:\n    return sum(value for value in values)\n",
        19,
    ),
    "Chinese": ("今天东京的天气怎么样？请告诉我现在的时间和日期。", 15),  # noqa: RUF001 - as it is written
    "Japanese": ("東京の今の時刻を教えてください。明日の天気はどうですか。", 20),
    "Russian": ("Какая сегодня погода в Токио? Скажи мне время и дату.", 18),
    "Arabic": ("ما هو الوقت الآن في طوكيو؟ وكيف الطقس؟", 13),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_an_estimate_is_not_below_the_truth_by_much_nor_twice_as_high(name: str) -> None:
    text, tokens = SAMPLES[name]
    assert 0.9 * tokens <= estimate_text(text) <= 2 * tokens


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_are_what_the_encoder_says(name: str) -> None:
    count = exact_counter()
    if count is None:
        pytest.skip("the tokens extra is not installed")
    text, tokens = SAMPLES[name]
    assert count(text) == tokens
    assert count(text) == tokens


def test_the_exact_counter_takes_any_text() -> None:
    count = exact_counter()
    if count is None:
        pytest.skip("the tokens extra is not installed")
    assert count("") == 0
    assert count("\ud800") > 0
    assert count("<|endoftext|>") > 1
    assert 240_000 < count("hello world " * 120_000) < 260_000


@given(st.text())
def test_any_text_has_an_estimate_and_more_text_has_more(text: str) -> None:
    assert estimate_text(text) >= (1 if text else 0)
    assert estimate_text(text + "more words") > estimate_text(text)


def test_every_part_of_a_message_is_counted() -> None:
    plain = message_tokens(AssistantMessage("hello"))
    call = ToolCall("c", "read_file", '{"path": "a.txt"}')
    assert message_tokens(AssistantMessage("hello", (call,))) > plain + 10
    assert message_tokens(AssistantMessage("hello", reasoning="because " * 10)) > plain + 10
    block = ThinkingBlock("thinking", "because " * 10, "s" * 100, {"data": "x" * 100})
    assert message_tokens(AssistantMessage("hello", thinking=(block,))) > plain + 50
    assert message_tokens(SystemMessage("hello")) == message_tokens(UserMessage("hello")) == plain
    image = message_tokens(
        UserMessage((ImagePart("/a.png"), TextPart("hello"), FilePart("/b.pdf")))
    )
    assert image > plain + 500
    assert messages_tokens([UserMessage("hello"), ToolMessage("c", "f", "hello")]) > 2 * plain


def test_a_tool_costs_its_words_and_its_schema() -> None:
    small = ToolSpec("f", "", {})
    large = ToolSpec(
        "read_file", "Read a file. " * 10, {"type": "object", "properties": {"path": {}}}
    )
    assert tool_tokens([]) == 0
    assert tool_tokens([small, large]) == tool_tokens([small]) + tool_tokens([large])
    assert tool_tokens([large]) > tool_tokens([small]) + 40


def test_a_calibration_learns_from_reports_and_follows_a_change() -> None:
    calibration = Calibration()
    assert calibration.applied(1_000) == 1_000
    calibration = calibration.updated(estimated=1_000, reported=1_300)
    assert calibration.applied(1_000) == 1_300
    for _ in range(30):
        calibration = calibration.updated(estimated=1_000, reported=800)
    assert 795 <= calibration.applied(1_000) <= 810


@pytest.mark.parametrize(
    ("estimated", "reported"),
    [(0, 10), (10, 30), (1_000, 0), (1_000, -5), (1_000, 9_000), (1_000, 100)],
)
def test_a_report_that_can_only_be_wrong_teaches_nothing(estimated: int, reported: int) -> None:
    assert Calibration().updated(estimated=estimated, reported=reported) == Calibration()


@given(st.lists(st.tuples(st.integers(-10, 10_000), st.integers(-10, 100_000))))
def test_no_series_of_reports_makes_a_calibration_absurd(reports: list[tuple[int, int]]) -> None:
    calibration = Calibration()
    for estimated, reported in reports:
        calibration = calibration.updated(estimated=estimated, reported=reported)
        assert 0.25 <= calibration.ratio <= 4
