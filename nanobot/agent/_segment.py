"""The text of one answer as it grows, and the reasoning around it."""

from __future__ import annotations

__all__ = ["Segment"]


class Segment:
    """What the model has said in one iteration, over all requests it took.

    White space before the first word is held back until the word comes: an answer of nothing else is no answer, and
    what a reader was shown before it is asked for again could not be taken back. So the text is always what readers
    were told.

    Attributes:
      text_pieces: The text so far, as told.
      reasoning_pieces: The reasoning so far.
    """

    __slots__ = ("_reasoning_told", "_white", "reasoning_pieces", "text_pieces")

    def __init__(self) -> None:
        self.text_pieces: list[str] = []
        self.reasoning_pieces: list[str] = []
        self._white = ""
        self._reasoning_told = 0

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self.text_pieces)

    @property
    def reasoning(self) -> str:
        """The reasoning so far."""
        return "".join(self.reasoning_pieces)

    def first_text(self, piece: str) -> str:
        """What to tell readers first, now that the model said `piece`: that with the white space held back, or "".

        Nothing counts as said until it is in `text_pieces`, where whoever told it puts it. Once there is something, each
        piece is told as it stands.
        """
        piece = self._white + piece
        if not piece or piece.isspace():
            self._white = piece
            return ""
        return piece

    def forget_white_space(self) -> None:
        """The model starts its answer again, and nothing of it was told."""
        self._white = ""

    @property
    def reasoning_open(self) -> bool:
        """Whether reasoning came since the last `close_reasoning`."""
        return len(self.reasoning_pieces) > self._reasoning_told

    def close_reasoning(self) -> str:
        """Return the reasoning since the last time; what comes now is another stretch of it."""
        stretch = "".join(self.reasoning_pieces[self._reasoning_told :])
        self._reasoning_told = len(self.reasoning_pieces)
        return stretch
