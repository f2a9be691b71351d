"""Why a record is not used in a ritual: the reasons of the negative ledger, in the order in which they are checked; what to do."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """One reason; a record has the first that holds."""

    REVOKED = "revoked"  #: consent was withdrawn
    REPEATS_REVOKED = "repeats_revoked"  #: the same words as a revoked record
    CIRCLE = "circle"  #: its parents lead back to itself, so that nothing shows which answer is the correction
    SUPERSEDED = "superseded"  #: a consecrated correction of it exists
    UNCONSECRATED = "unconsecrated"  #: its owner has not vouched for it
    FILTERED = "filtered"  #: not what the intent asked for
    NO_CONSENT = "no_consent"  #: its owner consents to other purposes only
    LICENCE = "licence"  #: its licence is not among the accepted ones
    MALFORMED = "malformed"  #: not a conversation that ends in an answer or a call
    SLOW_PATTERN = "slow_pattern"  #: a pattern of its checks takes too long on its own answer
    SECRET = "secret"  #: holds a secret, and the policy is to quarantine
    PERSONAL = "personal"  #: holds personal data, and the policy is to quarantine
    DUPLICATE = "duplicate"  #: the same lesson is used under another id
    NEAR_DUPLICATE = "near_duplicate"  #: nearly the same lesson is used under another id
    CONTAMINATED = "contaminated"  #: shares a passage with a benchmark in use, or with the sealed holdout
    DISLIKED = "disliked"  #: a thumb down, where only good answers serve, or where another record contradicts it
    TOO_LONG = "too_long"  #: longer than a row may be
    CONTINUED = "continued"  #: a longer record goes on from it, and is trained in its answer too
    SESSION_SHARE = "session_share"  #: its session holds more of the karma than one session may
    SOURCE_SHARE = "source_share"  #: its source holds more of the karma than it may
    OVER_BUDGET = "over_budget"  #: newer karma fills the budget of tokens


#: What an owner can do about each reason. A policy fills the braces.
REMEDIES = {
    Reason.REVOKED: "their consent was withdrawn for good: other records are needed",
    Reason.REPEATS_REVOKED: "they have the words of a revoked record: other records are needed",
    Reason.CIRCLE: "each names the next as what it corrects, so that none is the last answer: revoke the wrong ones, or give the "
    "right one by `soulforge karma correct ID`",
    Reason.SUPERSEDED: "a correction takes their place",
    Reason.UNCONSECRATED: "vouch for those whose outcome was verified: `soulforge karma consecrate ID --by WHO`",
    Reason.FILTERED: "widen the intent's kinds, sources, since, until or query",
    Reason.NO_CONSENT: "their `purposes` do not name {policy.purpose}, which `harvest.purpose` in soulforge.toml asks for",
    Reason.LICENCE: "`harvest.licences` in soulforge.toml accepts {licences}: add theirs where it allows training",
    Reason.MALFORMED: "look at them: a conversation must end in the assistant's answer or call of a tool",
    Reason.SLOW_PATTERN: "write the patterns of their checks without repeats of repeats, such as (a+)+",
    Reason.SECRET: 'remove the secrets from them, or set `harvest.redaction.secrets = "redact"` in soulforge.toml',
    Reason.PERSONAL: 'set `harvest.redaction.personal = "redact"` in soulforge.toml',
    Reason.DUPLICATE: "the same words are trained once: records of other work are needed",
    Reason.NEAR_DUPLICATE: "nearly the same words are trained once: `harvest.likeness` in soulforge.toml sets how near",
    Reason.CONTAMINATED: "they hold a passage of a benchmark or of the sealed holdout: records of other work are needed",
    Reason.DISLIKED: "a thumb down is no right answer: `soulforge karma correct ID` gives one",
    Reason.CONTINUED: "a longer record goes on from each, and is trained in its answer too",
    Reason.SESSION_SHARE: "raise `harvest.shares.session` (now {policy.shares.session:g} of the rows) or `session_floor` (now "
    "{policy.shares.session_floor} rows) in soulforge.toml, or add other sessions",
    Reason.SOURCE_SHARE: "raise `harvest.shares.source` (now {policy.shares.source:g} of the rows) or their own share in "
    "`harvest.shares.sources` in soulforge.toml, or add other sources",
    Reason.TOO_LONG: "raise `harvest.lengths.row` (now {policy.lengths.row} tokens) in soulforge.toml",
    Reason.OVER_BUDGET: "raise `harvest.lengths.budget` (now {policy.lengths.budget} tokens) in soulforge.toml",
}
