"""How text becomes MIME: header lines, addresses, bodies, parts. Strict, because every value here came from a row.

Owns the encodings (RFC 2045, 2047, 2231, 5322, 6531) and one refusal, RenderError. Promises that what it returns holds
CR and LF only as the line ends it meant, no line over 998 octets, and nothing that a reader could decode into more than
the value it was given. Knows nothing of messages: rendering.py decides what is said, this module how.
"""

from __future__ import annotations

import binascii
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import idna

if TYPE_CHECKING:
    from collections.abc import Sequence

#: RFC 5322 2.1.1: a line should fit 78 characters and must fit 998, both without its CRLF.
LINE: Final = 78
LINE_MAX: Final = 998
#: RFC 2047 2: a line that holds an encoded-word fits 76 characters, the word itself 75.
ENCODED_LINE: Final = 76
ENCODED_WORD: Final = 75
ENCODED_FRAME: Final = len("=?utf-8?q??=")
#: Above it a header's name leaves no room for an encoded-word beside it.
LONG_NAME: Final = 50
#: Above it a display name becomes encoded-words, which fold anywhere; a quoted string must not be cut.
QUOTED_NAME_MAX: Final = 60

_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_FILENAME_SAFE: Final = re.compile(r'[^"\\<>]+')
_WORDS: Final = re.compile(r" *[^ ]+")

_ATEXT: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
# As RFC 6531 extends atext: what is neither ASCII punctuation nor a control, a space, a mark that cannot be seen or a surrogate.
_UTEXT: Final = (
    r"[^\x00-\x20\"(),.:;<>@\[\\\]\x7f-\xa0\xad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ud800-\udfff\ufeff]+"
)
# With the underscore, which no host name has and some mail domains do.
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ADDRESS: Final = re.compile(rf"(?=[^@]{{1,64}}@){_ATEXT}(?:\.{_ATEXT})*@{_LABEL}(?:\.{_LABEL})*")
_LOCAL_UTF8: Final = re.compile(rf"{_UTEXT}(?:\.{_UTEXT})*")
_ATOMS: Final = re.compile(rf"{_ATEXT}(?: {_ATEXT})*")
_ADDRESS_MAX: Final = 254  # RFC 5321 4.5.3.1.3: a path of 256 octets without its angle brackets
_LOCAL_MAX: Final = 64
_DOMAIN_MAX: Final = 253

_Q_SAFE: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!*+-/"
_Q: Final = [chr(octet) if octet in _Q_SAFE else f"={octet:02X}" for octet in range(256)]
_Q[0x20] = "_"
_UTF8_CONTINUATION: Final = range(0x80, 0xC0)  # octets that begin no character
# RFC 5987 attr-char, what stands for itself in an RFC 2231 value
_PERCENT_SAFE: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$&+-.^_`|~"
_PERCENT: Final = [chr(octet) if octet in _PERCENT_SAFE else f"%{octet:02X}" for octet in range(256)]

_HARMLESS: Final = bytes(octet for octet in range(256) if octet not in b"\r\n\0")
_PLAIN: Final = b"\t\n" + bytes(range(0x20, 0x7F))
_QP_SAFE: Final = b"\t\n" + bytes(octet for octet in range(0x20, 0x7F) if octet != ord("="))
_QP_OVERLONG: Final = re.compile(rb"^([^\n]{74,})(=20|=09)$", re.MULTILINE)
_BASE64_LINE: Final = 76


class RenderError(ValueError):
    """A message that cannot be written as mail, in one sentence for the operator. It never quotes an address or a body."""


class Header(NamedTuple):
    """One header on its way out: its name, and its complete line or lines without the last CRLF."""

    name: str
    line: str


class Entity(NamedTuple):
    """A MIME entity: the Content-* headers and the encoded content."""

    headers: tuple[Header, ...]
    content: bytes


def check_text(value: str, what: str) -> None:
    """Refuse what no header value may hold: C0, C1, NEL, U+2028, U+2029, lone surrogates."""
    if not (value.isascii() and value.isprintable()) and _UNPRINTABLE.search(value):
        raise RenderError(f"The {what} holds a control character, a line separator or half a surrogate pair.")


def text(name: str, value: str, what: str) -> Header:
    """Write an unstructured header. A literal `=?` is encoded, so no reader decodes what the app did not encode."""
    check_text(value, what)
    # Blanks at either end would be lost to the reader, so they are encoded too.
    if value.isascii() and "=?" not in value and value[:1] != " " and value[-1:] != " ":
        line = f"{name}: {value}"
        if len(line) <= LINE:
            return Header(name, line)
        folded = _fold(line)
        if folded is not None:
            return Header(name, folded)
    if len(name) > LONG_NAME:
        return Header(name, f"{name}:\r\n {encoded_words(value, 1)}")
    return Header(name, f"{name}: {encoded_words(value, len(name) + 2)}")


def _fold(line: str) -> str | None:
    """Break before words that pass column 78; None if a word passes 998. The first word stays with the name."""
    words = _WORDS.findall(line)
    lines = []
    current = words[0] + words[1]
    for word in words[2:]:
        if len(current) + len(word) > LINE:
            lines.append(current)
            current = word
        else:
            current += word
    lines.append(current)
    return "\r\n".join(lines) if max(map(len, lines)) <= LINE_MAX else None


def encoded_words(value: str, column: int) -> str:
    """Write RFC 2047 encoded-words, in Q or B whichever is shorter, never splitting a character, folded from `column` on."""
    raw = value.encode()
    room = min(ENCODED_LINE - column, ENCODED_WORD) - ENCODED_FRAME
    q = "".join([_Q[octet] for octet in raw])
    if len(q) <= -(-len(raw) // 3) * 4:
        words = [q] if len(q) <= room else _q_words(value, room)
        return "=?utf-8?q?" + "?=\r\n =?utf-8?q?".join(words) + "?="
    return "=?utf-8?b?" + "?=\r\n =?utf-8?b?".join(_b_words(raw, room)) + "?="


def _q_words(value: str, room: int) -> list[str]:
    words = []
    pieces: list[str] = []
    for character in value:
        piece = "".join([_Q[octet] for octet in character.encode()])
        if len(piece) > room:
            words.append("".join(pieces))
            pieces = []
            room = ENCODED_WORD - ENCODED_FRAME
        pieces.append(piece)
        room -= len(piece)
    return [*words, "".join(pieces)]


def _b_words(raw: bytes, room: int) -> list[str]:
    words = []
    start = 0
    while start < len(raw):
        end = start + room // 4 * 3
        while end < len(raw) and raw[end] in _UTF8_CONTINUATION:
            end -= 1
        words.append(binascii.b2a_base64(raw[start:end], newline=False).decode("ascii"))
        start = end
        room = ENCODED_WORD - ENCODED_FRAME
    return words


def ascii_domain(domain: str, what: str) -> str:
    """Return the domain in A-labels (IDNA 2008 after UTS 46 mapping); ASCII comes back as it is."""
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except idna.IDNAError:
            raise RenderError(f"The {what} has a domain that is not a valid international domain name.") from None
    if len(domain) > _DOMAIN_MAX or not _DOMAIN.fullmatch(domain):
        raise RenderError(f"The {what} has a domain that is not a host name.")
    return domain


def address(value: str, what: str, *, smtputf8: bool) -> str:
    """Return the one bare address as a header carries it: the domain in A-labels, so that ASCII needs no extension.

    A local part beyond ASCII can only travel by SMTPUTF8 (RFC 6531); its domain then stays readable as well.
    """
    if value.isascii():
        if not _is_address(value):
            raise RenderError(f"The {what} is not one e-mail address.")
        return value
    local, _, domain = value.rpartition("@")
    ascii_form = ascii_domain(domain, what)
    if local.isascii():
        return address(f"{local}@{ascii_form}", what, smtputf8=smtputf8)
    if not _LOCAL_UTF8.fullmatch(local) or "=?" in local or len(local.encode()) > _LOCAL_MAX:
        raise RenderError(f"The {what} is not one e-mail address.")
    if not smtputf8:
        raise RenderError(f"The {what} has letters beyond ASCII before its @, which this provider cannot carry (SMTPUTF8).")
    return f"{local}@{idna.decode(ascii_form)}"


@lru_cache(maxsize=4096)  # a sender writes many mails, and the same mail's recipient is asked for more than once
def _is_address(value: str) -> bool:
    return len(value) <= _ADDRESS_MAX and _ADDRESS.fullmatch(value) is not None and "=?" not in value


def mailbox(name: str, display_name: str, addr_spec: str, what: str) -> Header:
    """Write an address header; the name is bare, quoted or encoded, the least that is exact."""
    check_text(display_name, what)
    if not display_name.strip(" "):
        return Header(name, f"{name}: {addr_spec}")
    if display_name.isascii() and "=?" not in display_name and len(display_name) <= QUOTED_NAME_MAX:
        phrase = display_name if _ATOMS.fullmatch(display_name) else _quoted(display_name)
    else:
        phrase = encoded_words(display_name, len(name) + 2)
    line = f"{name}: {phrase}"
    column = len(line) - line.rfind("\n") - 1
    blank = " " if column + len(addr_spec) + len(" <>") <= LINE else "\r\n "
    return Header(name, f"{line}{blank}<{addr_spec}>")


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def encode_body(body: str, what: str) -> tuple[str, bytes]:
    """Return the transfer encoding and the encoded text, CRLF between lines, none added at the end.

    7bit if the text is that already, else quoted-printable or base64, whichever is smaller. `From ` at the start of a line is
    never left bare: mail stores put a `>` before it, and then no signature holds.
    """
    raw = octets(body, what)
    if b"\r" in raw:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if body.isascii() and _is_7bit(raw):
        return "7bit", raw.replace(b"\n", b"\r\n")
    # An escape adds 2 octets, base64 a third of all: quoted-printable wins while less than a sixth is escaped.
    if 6 * len(raw.translate(None, _QP_SAFE)) <= len(raw):
        return "quoted-printable", _quoted_printable(raw)
    return "base64", encode_base64(raw.replace(b"\n", b"\r\n"))


def octets(body: str, what: str) -> bytes:
    """Return a body in UTF-8, or refuse it."""
    try:
        return body.encode()
    except UnicodeEncodeError:
        raise RenderError(f"The {what} holds half a surrogate pair, which is no character.") from None


def _is_7bit(raw: bytes) -> bool:
    if raw.translate(None, _PLAIN) or raw.startswith(b"From ") or b"\nFrom " in raw:
        return False
    return len(raw) <= LINE_MAX or max(map(len, raw.split(b"\n"))) <= LINE_MAX


def _quoted_printable(raw: bytes) -> bytes:
    encoded = binascii.b2a_qp(raw)
    if b" \n" in raw or b"\t\n" in raw:
        # binascii lets a blank that it escapes at the end of a line pass column 76.
        encoded = _QP_OVERLONG.sub(rb"\1=\n\2", encoded)
    if encoded.startswith(b"From ") or b"\nFrom " in encoded:
        encoded = (b"\n" + encoded).replace(b"\nFrom ", b"\nF=\nrom ")[1:]
    return encoded.replace(b"\n", b"\r\n")


def encode_base64(raw: bytes) -> bytes:
    """Return base64 in lines of 76, CRLF between them."""
    encoded = binascii.b2a_base64(raw, newline=False)
    if len(encoded) <= _BASE64_LINE:
        return encoded
    return b"\r\n".join([encoded[at : at + _BASE64_LINE] for at in range(0, len(encoded), _BASE64_LINE)])


def file_name(content_type: str, filename: str) -> tuple[Header, Header]:
    """Write Content-Type and Content-Disposition of a file.

    A name that is more than plain ASCII stands twice: by RFC 2231, and as encoded-words in `name`, which RFC 2047 forbids and
    the clients that do not know RFC 2231 read. Quotes, backslashes and angle brackets count as more: clients disagree about them.
    """
    check_text(filename, "attachment's file name")
    if filename.isascii() and "=?" not in filename and _FILENAME_SAFE.fullmatch(filename):
        type_line = _parameter(f"Content-Type: {content_type}", f'name="{filename}"')
        disposition = _parameter("Content-Disposition: attachment", f'filename="{filename}"')
    else:
        type_line = f'Content-Type: {content_type};\r\n name="{encoded_words(filename, len(" name=") + 1)}"'
        disposition = "Content-Disposition: attachment" + _extended_filename(filename)
    return Header("Content-Type", type_line), Header("Content-Disposition", disposition)


def _parameter(line: str, parameter: str) -> str:
    blank = " " if len(line) + len(parameter) + 2 <= LINE else "\r\n "
    return f"{line};{blank}{parameter}"


def _extended_filename(filename: str) -> str:
    """Return `filename*=`, or `filename*0*=` and so on when it does not fit one line; cut between characters."""
    escapes = ["".join([_PERCENT[octet] for octet in character.encode()]) for character in filename]
    whole = f";\r\n filename*=utf-8''{''.join(escapes)}"
    if len(whole) - 3 <= LINE:
        return whole
    lines = []
    current = f" filename*0*=utf-8''{escapes[0]}"
    for escape in escapes[1:]:
        if len(current) + len(escape) >= LINE:  # one column is the semicolon's
            lines.append(current)
            current = f" filename*{len(lines)}*="
        current += escape
    return ";\r\n" + ";\r\n".join([*lines, current])


def multipart(subtype: str, boundary: str, entities: list[Entity]) -> Entity:
    """Join entities. A boundary holds `=_`, which neither base64 nor quoted-printable can write; 7bit text could, so it is looked for."""
    base = boundary
    number = 0
    while any(boundary.encode("ascii") in entity.content for entity in entities):
        number += 1
        boundary = f"{base}.{number}"
    delimiter = f"--{boundary}\r\n".encode("ascii")
    pieces = []
    for entity in entities:
        pieces += [delimiter, seal(entity.headers), b"\r\n\r\n", entity.content, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode("ascii"))
    header = Header("Content-Type", f'Content-Type: multipart/{subtype};\r\n boundary="{boundary}"')
    return Entity((header,), b"".join(pieces))


def seal(headers: Sequence[Header]) -> bytes:
    """Join headers into a block, after reading it back: the names on the wire are the names that were meant, in number and order."""
    block = "\r\n".join([header.line for header in headers])
    # What a reader takes for a header's name: the start of each line that no space makes a continuation.
    if [line.partition(":")[0] for line in block.split("\n") if line[:1] != " "] != [header.name for header in headers]:
        raise RenderError("The headers on the wire would not be the headers that were meant.")
    return block.encode()


def check_wire(wire: bytes) -> None:
    """Refuse bytes with a NUL or a CR or LF outside of CRLF, whatever wrote them: receivers disagree about those (smuggling)."""
    if len(wire.translate(None, _HARMLESS)) != 2 * wire.count(b"\r\n"):
        raise RenderError("The message on the wire would hold a bare line end or a NUL.")
