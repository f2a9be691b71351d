"""Messages that break what is careless."""

from __future__ import annotations

import json
from random import Random
from typing import Any
from uuid import uuid4

from shared.contracts.message import Message

MEBIBYTE = 1 << 20
OVERRIDES: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "there"}],
    "consecrated_by": "me",
    "why": "because",
}


def valid_body(contract: type[Message]) -> bytes:
    """The smallest body that the contract accepts, made from its schema."""
    schema = contract.model_json_schema()
    body = _example(schema, schema.get("$defs", {}))
    known = schema["properties"]
    body |= {name: value for name, value in OVERRIDES.items() if name in known and known[name].get("type") != "null"}
    return json.dumps(body).encode()


def _example(schema: dict[str, Any], defs: dict[str, Any]) -> Any:
    if reference := schema.get("$ref"):
        return _example(defs[reference.rpartition("/")[2]], defs)
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], defs)
    if "const" in schema or "enum" in schema:
        return schema.get("const") or schema["enum"][0]
    match schema.get("type"):
        case "object":
            wanted = schema.get("properties", {})
            return {name: _example(wanted[name], defs) for name in schema.get("required", ())}
        case "array":
            return [_example(schema["items"], defs) for _ in range(schema.get("minItems", 0))]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return str(uuid4()) if schema.get("format") == "uuid" else "scribe"


def poison_bodies(valid: bytes, random: Random) -> dict[str, bytes]:
    """Name -> body. Made from a valid body where that is more treacherous than nonsense."""
    values: dict[str, Any] = json.loads(valid)
    text = json.dumps(values)
    first = next(iter(values))
    return {
        "empty": b"",
        "white space": b" \r\n\t",
        "one NUL": b"\0",
        "random bytes": random.randbytes(200),
        "not JSON": b"persona=scribe",
        "truncated": valid[: random.randrange(1, len(valid) - 1)],
        "trailing text": valid + b"}",
        "two documents": valid + b"\n" + valid,
        "null": b"null",
        "true": b"true",
        "a number": b"7",
        "a text": json.dumps(text).encode(),
        "an array": b"[" + valid + b"]",
        "an empty object": b"{}" if values else b"[]",
        "unknown field": json.dumps({**values, "surprise": 1}).encode(),
        "NUL in an unknown field": json.dumps({**values, "sur\0prise": "\0"}).encode(),
        "wrong types": json.dumps({name: {"a": [None]} for name in values}).encode(),
        "nulls": json.dumps(dict.fromkeys(values)).encode(),
        "NUL in a text": json.dumps({**values, first: "geheimnis\0"}).encode(),
        "NUL in every text": json.dumps(dict.fromkeys(values, "\x00")).encode(),
        "raw NUL in JSON": valid[:-1] + b"\0}",
        "half a surrogate pair": json.dumps({**values, first: "\ud83d"}).encode(),
        "the other half": json.dumps({**values, first: "\udc00"}).encode(),
        "deep arrays": b"[" * 20_000 + b"]" * 20_000,
        "deep objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
        "deep arrays, open": b"[" * 100_000,
        "huge integer": json.dumps({**values, first: 1}).replace("1", "9" * 5000, 1).encode(),
        "huge exponent": (text[:-1] + ', "surprise": 1e999999}').encode(),
        "NaN": (text[:-1] + ', "surprise": NaN}').encode(),
        "minus Infinity": b"-Infinity",
        "1 MB of text": json.dumps({**values, first: "a" * (MEBIBYTE - 4096)}).encode()[: MEBIBYTE - 2048],
        "1 MB of bytes": b"\xff" * (MEBIBYTE - 2048),
        "UTF-16": text.encode("utf-16"),
        "Latin-1": json.dumps({**values, first: "grüße"}, ensure_ascii=False).encode("latin-1"),
        "BOM": b"\xef\xbb\xbf" + valid,
        "overlong UTF-8": valid.replace(b'"', b'"\xc0\xaf', 1),
        "same field twice": text.replace("{", '{"surprise": 1, "surprise": 2, ', 1).encode(),
        "comment": b"/* */" + valid,
        "single quotes": text.replace('"', "'").encode(),
        "gzip": b"\x1f\x8b\x08\x00" + random.randbytes(40),
    }


def poison_headers(random: Random) -> dict[str, bytes]:
    """Name -> a header block as it goes over the wire; the server checks none of it."""
    lines: dict[str, bytes] = {
        "NUL in a value": b"X-From: a\0b",
        "NUL in the message id": b"Nats-Msg-Id: a\0%b" % random.randbytes(4).hex().encode(),
        "NUL in a name": b"X\0From: a",
        "not UTF-8": b"X-From: \xff\xfe\xc0",
        "message id not UTF-8": b"Nats-Msg-Id: \xff%b" % random.randbytes(4).hex().encode(),
        "name not ASCII": b"X-Fr\xf6m: a",
        "surrogates as UTF-8": b"X-From: \xed\xa0\xbd",
        "empty name": b": value",
        "empty value": b"X-From:",
        "no colon": b"nonsense",
        "huge value": b"X-From: " + b"a" * 60_000,
        "many": b"\r\n".join(b"X-%d: %d" % (n, n) for n in range(3000)),
        "duplicate": b"X-From: a\r\nX-From: b",
        "long message id": b"Nats-Msg-Id: " + random.randbytes(8000).hex().encode(),
        "malformed traceparent": b"traceparent: 00-xyz",
        "traceparent with NUL": b"traceparent: 00-\0",
        "wrong Content-Type": b"Content-Type: image/png",
        "text Content-Type": b"content-type: text/plain",
        "JSON Content-Type": b"content-type: application/json; charset=utf-7",
        "Content-Type not UTF-8": b"content-type: \xff",
        "bad reply subject": b"reply_to: a b..c",
        "reply subject with a wildcard": b"reply_to: >",
        "correlation id with NUL": b"correlation_id: \0",
        "message_id with NUL": b"message_id: \0",
        "status 503": b"Status: 503",
        "status 100": b"Status: 100\r\nDescription: Idle Heartbeat",
        "status without text": b"Status: 409",
        "odd status": b"Status: none",
        "escape sequences": b"X-From: \x1b[2J\x1b]0;title\x07",
        "folded": b"X-From: a\r\n b",
        "bare line feeds": b"X-From: a\nX-To: b\n",
    }
    blocks = {name: b"NATS/1.0\r\n" + block + b"\r\n\r\n" for name, block in lines.items()}
    return blocks | {
        "no line": b"NATS/1.0\r\n\r\n",
        "no version": b"X-From: a\r\n\r\n",
        "one byte": b"N",
        "only the version": b"NATS/1.0",
        "no end": b"NATS/1.0\r\nX-From: a",
        "inline status 503": b"NATS/1.0 503\r\n\r\n",
        "inline status 100": b"NATS/1.0 100 Idle Heartbeat\r\n\r\n",
        "inline status 404 with text": b"NATS/1.0 404 No Messages\r\n\r\n",
        "inline status 409 with lines": b"NATS/1.0 409 Consumer Deleted\r\nX-From: a\r\n\r\n",
        "inline status not UTF-8": b"NATS/1.0 \xff\xfe\xfd\r\n\r\n",
        "inline text not UTF-8": b"NATS/1.0 500 \xff\r\n\r\n",
        "random bytes": random.randbytes(60),
    }
