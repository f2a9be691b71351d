"""The form of an upload, parsed as it arrives: small fields, and one file whose bytes go on at once."""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.gateway.errors import Refusal
from shared.contracts.visible import visible

FILE, PURPOSE, EXPIRY = "file", "purpose", "expires_after"
FINE_TUNE = "fine-tune"
LARGEST_FIELD = 1024
LONGEST_NAME = 255


class Form:
    """`multipart/form-data` with the fields of `POST /v1/files`. Its methods raise Refusal."""

    def __init__(self, content_type: bytes) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise _invalid("send multipart/form-data with its boundary, as OpenAI's clients do")
        self.filename: str | None = None
        self._fields = set[str]()
        self._ended = False
        self._header, self._value, self._headers = bytearray(), bytearray(), dict[bytes, bytes]()
        self._name, self._field, self._file = "", bytearray(), bytearray()
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin,
                    "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open_part,
                    "on_part_data": self._add,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _invalid(str(error)) from None

    def feed(self, data: bytes) -> bytes:
        """Parse a piece of the body; returns the bytes of the file in it."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _invalid(str(error)) from None
        found, self._file = bytes(self._file), bytearray()
        return found

    def finish(self) -> str:
        """Check that the form is whole; returns the name of its file."""
        if not self._ended:
            raise _invalid("it ends before its last boundary")
        if self.filename is None:
            raise Refusal(400, "missing_field", "the form has no file", param=FILE)
        if PURPOSE not in self._fields:
            raise Refusal(400, "missing_field", f"the form has no purpose: {FINE_TUNE}", param=PURPOSE)
        return self.filename

    def _begin(self) -> None:
        self._headers = {}
        self._field = bytearray()

    def _end_header(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _open_part(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = _text(options.get(b"name"), "a part without a name")
        if self._name not in (FILE, PURPOSE):
            raise _unsupported(self._name.partition("[")[0][:40])
        if self._name in self._fields:
            raise Refusal(400, "repeated_field", f"{self._name} comes twice", param=self._name, unread=True)
        self._fields.add(self._name)
        if self._name == FILE:
            if b"filename" not in options:
                raise Refusal(
                    400, "invalid_file", "file: expected a file with its name, not text", param=FILE, unread=True
                )
            self.filename = visible(_text(options[b"filename"], ""))[:LONGEST_NAME] or FILE

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE:
            self._file += data[start:end]
            return
        self._field += data[start:end]
        if len(self._field) > LARGEST_FIELD:
            raise _invalid(f"a field has more than {LARGEST_FIELD} bytes")

    def _end_part(self) -> None:
        if self._name != FILE:
            _expect_fine_tune(_text(bytes(self._field), ""))

    def _end(self) -> None:
        self._ended = True


def _expect_fine_tune(purpose: str) -> None:
    if purpose != FINE_TUNE:
        message = f"purpose {purpose[:40]!r}: files are taken for {FINE_TUNE} only"
        raise Refusal(400, "unsupported_purpose", message, param=PURPOSE, unread=True)


def _unsupported(name: str) -> Refusal:
    why = "a file is kept until it is deleted" if name == EXPIRY else f"unknown, a form has {FILE} and {PURPOSE}"
    return Refusal(400, "unsupported_parameter", f"{name}: {why}", param=name, unread=True)


def _text(value: bytes | None, missing: str) -> str:
    if value is None:
        raise _invalid(missing)
    try:
        return visible(value.decode())
    except UnicodeDecodeError:
        raise _invalid("a name or a field is not UTF-8") from None


def _invalid(why: str) -> Refusal:
    return Refusal(400, "invalid_form", f"the form cannot be read: {why}", unread=True)
