"""What its owner wants done with secrets and personal data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.contracts.frozen import Frozen
from shared.redaction.sensitive import Sensitive

Action = Literal["quarantine", "redact", "keep"]

#: Public resolvers, which everybody's notes are full of.
RESOLVERS = ("1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9", "2606:4700:4700::1111", "2001:4860:4860::8888")
#: Reserved for documentation and tests by RFC 2606 and RFC 6761: no one's address.
DOCUMENTATION_DOMAINS = (
    "example.com",
    "example.net",
    "example.org",
    "example.edu",
    "example",
    "test",
    "invalid",
    "localhost",
)


class RedactionPolicy(Frozen):
    """Per class of text: hold the record back, put a placeholder in its place, or leave it.

    The default suits one person's own karma: a record with a secret is held back, since what surrounds a secret
    is seldom worth a lesson; personal data become placeholders.
    """

    secrets: Literal["quarantine", "redact"] = Field("quarantine", description="Secrets; they are never kept.")
    personal: Action = Field("redact", description="Personal data.")
    overrides: tuple[tuple[Sensitive, Action], ...] = Field(
        (), description="Another action for single classes; a secret that is to be kept must be named here."
    )
    allow: tuple[str, ...] = Field(
        RESOLVERS, description="Never reported, whole and in any case of letters, e.g. the owner's public address."
    )
    allow_domains: tuple[str, ...] = Field(
        DOCUMENTATION_DOMAINS, description="E-mail addresses at these domains and below them are never reported."
    )
    phone_regions: tuple[str, ...] = Field(
        ("US", "GB", "DE"),
        description="ISO 3166 codes, in this order, in which a number without country code is read where its context "
        "names it as a phone number.",
    )

    def action(self, sensitive: Sensitive) -> Action:
        """What is to be done with a finding of this class."""
        named = dict(self.overrides).get(sensitive)
        return named or (self.secrets if sensitive.group == "secret" else self.personal)
