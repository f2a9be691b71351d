"""Why a record is not used in a ritual: the reasons of the negative ledger, in the order in which they are checked."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """One reason; a record has the first that holds."""

    REVOKED = "revoked"  #: consent was withdrawn
    REPEATS_REVOKED = "repeats_revoked"  #: the same words as a revoked record
    SUPERSEDED = "superseded"  #: a consecrated correction of it exists
    UNCONSECRATED = "unconsecrated"  #: its owner has not vouched for it
    FILTERED = "filtered"  #: not what the intent asked for
    NO_CONSENT = "no_consent"  #: its owner consents to other purposes only
    LICENCE = "licence"  #: its licence is not among the accepted ones
    MALFORMED = "malformed"  #: not a conversation that ends in an answer
    SLOW_PATTERN = "slow_pattern"  #: a pattern of its checks takes too long on its own answer
    SECRET = "secret"  #: holds a secret, and the policy is to quarantine
    PERSONAL = "personal"  #: holds personal data, and the policy is to quarantine
    DUPLICATE = "duplicate"  #: the same lesson is used under another id
    NEAR_DUPLICATE = "near_duplicate"  #: nearly the same lesson is used under another id
    CONTAMINATED = "contaminated"  #: shares a passage with a benchmark in use, or with the sealed holdout
    DISLIKED = "disliked"  #: a thumb down, where only good answers serve
    TOO_LONG = "too_long"  #: longer than a row may be
    CONTINUED = "continued"  #: a longer record goes on from it, and is trained in its answer too
    SESSION_SHARE = "session_share"  #: its session holds more of the karma than one session may
    SOURCE_SHARE = "source_share"  #: its source holds more of the karma than it may
    OVER_BUDGET = "over_budget"  #: newer karma fills the budget of tokens
