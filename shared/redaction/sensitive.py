"""The classes of secret and personal data: the group of each, and the placeholder that replaces it."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Literal, NamedTuple

Group = Literal["secret", "personal"]


class Sensitive(StrEnum):
    """A class of text that must not enter weights. Where findings overlap, the class that comes first names the whole."""

    PRIVATE_KEY = "private_key"  #: PEM, OpenSSH, PGP or PuTTY block, from its first line to its last
    AWS_ACCESS_KEY_ID = "aws_access_key_id"
    AWS_SECRET_ACCESS_KEY = "aws_secret_access_key"
    GITHUB_TOKEN = "github_token"
    GITLAB_TOKEN = "gitlab_token"
    SLACK = "slack"  #: token or incoming webhook
    STRIPE_KEY = "stripe_key"
    OPENAI_KEY = "openai_key"
    ANTHROPIC_KEY = "anthropic_key"
    GOOGLE_KEY = "google_key"
    HUGGING_FACE_TOKEN = "hugging_face_token"
    NPM_TOKEN = "npm_token"
    PYPI_TOKEN = "pypi_token"
    SENDGRID_KEY = "sendgrid_key"
    TWILIO_KEY = "twilio_key"
    TELEGRAM_TOKEN = "telegram_token"
    DISCORD = "discord"  #: bot token or webhook
    AZURE_STORAGE_KEY = "azure_storage_key"
    SERVICE_TOKEN = "service_token"  #: token of any other service, by its form
    JWT = "jwt"
    URL_PASSWORD = "url_password"  #: the password in scheme://user:password@host
    AUTHORIZATION = "authorization"  #: the credentials of an HTTP Authorization header
    PASSWORD = "password"  #: what is assigned to a name such as `password`
    SECRET = "secret"  #: what is assigned to a name such as `api_key`, and looks random
    EMAIL = "email"
    CARD = "card"  #: payment card: issuer prefix, length and Luhn digit
    IBAN = "iban"
    NATIONAL_ID = "national_id"
    SSN = "ssn"  #: US social security number
    PHONE = "phone"
    WALLET = "wallet"  #: Bitcoin or Ethereum address
    IP_ADDRESS = "ip_address"  #: globally routed, v4 or v6

    @property
    def group(self) -> Group:
        return "personal" if self in PERSONAL else "secret"

    @property
    def placeholder(self) -> str:
        """What replaces it in a redacted text: its class, never its content."""
        return f"[{_LABELS.get(self, self.value.replace('_', ' '))}]"


PERSONAL = frozenset(
    {
        Sensitive.EMAIL, Sensitive.CARD, Sensitive.IBAN, Sensitive.NATIONAL_ID,
        Sensitive.SSN, Sensitive.PHONE, Sensitive.WALLET, Sensitive.IP_ADDRESS,
    }
)  # fmt: skip
_LABELS = {
    Sensitive.EMAIL: "e-mail",
    Sensitive.CARD: "card number",
    Sensitive.IBAN: "bank account",
    Sensitive.SSN: "social security number",
    Sensitive.PHONE: "phone number",
    Sensitive.WALLET: "wallet address",
    Sensitive.SLACK: "slack token",
    Sensitive.DISCORD: "discord token",
    Sensitive.URL_PASSWORD: "password",
    Sensitive.AUTHORIZATION: "credentials",
}
RANK = {sensitive: rank for rank, sensitive in enumerate(Sensitive)}
PLACEHOLDERS = {sensitive: sensitive.placeholder for sensitive in Sensitive}
PLACEHOLDER = re.compile("|".join(sorted({re.escape(placeholder) for placeholder in PLACEHOLDERS.values()})))


class Span(NamedTuple):
    """Where in a text something sensitive is, in characters."""

    start: int
    end: int
    sensitive: Sensitive


class Finding(NamedTuple):
    """What was found in a text: its class, and the very words."""

    sensitive: Sensitive
    value: str
