"""Kinds of secrets and personal data by the place or the writing that hides them, each with carriers and values of its own."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from shared.redaction.sensitive import Sensitive
from tests.support.corpora import machine_carriers as machine
from tests.support.corpora import values
from tests.support.corpora.shapes import SERVICE_SHAPES
from tests.support.corpora.values import ALNUM, WORDS, some

_DJANGO = "abcdefghijklmnopqrstuvwxyz0123456789!@#$%^&*(-_=+)"
_WORDPRESS = ALNUM + "!@#$%^&*()-_ []{}<>~`+=,.;:/?|"
_ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\u00ad"


class Kind(NamedTuple):
    """`@` in a carrier is the value, `@@` the value and the sign behind it, `%@` that sign and the value."""

    sensitive: Sensitive
    carriers: tuple[str, ...]
    draw: Callable[[Random], str]


def strong(random: Random) -> str:
    """A password of letters, digits and a sign, as it is typed after a copula."""
    word = random.choice(WORDS)
    return f"{word.capitalize()}{random.choice('-!+=')}{random.randrange(1000, 9999)}{random.choice(['!x', 'q', 'Z7'])}"


def _secret(random: Random) -> str:
    return random.choice([some(random, "0123456789abcdef", 40), some(random, ALNUM, 30) + "4x"])


def _wordpress(random: Random) -> str:
    return "q" + some(random, _WORDPRESS, 62) + "7"


def _base64_password(random: Random) -> str:
    return base64.b64encode(random.randbytes(random.choice([16, 24, 32]))).decode()


def _login(random: Random) -> str:
    return base64.b64encode(f"{random.choice(WORDS)}:{strong(random)}".encode()).decode()


def _split(random: Random, value: str) -> str:
    place = random.randrange(2, len(value) - 2)
    return value[:place] + random.choice(_ZERO_WIDTH) + value[place:]


def _wide(value: str) -> str:
    return "".join(chr(ord(sign) + 0xFEE0) if "!" <= sign <= "~" else sign for sign in value)


_LANGUAGES = (
    "密码：@",
    "密码是@",
    "数据库密码为 @",
    "密碼：@",
    "口令: @",
    "パスワード：@",
    "パスワードは@です",
    "비밀번호: @",
    "비밀번호는 @ 입니다",
    "Пароль: @",
    "пароль от роутера: @",
    "Пароль — @",
    "Mật khẩu: @",
    "รหัสผ่าน: @",
    "كلمة المرور: @",
    "סיסמה: @",
    "Şifre: @",
    "Hasło: @",
    "Hasło to @",
    "Heslo: @",
    "Heslo je @",
    "Jelszó: @",
    "Κωδικός πρόσβασης: @",
    "Wachtwoord: @",
    "Het wachtwoord is @",
    "Lösenord: @",
    "Lösenordet är @",
    "Adgangskode: @",
    "Salasana: @",
    "Salasana on @",
    "Contraseña: @",
    "La contraseña es @",
    "A senha é @",
    "Senha: @",
    "La password è @",
    "Le mot de passe est @",
    "Mot de passe : @",
    "Das Passwort lautet @",
    "Kennwort: @",
    "Lozinka: @",
    "पासवर्ड: @",
    "Kata sandi: @",
    "Parola: @",
)
_SECRET_LANGUAGES = (
    "API-Schlüssel: @",
    "Clé API : @",
    "La clave de API es @",
    "Chave de API: @",
    "Chiave API: @",
    "API 密钥：@",
    "APIキー：@",
    "API 키: @",
    "токен: @",
    "ключ API: @",
    "Klucz API: @",
    "API-sleutel: @",
)


def _address(random: Random) -> str:
    return "84." + ".".join(str(random.randrange(1, 255)) for _ in range(3))


_BROWSER = (
    '{"selector": "#password", "text": "@"}',
    '{"selector": "input[name=\'password\']", "value": "@"}',
    '{"element": "Password field", "ref": "s1e23", "text": "@"}',
    '{"fields": [{"name": "User", "value": "dana"}, {"name": "Password", "type": "textbox", "value": "@"}]}',
    "page.getByLabel('Password').fill('@')",
    "await page.fill('#password', '@');",
    'page.locator("input[type=password]").fill("@")',
    "cy.get('#password').type('@')",
    'driver.find_element(By.ID, "password").send_keys("@")',
    '{"label": "Password", "input": "@"}',
)
_ARGUMENTS = (
    '{"argv": ["tool", "--password", "@"]}',
    '{"command": ["psql-login", "--user", "dana", "--db-password", "@", "-q"]}',
    'subprocess.run(["tool", "--password", "@"])',
    "tool --user dana --password @ --quiet",
    "exec.Command('tool', '--passphrase', '@')",
)
_HEADERS = (
    '{"headers": [["X-Api-Key", "@"], ["Accept", "*/*"]]}',
    '{"headers": [{"name": "X-Auth-Token", "value": "@"}]}',
    'headers = [("x-api-key", "@")]',
    '{"headers": {"x-api-key": "@"}}',
    "-H 'X-Api-Key: @'",
)
_TABLES = (
    "| user | password |\n|---|---|\n| dana | @ |",
    "| setting | value |\n|---|---|\n| password | @ |",
    "user,password,host\ndana,@,db",
    "user\tpassword\nlee\tnone\ndana\t@",
    "<tr><td>Password</td><td>@</td></tr>",
    "host;user;passwort\ndb;dana;@\n",
)

KINDS: dict[str, Kind] = {
    "Django key": Kind(
        Sensitive.SECRET,
        ("SECRET_KEY = '@'", 'SECRET_KEY="@"', "SECRET_KEY=@", 'DJANGO_SECRET_KEY: "@"', '{"SECRET_KEY": "@"}'),
        lambda r: r.choice(["", "django-insecure-"]) + "a" + some(r, _DJANGO, 48) + "7",
    ),
    "WordPress salt": Kind(
        Sensitive.SECRET,
        (
            "define( 'AUTH_KEY', '@' );",
            "define('NONCE_SALT',       '@');",
            "define( 'LOGGED_IN_KEY', '@' );",
            "SECURE_AUTH_SALT='@'",
        ),
        _wordpress,
    ),
    "base64 password in a URL": Kind(
        Sensitive.URL_PASSWORD,
        (
            "postgres://dana:@@db.acme-prod.io/x",
            "DATABASE_URL=postgresql://app:@@db:5432/shop",
            "redis://:@@cache.acme-prod.io:6379/0",
        ),
        _base64_password,
    ),
    "password with signs": Kind(
        Sensitive.PASSWORD,
        ("DB_PASSWORD='@'", "DB_PASSWORD=@", '{"password": "@"}', "password: '@'"),
        lambda r: f"{some(r, ALNUM, 3)}{r.choice('$({!')}{some(r, ALNUM, 4)}{r.choice(')}!%')}{some(r, ALNUM, 4)}7",
    ),
    "password that holds a common word": Kind(
        Sensitive.PASSWORD,
        ("DB_PASSWORD='@'", 'password = "@"', '{"password": "@"}'),
        lambda r: (
            r.choice(["mastodon", "wait...", "filling", "environment", "yourself"]) + str(r.randrange(1000, 9999))
        ),
    ),
    "other languages": Kind(Sensitive.PASSWORD, _LANGUAGES, strong),
    "other languages, decomposed": Kind(
        Sensitive.PASSWORD, tuple(unicodedata.normalize("NFD", one) for one in _LANGUAGES), strong
    ),
    "other languages, machine's": Kind(Sensitive.SECRET, _SECRET_LANGUAGES, _secret),
    "full width": Kind(
        Sensitive.PASSWORD,
        ("ｐａｓｓｗｏｒｄ：@", "password：@", "ＰＡＳＳＷＯＲＤ＝@", "pass\u200bword: @", "pass\u00adword = '@'"),
        strong,
    ),
    "full-width value": Kind(Sensitive.PASSWORD, ("password: '@'", "密码：@"), lambda r: _wide(strong(r))),
    "zero-width split": Kind(
        Sensitive.SERVICE_TOKEN,
        ("I ran it with @ and it worked.", "KEY=@", '{"note": "@"}'),
        lambda r: _split(r, r.choice(SERVICE_SHAPES).draw(r)),
    ),
    "zero-width split address": Kind(
        Sensitive.EMAIL, ("write to @ please", "email:@"), lambda r: _split(r, values.draw(r, Sensitive.EMAIL))
    ),
    "browser": Kind(Sensitive.PASSWORD, _BROWSER, strong),
    "arguments": Kind(Sensitive.PASSWORD, _ARGUMENTS, strong),
    "headers": Kind(Sensitive.SECRET, _HEADERS, _secret),
    "tables": Kind(Sensitive.PASSWORD, _TABLES, strong),
    "tables as programs print them": Kind(Sensitive.PASSWORD, machine.PRINTED_TABLES, strong),
    "defaults, properties and colours": Kind(Sensitive.PASSWORD, machine.DEFAULT_PASSWORDS, strong),
    "other languages, without a sign": Kind(
        Sensitive.PASSWORD, machine.EAST_ASIAN_PASSWORDS, lambda r: f"k{r.randrange(10, 99)}#{some(r, ALNUM, 6)}7q"
    ),
    "Docker and npm credentials": Kind(
        Sensitive.PASSWORD,
        (
            '{"auths": {"https://index.docker.io/v1/": {"auth": "@"}}}',
            "//registry.acme-prod.io/:_auth=@",
            '  "auth": "@"',
        ),
        _login,
    ),
    "npm password": Kind(
        Sensitive.PASSWORD,
        ("//registry.acme-prod.io/:_password=@",),
        lambda r: base64.b64encode(strong(r).encode()).decode(),
    ),
    ".pgpass and .netrc": Kind(
        Sensitive.PASSWORD,
        ("db.acme-prod.io:5432:shop:dana:@", "*:*:*:dana:@", "machine db.acme-prod.io login dana password @"),
        strong,
    ),
    "ssh to an address": Kind(
        Sensitive.IP_ADDRESS,
        ("ssh root%@", "scp notes.txt pi%@:/tmp", "rsync -a . deploy%@:/srv"),
        _address,
    ),
    "address assigned": Kind(Sensitive.IP_ADDRESS, machine.ASSIGNED_ADDRESSES, _address),
    "e-mail after a colon": Kind(
        Sensitive.EMAIL,
        ("email:@", "user:@ logged in", "mailto:@", '{"note": "cc:@"}'),
        lambda r: values.draw(r, Sensitive.EMAIL),
    ),
    "phone after a German word": Kind(
        Sensitive.PHONE, machine.NATIONAL_CALLS, lambda r: f"0151 2{some(r, '0123456789', 7)}"
    ),
    "phone with 00": Kind(Sensitive.PHONE, machine.FOREIGN_CALLS, lambda r: f"0049 151 2{some(r, '0123456789', 7)}"),
    "phone of China": Kind(Sensitive.PHONE, machine.CHINESE_CALLS, lambda r: f"138{some(r, '0123456789', 8)}"),
    "e-mail in a path or a name of a file": Kind(
        Sensitive.EMAIL, machine.ADDRESSES_IN_PATHS, lambda r: values.draw(r, Sensitive.EMAIL)
    ),
    "e-mail encoded for a URL": Kind(
        Sensitive.EMAIL, machine.ENCODED_ADDRESSES, lambda r: values.draw(r, Sensitive.EMAIL).replace("@", "%40")
    ),
    "e-mail of a country that is a file": Kind(
        Sensitive.EMAIL,
        ("@", "ask @, please", "email:@"),
        lambda r: "@".join((r.choice(WORDS), f"{r.choice(WORDS)}.{r.choice(['py', 'sh', 'md', 'zip', 'rs', 'pl'])}")),
    ),
}


def fill(kind: Kind, random: Random) -> tuple[str, str]:
    """A text of a kind, and the value in it."""
    value, carrier = kind.draw(random), random.choice(kind.carriers)
    at = "@" if "@@" in carrier or "%@" in carrier else ""
    return carrier.replace("%@", "\0").replace("@@", "\0").replace("@", "\0").replace(
        "\0", f"{at}{value}" if "%@" in carrier else f"{value}{at}"
    ), value
