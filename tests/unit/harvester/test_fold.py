"""Texts are searched folded, and what is found is hidden in the original: every place must be traced back exactly."""

from __future__ import annotations

import unicodedata

from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.redaction.fold import fold
from shared.redaction.policy import RedactionPolicy
from shared.redaction.scanner import Scanner

SCANNER = Scanner(RedactionPolicy())
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u202e\ufe0f"
PIECES = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        [
            *INVISIBLE,
            "e\u0301",
            "n\u0303o",
            "：",
            "ｐｗ",
            "\x1b[36m",
            "\x1b[0m",
            "密码",
            "ﬁ",
            "½",
            "\u1112\u1161\u11ab",
            "ﾊﾟ",
            "ı",
            "İ",
            "…",
            "a",
            "=",
            " ",
            "\n",
        ]
    ),
)
TEXTS = st.lists(PIECES, max_size=10).map("".join)


@given(TEXTS)
@example("\u200b")
@example("\u0301")
@example("ab\u200b\u0301c")
@settings(max_examples=1000, deadline=None)
def test_each_folded_character_comes_from_the_piece_of_the_original_that_folds_to_it(text: str) -> None:
    folded = fold(text)

    if folded.starts is None or folded.ends is None:
        assert folded.text == text
        return
    assert len(folded.starts) == len(folded.ends) == len(folded.text)
    for place, character in enumerate(folded.text):
        start, end = folded.original(place, place + 1)
        assert 0 <= start < end <= len(text)
        assert character in fold(text[start:end]).text
    assert list(folded.starts) == sorted(folded.starts) and list(folded.ends) == sorted(folded.ends)


@given(TEXTS)
@settings(max_examples=1000, deadline=None)
def test_a_text_folded_twice_is_the_text_folded_once_and_holds_nothing_invisible(text: str) -> None:
    folded = fold(text).text

    assert not set(folded) & set(INVISIBLE)
    assert unicodedata.normalize("NFKC", fold(folded).text) == unicodedata.normalize("NFKC", folded)


@given(TEXTS)
@settings(max_examples=500, deadline=None)
def test_plain_text_between_unusual_signs_is_kept(text: str) -> None:
    marked = f"{text} plain {text}"

    folded = fold(marked)

    place = folded.text.index(" plain ")
    assert marked[slice(*folded.original(place, place + 7))] == " plain "


@given(TEXTS, st.integers(1, 10), st.sampled_from(INVISIBLE), TEXTS)
@example("", 3, "\u200b", "")
@settings(max_examples=300, deadline=None)
def test_what_is_split_or_written_wide_is_hidden_from_its_first_to_its_last_character(
    before: str, place: int, sign: str, after: str
) -> None:
    address = "dana.otter" + "@" + "maplewood.io"
    split = address[:place] + sign + address[place:]
    wide = "".join(chr(ord(one) + 0xFEE0) for one in address)

    for hidden in (split, wide):
        cleaned, found = SCANNER.clean(f"{before} ({hidden}) {after}")
        assert any(one.value == hidden for one in found)
        assert "([e-mail])" in cleaned


def test_colours_of_a_terminal_are_not_searched_and_what_is_between_them_is_hidden() -> None:
    password = "k9Wq2" + "LmZt7Bv"
    text = f"\x1b[36mＤＢ_PASSWORD\x1b[0m\x1b[2m=\x1b[0;32m{password}\x1b[0m done"

    assert fold("a\x1b[1;31mb\x1b[0m") == ("ab", [0, 8], [1, 9])
    assert SCANNER.clean(text)[0] == text.replace(password, "[password]")
