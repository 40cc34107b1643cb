"""Reasoning items find their way back to where they were, and nothing of an answer is lost by them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nanobot.messages import AssistantMessage, ThinkingBlock, ToolCall
from nanobot.providers._reasoning_items import (
    AnswerPiece,
    Place,
    answer_pieces,
    is_ours,
    stored_item,
)


def test_an_item_is_stored_with_its_provider_and_its_place() -> None:
    item = stored_item("k", "text", "sig", provider="acme", place=Place(3, 1), id="rs")
    assert item == ThinkingBlock(
        "k", "text", "sig", {"id": "rs", "provider": "acme", "text_before": 3, "calls_before": 1}
    )
    assert stored_item("k", "", "", provider="acme", place=Place()).payload == {"provider": "acme"}


def test_an_item_belongs_to_its_provider_and_an_imported_one_to_any_of_its_kind() -> None:
    item = stored_item("k", "", "", provider="acme", place=Place())
    assert is_ours(item, "acme", {"k"})
    assert not is_ours(item, "acme", {"other kind"})
    assert not is_ours(item, "other provider", {"k"})
    assert is_ours(ThinkingBlock("k"), "acme", {"k"})


pieces = st.one_of(
    st.text(min_size=1, max_size=4),
    st.builds(ToolCall, st.text(max_size=3), st.just("f")),
    st.text(max_size=3).map(lambda text: ThinkingBlock("k", text)),
)


@given(st.lists(pieces, max_size=10))
def test_the_order_of_an_answer_is_kept(answer: list[AnswerPiece]) -> None:
    place = Place()
    texts: list[str] = []
    calls: list[ToolCall] = []
    items: list[ThinkingBlock] = []
    for piece in answer:
        match piece:
            case str():
                texts.append(piece)
                place.text += len(piece)
            case ToolCall():
                calls.append(piece)
                place.calls += 1
            case ThinkingBlock(text=text):
                items.append(stored_item("k", text, "", provider="acme", place=place))
    message = AssistantMessage("".join(texts), tuple(calls), thinking=tuple(items))
    found = answer_pieces(message, items)

    # Between two reasoning items, text and calls have no order of their own.
    assert stretches(found) == stretches(without_trailing_reasoning(answer))


def without_trailing_reasoning(answer: list[AnswerPiece]) -> list[AnswerPiece]:
    kept = list(answer)
    while kept and isinstance(kept[-1], ThinkingBlock):
        kept.pop()
    return kept


def stretches(answer: list[AnswerPiece]) -> list[str | tuple[str, tuple[ToolCall, ...]]]:
    found: list[str | tuple[str, tuple[ToolCall, ...]]] = []
    text, calls = "", []
    for piece in [*answer, None]:
        match piece:
            case str():
                text += piece
            case ToolCall():
                calls.append(piece)
            case _:
                found.append((text, tuple(calls)))
                text, calls = "", []
                if piece is not None:
                    found.append(piece.text)
    return found


counts = st.integers(-5, 20) | st.just("x") | st.none()


@given(
    st.text(max_size=8),
    st.lists(st.builds(ToolCall, st.text(max_size=2), st.just("f")), max_size=3),
    st.lists(st.tuples(counts, counts), max_size=4),
)
def test_whatever_the_places_say_every_text_and_call_is_there_once(
    text: str, calls: list[ToolCall], places: list[tuple[object, object]]
) -> None:
    items = [
        ThinkingBlock("k", payload={"text_before": before, "calls_before": made})
        for before, made in places
    ]
    found = answer_pieces(AssistantMessage(text, tuple(calls)), items)
    assert "".join(piece for piece in found if isinstance(piece, str)) == text
    assert [piece for piece in found if isinstance(piece, ToolCall)] == calls
