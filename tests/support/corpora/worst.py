"""Texts that take longest to search: what recognisers begin with, over and over."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import islice
from random import Random
from string import ascii_letters, digits, printable

from shared.redaction.scanner import Scanner
from tests.support.corpora.kinds import KINDS, fill
from tests.support.corpora.shapes import SHAPES

_UNITS = (
    "a",
    "1 ",
    "= ",
    '"',
    '\\"',
    "\n",
    "_",
    "a-",
    "a.b.c.",
    "QUJD",
    "deadbeef",
    "sk-",
    "ghp_",
    "AKIA",
    "AIza",
    "A1b2AZDO",
    "eyJabcdefghij.",
    "://",
    "a.b@",
    "a:b@c:d@",
    "http://a:b/c/d@e ",
    "user:",
    "password ",
    "password=",
    "password=a&b=",
    '"password": "',
    "pass: ",
    "max_tokens=4096 ",
    "token: abcdefgh1234 ",
    "--password ",
    "my password for the thing is ",
    "getByLabel('Password').fill('",
    '<a name="password" value="',
    "<password>",
    "| password | token |\n",
    "password,token,key\n",
    "user;password\na;b\n",
    "twitter: ",
    "datadog = ",
    "密码是",
    "密码：",
    "密码a",
    "\x1b[0m",
    "手机",
    "0049 1 ",
    "a%40b.",
    "password=env ",
    "USER   PASSWORD\n",
    "user | password\n-----+-----\n",
    "x=84.1.2.3 ",
    "今天，天气很好。",
    "ｐａｓｓ：",
    "p\u200ba",
    "e\u0301",
    "-----BEGIN PRIVATE KEY-----",
    "aws secret key ",
    "mysql ",
    "mysql -p",
    "curl -u ",
    "docker login ",
    "identified by '",
    "cookie: ",
    "cookie: a=b; sid=",
    "seed: abcde ",
    "mnemonic: abc def ghi ",
    "Bearer abc ",
    "a:5432:b:c:d ",
    "login a password b ",
    "84.1.2.3 ",
    "v 84.1.2.3 ",
    "2a01:1:",
    "DE12 3456 ",
    "iban DE12 ",
    "4111 1111 ",
    "tel 12 34 ",
    "tel 4111 1111 tel ",
    "number 030 ",
    "+49 151 ",
    "call ",
    "0x12ab",
    "1abcDEF",
    "123-45-6789 ",
    "tax id 12 ",
    "bsn 1234.",
    "[e-mail]",
    "84.1.2.3 [e-mail]",
)


def texts(size: int) -> Iterator[tuple[str, str]]:
    """A name and a text of about so many characters: repetitions, signs at random, and everything sensitive there is."""
    random = Random(1)
    yield "call … 1", "call " * (size // len("call ")) + "1"
    for unit in _UNITS:
        yield unit, unit * (size // len(unit))
    for name, alphabet in {
        "letters": ascii_letters + digits + "-_",
        "printable": printable,
        "digits": digits + " -",
    }.items():
        yield name, "".join(random.choices(alphabet, k=size))
    planted = (json.dumps(fill(kind, random)[0]) for _ in range(size) for kind in KINDS.values())
    yield "kinds", "\n".join(islice(planted, size // 60))[:size]
    yield "shapes", " ".join(random.choice(SHAPES).draw(random) for _ in range(size // 50))[:size]


def measure_worst(scanner: Scanner, size: int) -> list[tuple[float, str]]:
    """Megabytes a second of processor time, and the name of the text; what is cached once per process is warm."""
    scanner.clean("password = 'abc'")
    return sorted((len(text.encode()) / 1e6 / _seconds(scanner, text), name) for name, text in texts(size))


def list_super_linear(scanner: Scanner, size: int) -> list[str]:
    """Names of the texts of which four times as much takes over eight times as long, in each of three tries."""
    return [name for name, text in texts(size) if all(growth > 8 for growth in _growths(scanner, text))]


def _growths(scanner: Scanner, text: str) -> Iterator[float]:
    scanner.clean(text * 2)  # fills the caches of values; one text is remembered whole, hence another one
    for _ in range(3):
        once = _seconds(scanner, text)
        yield _seconds(scanner, text * 4) / once


def _seconds(scanner: Scanner, text: str) -> float:
    start = time.thread_time()
    scanner.clean(text)
    return max(1e-6, time.thread_time() - start)
