"""Texts that look sensitive and are not: digests, versions, numbers, placeholders, code and talk about secrets."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Iterator
from random import Random
from string import ascii_lowercase, ascii_uppercase, digits

from tests.support.corpora.values import ALNUM, HEX, WORDS, some

_TALK = (
    "How do I rotate a password without downtime?",
    "The password must have at least 12 characters.",
    "Store the token in the keyring.",
    "Password reset works again.",
    "I forgot my password, what now?",
    "Never commit a secret to the repository.",
    "The token is expired, refresh it.",
    "A password is only as good as its owner.",
    "Token: a unit of text of about four characters.",
    "The secret is to knead it for ten minutes.",
    "Passwords are hashed with Argon2id.",
    "Enter the PIN on the terminal.",
    "The API key is read from the environment.",
    "password: required, at least 8 characters",
    "Your password has been changed.",
    "Set max_tokens to 4096 and the temperature to 0.2.",
    "tokens: 12034, cost: 0.02",
    "token usage: prompt_tokens=1203 completion_tokens=88",
    "The pass is closed until May.",
    "pass the salt, please",
    "The tests pass: 1203 passed in 12.4 s",
    "Add salt: 12 g for 1.5 kg of flour.",
    "Call the function at 10:30 and text the result.",
    "Call 3 of 12000000 finished.",
    "See https://example.com/reset-password?step=2",
    "The Authorization header carries the bearer token.",
    "Use bearer authentication here.",
    "secret santa is on 12 December",
    "A PEM file starts with -----BEGIN CERTIFICATE-----.",
    "grep 'BEGIN RSA PRIVATE KEY' -r .",
    "Private keys stay on the machine.",
)
_CODE = (
    "user = get_password(user)",
    "password = getpass()",
    "if password != confirm_password:",
    "def check(password: str, token: str | None) -> bool:",
    "token = request.headers['X-Token']",
    "secret = config.secret_key",
    "self.password = password",
    "const token = await getToken();",
    "password: Optional[str] = None",
    "tokenizer = AutoTokenizer.from_pretrained(name)",
    "pad_token_id=tokenizer.eos_token_id",
    'api_key = os.environ["API_KEY"]',
    "token = os.getenv('TOKEN', '')",
    "password = settings.database.password",
    "let token = null;",
    "token: ${{ secrets.TOKEN }}",
    'password = "<your password>"',
    "API_KEY=your-api-key-here",
    "SECRET_KEY=changeme",
    "password: ${DB_PASSWORD}",
    "password = '********'",
    'api_key: "{{ api_key }}"',
    "DB_PASSWORD=$DB_PASSWORD",
    "export TOKEN=$(pass show deploy/token)",
    "password_hash = hash_password(raw)",
    "secretName: db-credentials",
    "secretKeyRef:\n  name: db\n  key: password",
    "type: password",
    '<input type="password" name="password">',
    "password_field = driver.find_element(By.ID, 'password')",
    "token_type: bearer",
    "assert response.json()['token']",
    "PASSWORD_MIN_LENGTH = 12",
    "postgres://user:password@localhost/db",
    "postgres://${DB_USER}:${DB_PASSWORD}@db/shop",
    "https://<user>:<token>@git.example.com/x.git",
    "Authorization: Bearer <token>",
    "Authorization: Bearer $TOKEN",
    "headers = {'Authorization': f'Bearer {token}'}",
    "sk-...",
    "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "from passlib.hash import argon2",
    "@pytest.fixture",
    "git clone git@github.com:acme/shop.git",
    "systemctl restart getty@tty1.service",
    "npm install @types/node@18.11.9 left-pad@1.3.0",
    "background: url(logo@2x.png)",
    "[api key]",
    'password = "[password]"',
    "[e-mail] wrote to [phone number]",
    "secret_path: /run/secrets/db",
    "token_file = Path('token.txt')",
    "key = lambda row: row.key",
    "primary_key = True",
    "sort(key=len)",
    "private_key_path: ~/.ssh/id_ed25519",
    '"passwordHint": "first pet"',
    "session_key: str",
    "csrf_token = generate_csrf()",
    "tokens = text.split()",
    "access_key = None",
    "PasswordField(required=True)",
)

_NOWHERE = (
    "127.0.0.1",
    "0.0.0.0",
    "::1",
    "fe80::1",
    "fd00::12",
    "172.16.4.2",
    "192.0.2.7",
    "203.0.113.9",
    "2001:db8::2",
)


def _uuid(r: Random) -> str:
    return str(uuid.UUID(bytes=r.randbytes(16)))


def _picture(r: Random) -> str:
    return "![chart](data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA" + base64.b64encode(r.randbytes(120)).decode() + ")"


def _isbn(r: Random) -> str:
    return f"ISBN 978-{r.randrange(10)}-{some(r, digits, 3)}-{some(r, digits, 5)}-{r.randrange(10)}"


_KINDS: tuple[Callable[[Random], str], ...] = (
    lambda r: r.choice(_TALK),
    lambda r: r.choice(_CODE),
    lambda r: f"commit {some(r, HEX, 40)}\nAuthor: somebody\n\n    fix the {r.choice(WORDS)}",
    lambda r: f"{some(r, HEX, 7)} {r.choice(WORDS)}: fix the build (#{r.randrange(9999)})",
    lambda r: f"request {_uuid(r)} took {r.randrange(999)} ms",
    lambda r: f'{{"id": "{_uuid(r)}", "name": "{r.choice(WORDS)}"}}',
    lambda r: f"sha256:{some(r, HEX, 64)}",
    lambda r: f"FROM python:3.11@sha256:{some(r, HEX, 64)}",
    lambda r: f'"integrity": "sha512-{base64.b64encode(r.randbytes(64)).decode()}"',
    lambda r: (
        f"{r.choice(WORDS)}=={r.randrange(9)}.{r.randrange(20)}.{r.randrange(9)} --hash=sha256:{some(r, HEX, 64)}"
    ),
    lambda r: (
        f"upgraded {r.choice(WORDS)} to version {r.randrange(9)}.{r.randrange(20)}.{r.randrange(9)}.{r.randrange(300)}"
    ),
    lambda r: f"{r.choice(WORDS)}=={r.randrange(1, 9)}.{r.randrange(20)}.{r.randrange(9)}.{r.randrange(100)}",
    lambda r: f'"version": "{r.randrange(1, 20)}.{r.randrange(20)}.{r.randrange(9)}.{r.randrange(255)}"',
    lambda r: (
        f"Mozilla/5.0 (X11; Linux x86_64) Chrome/{r.randrange(90, 140)}.0.{r.randrange(6000)}.{r.randrange(200)} Safari/537.36"
    ),
    lambda r: f"v{r.randrange(1, 9)}.{r.randrange(9)}.{r.randrange(9)}.{r.randrange(9)} is out",
    _isbn,
    lambda r: f"Order {some(r, digits, 16)} was shipped.",
    lambda r: f"Invoice no. {r.randrange(2020, 2027)}-{some(r, digits, 6)}, tracking {some(r, digits, 20)}",
    lambda r: f"part {some(r, digits, 3)}-{some(r, digits, 3)}-{some(r, digits, 3)} in stock",
    lambda r: f"ts={r.randrange(10**12, 2 * 10**12)} lag={r.randrange(99999)}",
    lambda r: (
        f"{r.randrange(2020, 2027)}-{r.randrange(1, 13):02}-{r.randrange(1, 29):02}T"
        f"{r.randrange(24):02}:{r.randrange(60):02}:{r.randrange(60):02}.{some(r, digits, 6)}+00:00"
    ),
    lambda r: f"color: #{some(r, HEX, 6)}; background: #{some(r, HEX, 8)};",
    _picture,
    lambda r: f"connect to 192.168.{r.randrange(256)}.{r.randrange(256)} or 10.{r.randrange(256)}.0.1",
    lambda r: f"listening on {r.choice(_NOWHERE)}:{r.randrange(1024, 65000)}",
    lambda r: f"write to {r.choice(WORDS)}@example.{r.choice(['com', 'org', 'net'])}",
    lambda r: f"loss 0.{some(r, digits, 16)} at step {r.randrange(10**6)}",
    lambda r: f"{r.randrange(10**9)} + {r.randrange(10**9)} = {r.randrange(10**10)}",
    lambda r: f"0x{some(r, HEX, 8)}: mov rax, 0x{some(r, HEX, 16)}",
    lambda r: f'ETag: "{some(r, HEX, 32)}"',
    lambda r: f"aws s3 cp s3://{r.choice(WORDS)}-backup/{some(r, HEX, 40)}.tar.gz .",
    lambda r: f"max_tokens={r.randrange(9999)}, token_count: {r.randrange(10**6)}, pad_token_id={r.randrange(50000)}",
    lambda r: f"session_id={_uuid(r)} user_id={r.randrange(10**9)}",
    lambda r: (
        f"layer.{r.randrange(30)}.{r.choice(WORDS)}_proj.weight torch.Size([{r.randrange(4096)}, {r.randrange(4096)}])"
    ),
    lambda r: f"{some(r, ascii_uppercase, 3)}-{r.randrange(9999)}: {r.choice(WORDS)} {r.choice(WORDS)} by Friday",
    lambda r: f"import {r.choice(WORDS)}_{some(r, ascii_lowercase, 8)} as {some(r, ascii_lowercase, 3)}",
    lambda r: (
        f"$1$ item {some(r, ALNUM, 8)} costs {r.randrange(999)}.{some(r, digits, 2)} EUR, "
        f"+{r.randrange(9)} % on {r.randrange(1, 29)}.{r.randrange(1, 13)}.{r.randrange(2020, 2027)}"
    ),
    lambda r: (
        f"diff --git a/x b/x\nindex {some(r, HEX, 7)}..{some(r, HEX, 7)} 100644\n"
        f"@@ -{r.randrange(99)},7 +{r.randrange(99)},9 @@\n+{r.randrange(10**5)} {r.randrange(10**3)}"
    ),
)


def negatives(random: Random, per_kind: int) -> Iterator[str]:
    """Clean texts of every kind."""
    for kind in _KINDS:
        for _ in range(per_kind):
            yield kind(random)
