"""What of a message can be searched, and whether it has the words. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from nanobot.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)

from ._search import SearchHit

__all__ = ["folded", "has_phrases", "hit_of", "phrases_of", "spaced", "text_of"]

# A pasted book is found by its first pages. Indexing takes about 10 us for 1,000 characters.
_INDEXED_CHARS: Final = 100_000

_EXCERPT_CHARS: Final = 200
_EXCERPT_BEFORE: Final = 60

# Scripts that are written without spaces: Thai, Lao, Burmese, Khmer, kana, Han. Each character is a word of its own in the index,
# and a word of the query becomes the sequence of its characters.
_UNSPACED: Final = (
    "([\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff])"
)

# What the index takes for a word: letters and digits, without accents.
_WORD: Final = re.compile(r"[^\W_]+")


def phrases_of(text: str) -> list[str]:
    """The words of a query as the index sees them; a word with punctuation in it becomes a sequence of words."""
    return [phrase for word in text.split() if (phrase := folded(word))]


def text_of(message: Message) -> str:
    """What of a message can be found: its text, as far as it is indexed."""
    match message:
        case SystemMessage(content=content) | AssistantMessage(content=content):
            text = content
        case UserMessage(content=content) | ToolMessage(content=content):
            if isinstance(content, str):
                text = content
            else:
                text = "\n".join(part.text for part in content if isinstance(part, TextPart))
    return text[:_INDEXED_CHARS]


def spaced(text: str) -> str:
    """The text with spaces around the characters of scripts that have none."""
    # Compiled when it is first needed, which takes 2 ms, and kept by `re`.
    return text if text.isascii() else re.sub(_UNSPACED, r" \1 ", text)


def folded(text: str) -> str:
    """The words of a text as the index sees them, joined by spaces."""
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", spaced(text))
        text = "".join([letter for letter in decomposed if not unicodedata.combining(letter)])
    return " ".join(_WORD.findall(text.lower()))


def has_phrases(folded_text: str, phrases: Sequence[str]) -> bool:
    """Whether a folded text has all of the phrases, the last one maybe unfinished."""
    padded = f" {folded_text} "
    return f" {phrases[-1]}" in padded and all(f" {phrase} " in padded for phrase in phrases[:-1])


def hit_of(key: str, number: int, message: Message, words: Sequence[str]) -> SearchHit:
    """A message that was found, with the text around the first of the words."""
    tag = type(message).__struct_config__.tag
    assert isinstance(tag, str)  # the tag of a message is its role
    return SearchHit(key, number, tag, _excerpt(text_of(message), words), message.timestamp)


def _excerpt(text: str, words: Sequence[str]) -> str:
    lowered = text.lower()
    places = [place for word in words if (place := lowered.find(word.lower())) >= 0]
    start = max(0, min(places, default=0) - _EXCERPT_BEFORE)
    line = " ".join(text[start : start + 2 * _EXCERPT_CHARS].split())
    cut = len(line) > _EXCERPT_CHARS or len(text) > start + 2 * _EXCERPT_CHARS
    return ("…" if start else "") + line[:_EXCERPT_CHARS] + ("…" if cut else "")
