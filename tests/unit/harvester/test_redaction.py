"""Secrets and personal data: found wherever they stand, gone afterwards, and nothing else touched."""

from __future__ import annotations

import itertools
import json
from functools import partial
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.redaction import names
from shared.redaction.examine import examine
from shared.redaction.fold import fold
from shared.redaction.policy import RedactionPolicy
from shared.redaction.scanner import RECOGNISERS, Scanner, redact
from shared.redaction.sensitive import PLACEHOLDER, Sensitive, Span
from tests.support.corpora.sensitive import samples
from tests.support.corpora.values import draw

SCANNER = Scanner(RedactionPolicy())
ANOTHER = Scanner(RedactionPolicy())
HUNTER = "hun" + "ter2"
MAIL = "dana.otter" + "@" + "maplewood.io"
ADDRESS = "93.184" + ".216.34"
KEY_BLOCK = draw(Random(1), Sensitive.PRIVATE_KEY)


def found(text: str, policy: RedactionPolicy | None = None) -> list[tuple[str, Sensitive]]:
    scanner = Scanner(policy) if policy else SCANNER
    return [(text[start:end], sensitive) for start, end, sensitive in scanner.find(text)]


def texts(seed: int) -> list[str]:
    return [json.dumps(sample.message, ensure_ascii=False) for sample in samples(seed)]


def fragments() -> st.SearchStrategy[str]:
    """Texts that come near to being sensitive: values and what announces them, cut and mixed with anything."""
    values = st.builds(lambda seed, kind: draw(Random(seed), kind), st.integers(0, 10**6), st.sampled_from(Sensitive))
    words = st.sampled_from(
        [
            "password",
            " = ",
            ": ",
            '"',
            "'",
            "\n",
            " is ",
            "token",
            "Bearer ",
            "call me at ",
            "://u:",
            "@",
            "+49",
            "IBAN ",
            "\\n",
            "[e-mail]",
            "\u00a0",
            "\u200b",
            "：",
            "密码",
            "e\u0301",
            " | ",
            ",password\n",
            "v1.",
        ]
    )
    return st.lists(st.one_of(values, words, st.text(max_size=12)), max_size=8).map("".join)


def _kind(number: int) -> object:
    """Recognisers of assignments and tables remember one text together: whichever was asked, the others answer too."""
    found = RECOGNISERS[number].find
    return found.func if isinstance(found, partial) else found


@given(fragments())
@example("db:5432:shop:möwe:k9Wq2LmZt7")
@settings(max_examples=600, deadline=None)
def test_what_the_first_pass_lets_by_no_recogniser_would_have_found(text: str) -> None:
    folded = fold(text).text
    asked = {n for n in SCANNER._asked(folded) if n < len(RECOGNISERS)}

    would = {n for n, r in enumerate(RECOGNISERS) if any(True for _ in r.find(folded, SCANNER.policy))}

    assert {_kind(n) for n in would} <= {_kind(n) for n in asked}
    assert SCANNER.suspicious(text) or not SCANNER.find(text)


def test_one_pass_over_a_whole_row_of_json_lets_nothing_by_that_a_look_at_its_strings_finds() -> None:
    for sample in samples(4):
        for form in (json.dumps(sample.message), json.dumps(sample.message, ensure_ascii=False)):
            assert SCANNER.suspicious(form) or not examine(sample.message, SCANNER).found


NAMES = [
    "PASSWORD",
    "paſſword",
    "wı-fi key",
    "Token",
    "encryption key",
    "contraseña",
    "pin",
    "İ",
    "密码",
    "Пароль",
    "ПАРОЛЬ",
    "Şifre",
    "twitter",
    "ＰＷＤ",
    "my-",
    "x" * 60,
    "a_",
    "9",
]
ASSIGNED = st.builds(
    lambda names, sign, value: "".join(names) + sign + value,
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3),
    st.sampled_from([" = ", ": '", "=", " is ", "  ", "\n"]),
    st.sampled_from(["Xy7!abcd", "token: abcd", "pass", "'", ""]),
)


@given(st.lists(st.one_of(ASSIGNED, fragments()), max_size=6).map("".join))
@example(f"{'x' * 60}encryption key = q9q9q9")
@example("pın: 'Xy7!abcd'")
@example("paſſword: 'Xy7!abcd'")
@example(f"{'İ' * 90} password = Xy7!abcd")
@example("token = Xy7!abcd")
@settings(max_examples=1000, deadline=None)
def test_telling_words_are_found_where_a_search_of_the_whole_text_finds_them(text: str) -> None:
    folded = fold(text).text

    assert list(names.find_words(folded)) == [match.span() for match in names.WORD.finditer(folded)]


@given(fragments())
@settings(max_examples=600, deadline=None)
def test_to_redact_twice_changes_nothing_more(text: str) -> None:
    once, _ = SCANNER.clean(text)

    assert SCANNER.clean(once) == (once, ())
    assert SCANNER.find(once) == ()


@given(fragments())
@settings(max_examples=300, deadline=None)
def test_findings_stand_in_order_within_the_text_and_apart(text: str) -> None:
    spans = SCANNER.find(text)

    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(left.end <= right.start for left, right in itertools.pairwise(spans))
    assert ANOTHER.find(text) == spans


@given(
    st.recursive(
        st.none() | st.integers() | fragments(),
        lambda v: st.lists(v, max_size=3) | st.dictionaries(fragments(), v, max_size=3),
        max_leaves=6,
    )
)
@example(f"\x1f{MAIL}")
@example(4_869_798_721_530)
@example([f"password {KEY_BLOCK}", 1000])
@example({draw(Random(0), Sensitive.PRIVATE_KEY): [1000, draw(Random(1), Sensitive.AWS_ACCESS_KEY_ID) + "IBAN "]})
@example({f"v1.{MAIL}": ADDRESS})
@settings(max_examples=200, deadline=None)
def test_arguments_of_a_call_stay_json_and_a_second_look_finds_nothing(arguments: object) -> None:
    message = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": json.dumps(arguments)}}]}

    once = examine(message, SCANNER)

    json.loads(once.values["tool_calls"][0]["function"]["arguments"])
    again = examine(once.values, SCANNER)
    assert not again.found
    assert again.values == once.values


def test_a_password_is_found_by_its_name_alone_in_the_arguments_of_a_call() -> None:
    arguments = json.dumps({"host": "db", "password": HUNTER, "note": f"the password is {HUNTER}"})
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "login", "arguments": arguments}}],
    }

    result = examine({"messages": [message]}, SCANNER)

    call = result.values["messages"][0]["tool_calls"][0]["function"]
    assert json.loads(call["arguments"]) == {
        "host": "db",
        "password": "[password]",
        "note": "the password is [password]",
    }
    assert result.found == {Sensitive.PASSWORD: 2}
    assert message["tool_calls"][0]["function"]["arguments"] == arguments


def test_names_values_keys_and_numbers_are_looked_at_like_text() -> None:
    card = int("4" + "1" * 15)
    values = {
        "name": MAIL,
        "env": [{"name": "DB_PASSWORD", "value": HUNTER}],
        MAIL: 1,
        "card": card,
        "n": 12,
        "yes": True,
        "none": None,
    }

    result = examine(values, SCANNER)

    assert result.values["env"] == [{"name": "DB_PASSWORD", "value": "[password]"}]
    assert result.values["name"] == "[e-mail]" and result.values["[e-mail]"] == 1
    assert (result.values["n"], result.values["yes"], result.values["none"]) == (12, True, None)
    assert result.values["card"] == "[card number]"
    assert MAIL not in json.dumps(result.values)


def test_two_keys_with_one_placeholder_both_stay() -> None:
    result = examine({MAIL: 1, "x" + MAIL: 2, "y" + MAIL: 3}, SCANNER)

    assert result.values == {"[e-mail]": 1, "[e-mail] 2": 2, "[e-mail] 3": 3}


def test_a_key_that_stands_twice_hides_nothing() -> None:
    arguments = f'{{"password": "{HUNTER}", "password": "none"}}'

    result = examine({"arguments": arguments}, SCANNER)

    assert HUNTER not in result.values["arguments"]
    json.loads(result.values["arguments"])


def test_what_is_nested_too_deeply_to_be_read_is_held_back() -> None:
    nested: object = MAIL
    for _ in range(500):
        nested = [nested]

    result = examine({"arguments": nested}, SCANNER)

    assert result.quarantined and result.unread and MAIL not in str(result.values)


def test_by_default_a_secret_holds_the_record_back_and_personal_data_become_placeholders() -> None:
    mail, secret, clean = (examine(text, SCANNER) for text in (f"to {MAIL}", f'password = "{HUNTER}"', "Note | boiler"))

    assert (mail.decision, mail.values) == ("redacted", "to [e-mail]")
    assert (secret.decision, secret.values) == ("quarantined", 'password = "[password]"')
    assert (clean.decision, clean.values, clean.found) == ("clean", "Note | boiler", {})


def test_the_policy_decides_per_group_and_per_class() -> None:
    policy = RedactionPolicy(secrets="redact", personal="keep", overrides=((Sensitive.PHONE, "quarantine"),))
    scanner = Scanner(policy)

    assert examine(f'{MAIL} password = "{HUNTER}"', scanner).values == f'{MAIL} password = "[password]"'
    assert examine(f'password = "{HUNTER}"', scanner).decision == "redacted"
    assert examine("call +49 30 23125" + "000", scanner).decision == "quarantined"


def test_what_its_owner_allows_is_never_reported() -> None:
    assert found(MAIL) == [(MAIL, Sensitive.EMAIL)]
    assert found(MAIL, RedactionPolicy(allow=(MAIL.upper(),))) == []
    assert found(MAIL, RedactionPolicy(allow_domains=("maplewood.io",))) == []
    assert found("8.8.8.8 and someone@example.com") == []


def test_the_whole_block_of_a_private_key_is_one_finding() -> None:
    for text in (f"here:\n{KEY_BLOCK}\nthanks", json.dumps(KEY_BLOCK), KEY_BLOCK[:200]):
        (span,) = SCANNER.find(text)
        assert span.sensitive is Sensitive.PRIVATE_KEY
        assert "=" not in redact(text, (span,)) and len(redact(text, (span,))) < 30


def test_findings_that_overlap_become_one_that_covers_both() -> None:
    token = draw(Random(1), Sensitive.GITHUB_TOKEN)

    assert found(f'password = "{token}/{HUNTER}"') == [(f"{token}/{HUNTER}", Sensitive.GITHUB_TOKEN)]


def test_offsets_count_characters_not_bytes() -> None:
    assert found(f"Grüße, „Łukasz“ 🙂 {MAIL}") == [(MAIL, Sensitive.EMAIL)]


def test_a_lone_surrogate_stops_no_one() -> None:
    assert found(f"\ud800 {MAIL}") == [(MAIL, Sensitive.EMAIL)]


def test_national_numbers_are_read_in_the_configured_regions_only() -> None:
    text = "Handy: 0151 2" + "3456789"

    assert [c for _, c in found(text)] == [Sensitive.PHONE]
    assert found(text, RedactionPolicy(phone_regions=("US",))) == []


def test_a_version_is_no_address_but_an_address_beside_a_version_is() -> None:
    assert found("upgraded opencv to version 4.8.0.76") == []
    assert found(f"version 2 runs on host {ADDRESS}") == [(ADDRESS, Sensitive.IP_ADDRESS)]


def test_redact_puts_the_placeholder_of_its_class_in_each_place() -> None:
    assert redact("abcdef", (Span(0, 2, Sensitive.EMAIL), Span(4, 6, Sensitive.JWT))) == "[e-mail]cd[jwt]"
    assert all(PLACEHOLDER.fullmatch(s.placeholder) for s in Sensitive)


def test_the_dump_of_a_policy_is_stable_and_reads_back() -> None:
    policy = RedactionPolicy(overrides=((Sensitive.EMAIL, "keep"),))

    assert RedactionPolicy.model_validate_json(policy.model_dump_json()) == policy
    assert policy.model_dump_json() == policy.model_copy().model_dump_json()


def test_a_placeholder_is_never_taken_for_a_part_of_something_sensitive() -> None:
    assert SCANNER.find("redis://u:ab[e-mail]cd@cache/0") == ()


@pytest.mark.parametrize("text", [MAIL, MAIL.upper(), MAIL.replace("maple", "7ahorn"), MAIL.replace("maple", "möwe")])
def test_an_address_is_found_in_any_letters(text: str) -> None:
    assert found(f"to {text}, please") == [(text, Sensitive.EMAIL)]


def test_an_address_and_a_password_in_one_url_are_two_findings() -> None:
    for address in (MAIL, MAIL.replace("@", "%40")):
        text = f"smtp://{address}:q7Ka2mVx91@smtp.acme.io"
        assert found(text) == [(address, Sensitive.EMAIL), ("q7Ka2mVx91", Sensitive.URL_PASSWORD)]


def test_a_copula_of_polish_is_no_preposition_before_a_password_with_a_sign_of_assignment() -> None:
    assert found("Hasło to Ginger=2167q") == [("Ginger=2167q", Sensitive.PASSWORD)]
    assert found("password to shop = k9Wq2LmZt7") == [("k9Wq2LmZt7", Sensitive.PASSWORD)]


def test_escapes_of_a_json_document_do_not_hide_what_they_stand_for() -> None:
    escaped = json.dumps({"to": MAIL}).replace("@", "\\u0040")

    assert SCANNER.suspicious(escaped)
    assert SCANNER.suspicious(r'{"url": "redis:\/\/u:x' + r'y12@cache"}')
    assert examine({"arguments": escaped}, SCANNER).values == {"arguments": '{"to": "[e-mail]"}'}
