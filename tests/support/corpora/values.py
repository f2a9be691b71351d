"""Sensitive values drawn after their published formats. None is written out: each is put together when it is asked for."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from functools import partial
from random import Random
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits

from shared.redaction.sensitive import Sensitive
from tests.support.corpora.shapes import SERVICE_SHAPES

ALNUM = ascii_letters + digits
URLSAFE = ALNUM + "-_"
HEX = "0123456789abcdef"
WORDS = [
    "maple",
    "otter",
    "window",
    "copper",
    "lantern",
    "bridge",
    "harbor",
    "velvet",
    "saffron",
    "puzzle",
    "meadow",
    "falcon",
    "ginger",
    "marble",
    "thunder",
    "walnut",
    "orchid",
    "pepper",
    "canyon",
    "silver",
    "bicycle",
    "rocket",
    "pirate",
    "dragon",
    "monkey",
    "sunshine",
    "shadow",
    "winter",
    "summer",
    "coffee",
]
B58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def some(random: Random, alphabet: str, length: int) -> str:
    return "".join(random.choices(alphabet, k=length))


def _any_of(random: Random, *makers: Callable[[], str]) -> str:
    return random.choice(makers)()


def draw(random: Random, sensitive: Sensitive) -> str:
    """One value of a class."""
    return _DRAWN[sensitive](random)


def _base64(random: Random, size: int) -> str:
    return base64.b64encode(random.randbytes(size)).decode()


def private_key(random: Random) -> str:
    kind = random.choice(["RSA ", "EC ", "DSA ", "OPENSSH ", "", "ENCRYPTED ", "PGP"])
    name = "PGP PRIVATE KEY BLOCK" if kind == "PGP" else f"{kind}PRIVATE KEY"
    body = _base64(random, random.choice([118, 300, 600, 1190]))
    lines = [body[n : n + 64] for n in range(0, len(body), 64)]
    if kind == "PGP":
        lines = ["", *lines, "=" + some(random, ALNUM, 4)]
    dashes = "-" * 5
    return "\n".join([f"{dashes}BEGIN {name}{dashes}", *lines, f"{dashes}END {name}{dashes}"])


def _jwt(random: Random) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")

    head = {"alg": random.choice(["HS256", "RS256", "ES256"]), "typ": "JWT"}
    claims = {
        "sub": some(random, digits, 10),
        "name": random.choice(WORDS),
        "iat": random.randrange(15 * 10**8, 19 * 10**8),
    }
    return ".".join([part(head), part(claims), some(random, URLSAFE, random.choice([43, 86]))])


def _github(random: Random) -> str:
    if random.random() < 0.3:
        return "github" + "_pat_" + some(random, ALNUM, 22) + "_" + some(random, ALNUM, 59)
    return random.choice(["ghp", "gho", "ghu", "ghs", "ghr"]) + "_" + some(random, ALNUM, 36)


def _gitlab(random: Random) -> str:
    return random.choice(["glpat", "gldt", "glrt", "glsoat", "glft"]) + "-" + some(random, ALNUM, 20)


def _slack(random: Random) -> str:
    if random.random() < 0.4:
        path = "/".join(
            ["T" + some(random, ascii_uppercase + digits, 10), "B" + some(random, ascii_uppercase + digits, 10)]
        )
        return f"https://hooks.slack.com/services/{path}/" + some(random, ALNUM, 24)
    return (
        random.choice(["xoxb", "xoxp"])
        + f"-{some(random, digits, 12)}-{some(random, digits, 13)}-"
        + some(random, ALNUM, 24)
    )


def _openai(random: Random) -> str:
    mark = "T3Blbk" + "FJ"
    if random.random() < 0.5:
        return "sk-" + some(random, ALNUM, 20) + mark + some(random, ALNUM, 20)
    return (
        "sk-"
        + random.choice(["proj", "svcacct"])
        + "-"
        + some(random, URLSAFE, 73)
        + "a"
        + mark
        + "b"
        + some(random, URLSAFE, 73)
    )


def _telegram(random: Random) -> str:
    return f"{random.randrange(10**8, 10**10)}:AA" + some(random, URLSAFE, 32) + random.choice(ALNUM)


def _discord(random: Random) -> str:
    if random.random() < 0.3:
        return f"https://discord.com/api/webhooks/{random.randrange(10**17, 10**18)}/" + some(random, URLSAFE, 67) + "x"
    user = base64.b64encode(str(random.randrange(10**17, 10**18)).encode()).decode().rstrip("=")
    return user + "." + some(random, URLSAFE, 6) + "." + some(random, URLSAFE, 26) + random.choice(ALNUM)


def _azure(random: Random) -> str:
    return _base64(random, 64)


def _pypi(random: Random) -> str:
    return "pypi-" + "AgEIcHlwaS5vcmc" + some(random, URLSAFE, random.randrange(130, 170)) + "A"


def password(random: Random) -> str:
    word = random.choice(WORDS)
    return _any_of(
        random,
        lambda: word + str(random.randrange(10, 9999)),
        lambda: word.capitalize() + random.choice("!$%&?#") + str(random.randrange(1, 999)),
        lambda: "-".join(random.sample(WORDS, 4)) + "-" + str(random.randrange(1, 99)),
        lambda: (
            word.replace("a", "4").replace("e", "3").replace("o", "0") + random.choice("!%?&") + some(random, digits, 2)
        ),
        lambda: some(random, ALNUM, 11) + random.choice(digits) + random.choice(ascii_lowercase),
        lambda: some(random, ALNUM + "!%^+=", 15) + random.choice(digits) + random.choice(ascii_lowercase),
    )


def _secret(random: Random) -> str:
    return _any_of(
        random,
        lambda: some(random, HEX, 32),
        lambda: some(random, HEX, 64),
        lambda: _base64(random, 32),
        lambda: some(random, URLSAFE, 42) + "7",
        lambda: some(random, ALNUM, 23) + "4",
        lambda: "-".join(some(random, HEX, n) for n in (8, 4, 4, 4, 12)),
    )


def _url_password(random: Random) -> str:
    return some(random, ALNUM, random.randrange(6, 20)) + random.choice(["", "!", "%40x", "-_"])


def _email(random: Random) -> str:
    first, last = random.sample(WORDS, 2)
    local = random.choice(
        [f"{first}.{last}", f"{first}{random.randrange(99)}", f"{first[0]}{last}", f"{first}+{last}", f"{first}_{last}"]
    )
    domain = random.choice(
        [f"{random.choice(WORDS)}{random.choice(WORDS)}", f"mail.{random.choice(WORDS)}-{random.choice(WORDS)}"]
    )
    return f"{local}@{domain}.{random.choice(['com', 'org', 'de', 'co.uk', 'io', 'dev', 'fr', 'email'])}"


def _luhn(body: str) -> str:
    total = 0
    for n, digit in enumerate(reversed(body)):
        value = int(digit) * (2 if n % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return body + str(-total % 10)


def _card(random: Random) -> str:
    prefix, length = random.choice(
        [("4", 16), ("52", 16), ("55", 16), ("34", 15), ("37", 15), ("6011", 16), ("2301", 16), ("3530", 16)]
    )
    number = _luhn(prefix + some(random, digits, length - len(prefix) - 1))
    sign = random.choice(["", " ", "-"])
    cuts = (4, 10) if length == 15 else (4, 8, 12)
    return sign.join(number[a:b] for a, b in zip((0, *cuts), (*cuts, length), strict=True))


def _iban(random: Random) -> str:
    country, form = random.choice(
        [
            ("DE", "9" * 18),
            ("AT", "9" * 16),
            ("GB", "AAAA" + "9" * 14),
            ("NL", "AAAA" + "9" * 10),
            ("CH", "9" * 17),
            ("DK", "9" * 14),
            ("IE", "AAAA" + "9" * 14),
        ]
    )
    bban = "".join(random.choice(digits if sign == "9" else ascii_uppercase) for sign in form)
    check = 98 - int("".join(str(int(sign, 36)) for sign in f"{bban}{country}00")) % 97
    whole = f"{country}{check:02}{bban}"
    return whole if random.random() < 0.5 else " ".join(whole[n : n + 4] for n in range(0, len(whole), 4))


def _steuer_id(random: Random) -> str:
    while True:  # one digit of the first ten stands twice, the others once
        pool = random.sample(digits, 9)
        body = [*pool, random.choice(pool)]
        random.shuffle(body)
        if body[0] != "0":
            break
    product = 10
    for digit in body:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return "".join(body) + str((11 - product) % 10)


def _dni(random: Random) -> str:
    number = random.randrange(10**7, 10**8)
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def _bsn(random: Random) -> str:
    while True:
        body = "1" + some(random, digits, 7)
        check = sum(int(d) * w for d, w in zip(body, range(9, 1, -1), strict=True)) % 11
        if check < 10:
            return body + str(check)


def _pesel(random: Random) -> str:
    body = (
        f"{random.randrange(40, 99)}{random.randrange(1, 13):02}{random.randrange(1, 29):02}{some(random, digits, 4)}"
    )
    return body + str(-sum(int(d) * w for d, w in zip(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3), strict=True)) % 10)


def _nir(random: Random) -> str:
    body = f"{random.choice('12')}{random.randrange(40, 99)}{random.randrange(1, 13):02}{random.randrange(21, 95):02}"
    body += f"{random.randrange(1, 900):03}{random.randrange(1, 999):03}"
    return f"{body}{97 - int(body) % 97:02}"


#: What a national number is called, and how it is made.
NATIONAL = {
    "Steuer-ID": _steuer_id,
    "Steueridentifikationsnummer": _steuer_id,
    "DNI": _dni,
    "BSN": _bsn,
    "PESEL": _pesel,
    "NIR": _nir,
}


def _ssn(random: Random) -> str:
    area = random.choice([n for n in (random.randrange(1, 900) for _ in range(9)) if n not in (666, 78, 219)])
    return f"{area:03}-{random.randrange(1, 100):02}-{random.randrange(1, 10000):04}"


def phone(random: Random) -> str:
    """An international number, after the numbering plans."""
    d = partial(some, random, digits)
    area = random.choice(["212", "415", "312", "206", "617", "303"])
    exchange = random.choice("2346789") + random.choice("2346789") + random.choice(digits)
    return random.choice(
        [
            f"+1 {area} {exchange} {d(4)}",
            f"+1-{area}-{exchange}-{d(4)}",
            f"+1 ({area}) {exchange}-{d(4)}",
            f"+1{area}{exchange}{d(4)}",
            f"+49 151 2{d(7)}",
            f"+49 (0)30 2{d(6)}",
            f"+491762{d(7)}",
            f"+44 7400 {d(6)}",
            f"+44 7911 {'1'}{d(5)}",
            f"+33 6 {random.randrange(41, 69)} {d(2)} {d(2)} {d(2)}",
            f"+41 79 {random.choice('2345678')}{d(2)} {d(2)} {d(2)}",
            f"+34 6{d(2)} {d(3)} {d(3)}",
            f"+31 6 {random.choice('1234')}{d(7)}",
        ]
    )


def national_phone(random: Random) -> str:
    """A number as it is written within the country: United States, Germany, United Kingdom."""
    d = partial(some, random, digits)
    area, exchange = random.choice(["212", "415", "312", "206"]), "2" + random.choice("346789") + random.choice(digits)
    return random.choice(
        [
            f"({area}) {exchange}-{d(4)}",
            f"{area}-{exchange}-{d(4)}",
            f"{area}.{exchange}.{d(4)}",
            f"0151 2{d(7)}",
            f"030/2{d(6)}",
            f"07400 {d(6)}",
        ]
    )


def _b58check(payload: bytes) -> str:
    data = payload + hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4]
    number, text = int.from_bytes(data), ""
    while number:
        number, rest = divmod(number, 58)
        text = B58[rest] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def _bech32(random: Random) -> str:
    values = [0, *(random.randrange(32) for _ in range(32))]
    values[-1] &= 0b11111  # 160 bits are 32 groups of five without a rest
    check = 1
    for value in [3, 3, 0, 2, 3, *values, 0, 0, 0, 0, 0, 0]:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for n, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> n & 1 else 0
    check ^= 1
    return "bc1" + "".join(
        "qpzry9x8gf2tvdw0s3jn54khce6mua7l"[v] for v in [*values, *((check >> 5 * (5 - n)) & 31 for n in range(6))]
    )


def _wallet(random: Random) -> str:
    return _any_of(
        random,
        lambda: _b58check(random.choice([b"\0", b"\5"]) + random.randbytes(20)),
        lambda: "0x" + "".join(random.choice([c, c.upper()]) for c in random.randbytes(20).hex()),
        lambda: _bech32(random),
    )


def _ip(random: Random) -> str:
    if random.random() < 0.3:
        groups = [random.choice(["2a01", "2a02", "2607", "2400", "2003"])] + [
            f"{random.randrange(1, 65536):x}" for _ in range(7)
        ]
        return (
            ":".join(groups)
            if random.random() < 0.5
            else ":".join(groups[:3]) + "::" + random.choice(["1", groups[7], f"{groups[5]}:{groups[6]}"])
        )
    first = random.choice([5, 18, 31, 34, 46, 52, 62, 78, 85, 93, 104, 139, 151, 178, 185, 188, 195, 213])
    return f"{first}.{random.randrange(11, 250)}.{random.randrange(256)}.{random.randrange(1, 255)}"


_DRAWN: dict[Sensitive, Callable[[Random], str]] = {
    Sensitive.PRIVATE_KEY: private_key,
    Sensitive.AWS_ACCESS_KEY_ID: lambda r: r.choice(["AK", "AS"]) + "IA" + some(r, ascii_uppercase + "234567", 16),
    Sensitive.AWS_SECRET_ACCESS_KEY: lambda r: some(r, ALNUM + "/+", 37) + "a" + "Z" + "4",
    Sensitive.GITHUB_TOKEN: _github,
    Sensitive.GITLAB_TOKEN: _gitlab,
    Sensitive.SLACK: _slack,
    Sensitive.STRIPE_KEY: lambda r: (
        r.choice(["sk", "rk"]) + "_" + r.choice(["live", "test"]) + "_" + some(r, ALNUM, r.choice([24, 99]))
    ),
    Sensitive.OPENAI_KEY: _openai,
    Sensitive.ANTHROPIC_KEY: lambda r: "sk-" + "ant-api03-" + some(r, URLSAFE, 93) + "AA",
    Sensitive.GOOGLE_KEY: lambda r: r.choice(
        ["AI" + "za" + some(r, URLSAFE, 34) + "q", "GOC" + "SPX-" + some(r, URLSAFE, 27) + "q"]
    ),
    Sensitive.HUGGING_FACE_TOKEN: lambda r: "h" + "f_" + some(r, ascii_letters, 34),
    Sensitive.NPM_TOKEN: lambda r: "npm" + "_" + some(r, ALNUM, 36),
    Sensitive.PYPI_TOKEN: _pypi,
    Sensitive.SENDGRID_KEY: lambda r: "S" + "G." + some(r, URLSAFE, 22) + "." + some(r, URLSAFE, 42) + "q",
    Sensitive.TWILIO_KEY: lambda r: r.choice(["A" + "C", "S" + "K"]) + some(r, HEX, 32),
    Sensitive.TELEGRAM_TOKEN: _telegram,
    Sensitive.DISCORD: _discord,
    Sensitive.SERVICE_TOKEN: lambda r: r.choice(SERVICE_SHAPES).draw(r),
    Sensitive.AZURE_STORAGE_KEY: _azure,
    Sensitive.JWT: _jwt,
    Sensitive.URL_PASSWORD: _url_password,
    Sensitive.AUTHORIZATION: lambda r: r.choice([some(r, HEX, 40), some(r, ALNUM, 30) + "7", _base64(r, 24)]),
    Sensitive.PASSWORD: password,
    Sensitive.SECRET: _secret,
    Sensitive.EMAIL: _email,
    Sensitive.CARD: _card,
    Sensitive.IBAN: _iban,
    Sensitive.NATIONAL_ID: lambda r: NATIONAL[r.choice(list(NATIONAL))](r),
    Sensitive.SSN: _ssn,
    Sensitive.PHONE: phone,
    Sensitive.WALLET: _wallet,
    Sensitive.IP_ADDRESS: _ip,
}
