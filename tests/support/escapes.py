"""Texts that a terminal would obey, or that hide what they say: forty of them, each between its number and a mark."""

from __future__ import annotations

import unicodedata

ESC, CSI, OSC, ST, BEL = "\x1b", "\x1b[", "\x1b]", "\x1b\\", "\x07"
_RAW = {
    "colour": f"{CSI}31m",
    "reset and hide": f"{CSI}0;8m",
    "clear the screen": f"{CSI}2J{CSI}H",
    "clear the history": f"{CSI}3J",
    "move up and overwrite": f"{CSI}5A{CSI}2K",
    "alternate screen": f"{CSI}?1049h",
    "hide the cursor": f"{CSI}?25l",
    "report the cursor": f"{CSI}6n",
    "report the device": f"{CSI}c",
    "report the window title": f"{CSI}21t",
    "mouse reports": f"{CSI}?1003h",
    "bracketed paste": f"{CSI}?2004h",
    "end of a bracketed paste": f"{CSI}201~rm -rf ~\n",
    "scroll region": f"{CSI}1;1r",
    "resize the window": f"{CSI}8;1;1t",
    "title": f"{OSC}0;owned{BEL}",
    "title, ended by ST": f"{OSC}2;owned{ST}",
    "hyperlink": f"{OSC}8;;https://evil.example{ST}click{OSC}8;;{ST}",
    "clipboard": f"{OSC}52;c;cm0gLXJmIH4={BEL}",
    "palette": f"{OSC}4;1;rgb:ff/00/00{BEL}",
    "working directory": f"{OSC}7;file:///etc{ST}",
    "notification": f"{OSC}9;hello{BEL}",
    "picture": f"{OSC}1337;File=inline=1:AAAA{BEL}",
    "device control string": f"{ESC}P1$qm{ST}",
    "sixel": f"{ESC}Pq#0;2;0;0;0{ST}",
    "application command": f"{ESC}_Gi=1;AAAA{ST}",
    "privacy message": f"{ESC}^secret{ST}",
    "reset the terminal": f"{ESC}c",
    "character set": f"{ESC}(0",
    "unfinished sequence": f"{ESC}[",
    "escape alone": ESC,
    "control sequences of 8 bits": "\x9b31m\x9d0;owned\x9c\x90q\x9c",
    "next line of 8 bits": "\x85",
    "carriage return": "safe\rEVIL",
    "backspaces": "safe\x08\x08\x08\x08EVIL",
    "bell, feed, tabulation": "\x07\x0b\x0c\x0e\x0f",
    "delete": "\x7f\x7f",
    "right to left": "\u202egpj.exe\u202c\u2066\u2067\u2068\u2069\u200f\u061c",
    "separators of lines": "\u2028error: forged\u2029",
    "nothing to see": "\u200b\u2060\ufeff\u00ad\u180e\u2064",
    "tags": "\U000e0001\U000e0041\U000e007f",
    "markup": "[link=https://evil.example]click[/link][blink]x[/]",
    "wrong markup": "[/nope] :skull:",
}
PAYLOADS = {name: f"<{number:02}{raw}>" for number, (name, raw) in enumerate(_RAW.items())}
ALL = " ".join(PAYLOADS.values())  #: every payload, within the bounds of a text in a message
MARKS = [f"<{number:02}" for number in range(len(PAYLOADS))]

# What Unicode calls control, separators of lines and surrogates; and of what it calls format, what hides or turns text.
_CATEGORIES = {"Cc", "Zl", "Zp", "Cs"}
_FORMAT = "\u00ad\u061c\u180e\u200b\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff" + "".join(
    map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xE0000, 0xE0080)))
)


def raw_controls(text: str) -> list[str]:
    """Every character of the text that a terminal would obey or hide, of which there should be none."""
    return [
        character
        for character in text
        if character not in "\n\t" and (unicodedata.category(character) in _CATEGORIES or character in _FORMAT)
    ]
