"""Text from outside as a terminal or a page may show it: what it would obey or hide instead is made visible."""

from __future__ import annotations

import re

# C0 but tab and newline, DEL and C1; marks that turn the direction of writing; separators of lines; invisible characters
# and tags; half surrogate pairs, which no stream can write. The joiners of letters and emoji stay.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with its hidden characters as escapes: `\\x1b`, `\\u202e`. The parts of a text become what the whole does."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
