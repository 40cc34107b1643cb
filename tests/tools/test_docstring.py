"""What the model is told of a function comes from its docstring."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nanobot.tools._docstring import read_docstring

GOOGLE = """Book a table.

    Only restaurants that confirm at once are asked.

    Args:
      city: Where, for instance
        "Lisbon".
      guests (int, optional): How many: at least one.

      *more: Anything else.

    Returns:
      The booking.

    Raises:
      ValueError: Never.
    """


def test_the_text_before_the_first_section_describes_the_function() -> None:
    assert (
        read_docstring(GOOGLE).description
        == "Book a table.\n\nOnly restaurants that confirm at once are asked."
    )


def test_each_argument_has_its_text_on_one_line() -> None:
    assert read_docstring(GOOGLE).parameters == {
        "city": 'Where, for instance "Lisbon".',
        "guests": "How many: at least one.",
        "more": "Anything else.",
    }


def test_a_function_without_docstring_has_an_empty_description() -> None:
    assert read_docstring(None).description == ""
    assert read_docstring(None).parameters == {}


def test_a_word_with_a_colon_in_the_text_is_no_section() -> None:
    docstring = read_docstring("Say this:\n\n  quoted: yes\n\nThe end.")
    assert docstring.description == "Say this:\n\n  quoted: yes\n\nThe end."
    assert docstring.parameters == {}


def test_text_at_the_margin_ends_the_arguments() -> None:
    docstring = read_docstring("Do.\n\nArgs:\n  a: One.\nAfterwards: nothing.\n  b: No argument.")
    assert docstring.parameters == {"a": "One."}


@given(st.text(alphabet="abc:() \n*", max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    docstring = read_docstring(text)
    assert all("\n" not in line for line in docstring.parameters.values())
