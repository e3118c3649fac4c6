"""A mail that came to us, read within bounds: a tree of parts whose headers and texts can be asked for. Total: any bytes give a tree.

Own reader, not the standard library's: that one recurses as deep as the sender likes and rescans a part for each level. Here depth,
parts, headers and decoded text are capped, and what lies beyond a cap is left out.
"""

from __future__ import annotations

import binascii
import codecs
import contextlib
import quopri
import re
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: a bounce returns at most the message it is about; more is cut off, since what matters stands first
MAIL_BYTES: Final = 10 * 1024 * 1024
DEPTH: Final = 8
PARTS: Final = 100
HEADERS: Final = 500
HEADER_LENGTH: Final = 8_000
#: of one name: they are searched for addresses and encoded-words, and none that is looked at stands in a mail more often
REPEATS: Final = 20
#: of one part, decoded: no report that people or programs read is longer
TEXT_BYTES: Final = 200_000

_PARAMETER: Final = re.compile(r';\s*([a-z0-9*_-]{1,40})\s*=\s*(?:"([^"]{0,300})"|([^\s;"]{1,300}))', re.IGNORECASE)
_FIELD: Final = re.compile(rb"([!-9;-~]{1,100})[ \t]*:[ \t]*(.*)", re.DOTALL)
_ADDRESS: Final = re.compile(
    r"[^\s@<>()\[\]\",;:\\]{1,128}@[a-z0-9\u0080-\uffff_-]{1,63}(?:\.[a-z0-9\u0080-\uffff_-]{1,63})*", re.IGNORECASE
)
_MESSAGE_ID: Final = re.compile(r"<[^<>\s]{1,300}>")
_BRACKETED: Final = re.compile(r"<([^<>]{3,320})>")
_ASIDES: Final = re.compile(r'"[^"]{0,500}"|\([^()]{0,500}\)')
_TRIM: Final = ".'`*"
_BLOCK_TAG: Final = re.compile(r"<(?:br|p|/p|div|/div|tr|/tr|li|h\d|/h\d|/td|pre|/pre)\b[^<>]{0,500}>", re.IGNORECASE)
# some reports write an address in its brackets into HTML as it is
_TAG: Final = re.compile(r"<(?![^<>\s]{1,128}@[^<>\s]{1,255}>)[a-z/!][^<>]{0,2000}>", re.IGNORECASE)
_ENTITIES: Final = (("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", " "), ("&quot;", '"'), ("&#64;", "@"), ("&#39;", "'"), ("&amp;", "&"))
_BLANKS: Final = re.compile(r"\s+")
#: of domain names (their time grows with the square of the length) and of Python's own source text, which warns of what it reads
_NOT_FOR_TEXTS: Final = frozenset({"punycode", "idna", "unicode-escape", "raw-unicode-escape"})


@dataclass(frozen=True, slots=True)
class Part:
    """A mail or a part of one. `headers` in order, names in lower case; `body` still encoded; `parts` of a multipart or message."""

    headers: tuple[tuple[str, str], ...]
    body: bytes
    parts: tuple[Part, ...] = ()
    content_type: str = "text/plain"

    def header(self, name: str) -> str:
        """The first header of that name on one line, encoded-words decoded; "" if there is none."""
        return next(self.all(name), "")

    def all(self, name: str) -> Iterator[str]:
        """The headers of that name, REPEATS at most."""
        return (words(value) for value in islice((value for found, value in self.headers if found == name), REPEATS))

    def has(self, name: str) -> bool:
        """Tell whether there is one, be it empty."""
        return any(found == name for found, _ in self.headers)

    def walk(self) -> Iterator[Part]:
        """This part and all below, as they stand in the mail."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def text(self) -> str:
        """The body decoded; of HTML the words. At most TEXT_BYTES are looked at."""
        raw = _decoded(self.body, self.header("content-transfer-encoding").strip().lower())
        text = _in_charset(raw, parameters(self.header("content-type")).get("charset", ""))
        return html_words(text) if self.content_type == "text/html" else text.replace("\r\n", "\n").replace("\r", "\n")


def read(raw: bytes, limit: int = MAIL_BYTES) -> Part:
    """Read a mail, or the first `limit` octets of it; blank lines before its headers are not its end."""
    return _part(raw[:limit].lstrip(), "text/plain", 0, [PARTS])


def headers_only(quoted: str) -> Part:
    """Read the headers of a mail that somebody quoted."""
    headers, _ = _split(quoted.encode("utf-8", "replace")[:TEXT_BYTES])
    return Part(headers, b"")


def parameters(header: str) -> dict[str, str]:
    """The parameters of a Content-Type, names in lower case."""
    return {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(header[:HEADER_LENGTH])}


def words(value: str) -> str:
    """One line, with RFC 2047's encoded-words decoded where they can be."""
    if "=?" in value:
        with contextlib.suppress(HeaderParseError, ValueError, LookupError):
            pieces = decode_header(value)
            value = "".join(piece if isinstance(piece, str) else _in_charset(piece, charset or "latin-1") for piece, charset in pieces)
    return _BLANKS.sub(" ", value).strip()


def address(text: str) -> str:
    """The one address in a field, lower case, "" for none or several: in angle brackets if there are any."""
    found = set(addresses(text))
    return found.pop() if len(found) == 1 else ""


def addresses(text: str) -> list[str]:
    """Every address of a field, lower case: those in angle brackets if there are any, else those in no quoted name or comment."""
    cut = text[:HEADER_LENGTH]
    places = _BRACKETED.findall(cut) or [_ASIDES.sub(" ", cut)]
    found = (match.group().strip(_TRIM).lower() for place in places for match in _ADDRESS.finditer(place))
    return [one for one in found if not one.startswith("@")]  # of quotes and dots alone before it nothing is left


def message_ids(text: str) -> list[str]:
    """Every Message-ID of a field, in its angle brackets."""
    return _MESSAGE_ID.findall(text)


def html_words(text: str) -> str:
    """The words of HTML, a line for each block."""
    text = _TAG.sub("", _BLOCK_TAG.sub("\n", _without(text, "style", "script", "head")))
    for name, character in _ENTITIES:
        text = text.replace(name, character)
    return text


def _without(text: str, *elements: str) -> str:
    for element in elements:
        kept, at, lower = [], 0, text.lower()
        while (start := lower.find(f"<{element}", at)) >= 0 and (stop := lower.find(f"</{element}", start)) >= 0:
            kept.append(text[at:start])
            end = lower.find(">", stop)
            at = len(text) if end < 0 else end + 1
        text = "".join((*kept, text[at:]))
    return text


def _part(raw: bytes, default: str, depth: int, left: list[int]) -> Part:
    left[0] -= 1
    headers, body = _split(raw)
    field = next((value for name, value in headers if name == "content-type"), default)
    kind = field.partition(";")[0].strip().lower() or default
    parts: list[Part] = []
    if depth < DEPTH and kind.startswith("multipart/"):
        child = "message/rfc822" if kind == "multipart/digest" else "text/plain"
        for piece in _pieces(body, parameters(field).get("boundary", "")):
            if left[0] <= 0:
                break
            parts.append(_part(piece, child, depth + 1, left))
    elif depth < DEPTH and kind in {"message/rfc822", "message/global", "message/partial"} and left[0] > 0:
        parts.append(_part(_message_body(headers, body), "text/plain", depth + 1, left))
    return Part(headers, body, tuple(parts), kind)


def _message_body(headers: tuple[tuple[str, str], ...], body: bytes) -> bytes:
    encoding = next((value for name, value in headers if name == "content-transfer-encoding"), "").strip().lower()
    return (_decoded(body, encoding) if encoding in {"base64", "quoted-printable"} else body).lstrip(b"\r\n")


def _split(raw: bytes) -> tuple[tuple[tuple[str, str], ...], bytes]:
    """Cut headers from body at the first empty line, or at the first line that is neither a header nor its continuation."""
    found: list[tuple[str, str]] = []
    at = 0
    end = len(raw)
    current: bytearray | None = None
    while at < end:
        stop = raw.find(b"\n", at)
        stop = end if stop < 0 else stop + 1
        line = raw[at:stop].rstrip(b"\r\n")
        if not line.strip():
            at = stop
            break
        if line[:1] in b" \t" and current is not None:
            if len(current) < HEADER_LENGTH:
                current += b" " + line.strip()[:HEADER_LENGTH]
        elif at == 0 and line.startswith((b"From ", b">From ")):
            pass
        elif _FIELD.match(line[:HEADER_LENGTH]) and len(found) < HEADERS:
            if current is not None:
                found.append(_named(current))
            current = bytearray(line[:HEADER_LENGTH])
        elif len(found) < HEADERS:
            break
        at = stop
    if current is not None:
        found.append(_named(current))
    return tuple(found), raw[at:]


def _named(field: bytearray) -> tuple[str, str]:
    name, _, value = bytes(field).partition(b":")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return name.decode("ascii").strip().lower(), text.strip()


def _pieces(body: bytes, boundary: str) -> Iterator[bytes]:
    if not boundary:
        return
    delimiter = b"--" + boundary.encode("utf-8", "replace")
    at = _delimiter(body, delimiter, 0)
    while at >= 0:
        line_end = body.find(b"\n", at)
        if line_end < 0 or body.startswith(b"--", at + len(delimiter)):
            return
        following = _delimiter(body, delimiter, line_end)
        yield body[line_end + 1 : following if following >= 0 else len(body)]
        at = following


def _delimiter(body: bytes, delimiter: bytes, start: int) -> int:
    """Where the next delimiter stands at the start of a line; -1 for nowhere."""
    at = body.find(delimiter, start)
    while at > 0 and body[at - 1 : at] != b"\n":
        at = body.find(delimiter, at + 1)
    return at


def _decoded(body: bytes, encoding: str) -> bytes:
    if encoding == "base64":
        letters = re.sub(rb"[^A-Za-z0-9+/]", b"", body[: TEXT_BYTES * 2])
        try:
            return binascii.a2b_base64(letters[: len(letters) // 4 * 4 or None] + b"==")[:TEXT_BYTES]
        except binascii.Error:
            return b""
    if encoding == "quoted-printable":
        return quopri.decodestring(body[: TEXT_BYTES * 2])[:TEXT_BYTES]
    return body[:TEXT_BYTES]


def _in_charset(raw: bytes, charset: str) -> str:
    if raw.count(b"\0") * 4 > len(raw) and not charset:
        charset = "utf-16"
    for name in (charset, "utf-8"):
        try:
            if name and codecs.lookup(name).name in _NOT_FOR_TEXTS:
                continue
            return raw.decode(name) if name else raw.decode()
        except (LookupError, ValueError, TypeError):
            continue
    return raw.decode("latin-1")
