"""Files that people write by hand (settings, fleet): read within a bound, faults told by line, the nearest known name offered.

Owns: reading TOML with the line of every key, the sentence for each kind of fault, the check of an e-mail address.
Promises: a value is repeated only where the caller says that it is no secret. Does not know what any key means.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pydantic_core import ErrorDetails

#: Where a value stands: keys, and positions in arrays.
Where: TypeAlias = tuple[str | int, ...]

#: What is repeated of a value in a sentence: enough to recognise it, not enough to flood a terminal.
SHOWN_LENGTH: Final = 40


class FaultsError(Exception):
    """What is wrong with a file: one line each, with its place, the fault and the remedy."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines: Final = tuple(lines)
        super().__init__("\n".join(self.lines))


def read_text(path: Path, max_bytes: int) -> str:
    """Read UTF-8, with or without a byte order mark; FaultsError for what is no text or longer than max_bytes."""
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        raise FaultsError([f"{path}: cannot be read: {error.strerror}"]) from None
    if len(raw) > max_bytes:
        raise FaultsError([f"{path}: is longer than {max_bytes} bytes, which is the most that is read"])
    if (at := raw.find(b"\0")) >= 0:
        raise FaultsError([f"{path}:{_line_at(raw, at)}: holds a NUL byte: save the file as UTF-8 text"])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = _line_at(raw, error.start)
        raise FaultsError([f"{path}:{line}: is not UTF-8 (byte 0x{raw[error.start]:02x}): save it as UTF-8"]) from None


def _line_at(raw: bytes, at: int) -> int:
    return raw.count(b"\n", 0, at) + 1


@dataclass(frozen=True)
class Document:
    """A TOML file: its values, and on which line each of them stands."""

    path: Path
    text: str
    values: dict[str, Any]

    @cached_property
    def _lines(self) -> dict[Where, int]:
        return _index(self.text)

    def place(self, where: Where) -> str:
        """Say `file:line` of a value, of the table it would stand in when it is missing, else the file alone."""
        for length in range(len(where), 0, -1):
            if (line := self._lines.get(where[:length])) is not None:
                return f"{self.path}:{line}"
        return str(self.path)


def read_toml(path: Path, max_bytes: int) -> Document:
    """Read one file; FaultsError with the one line that says why it is not TOML."""
    text = read_text(path, max_bytes)
    try:
        return Document(path, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
        if place is None:
            raise FaultsError([f"{path}: is not TOML: {error}"]) from None
        what = str(error)[: place.start()]
        raise FaultsError([f"{path}:{place[1]}: is not TOML: {what} (column {place[2]})"]) from None
    except RecursionError:
        raise FaultsError([f"{path}: is nested too deeply"]) from None


# Strings and comments are one piece each, so that a bracket or a line end inside one means nothing.
_PIECES: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""+'
    r"|'''.*?'''+"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
    r"|[^\"'#\[\]{}\n]+"
    r"|.",
    re.DOTALL | re.MULTILINE,
)
_HEADER: Final = re.compile(r"\s*(\[\[?)(.*?)\]\]?\s*", re.DOTALL)
_KEY: Final = re.compile(r"""\s*((?:"(?:\\.|[^"\\\n])*"|'[^'\n]*'|[\w.\- \t])+)=""")


def _statements(text: str) -> Iterator[tuple[int, str]]:
    line, started, depth = 1, 1, 0
    statement: list[str] = []
    for match in _PIECES.finditer(text + "\n"):
        piece = match[0]
        if piece == "\n" and depth == 0:
            if statement:
                yield started, "".join(statement)
            statement = []
        elif not piece.startswith("#") and (statement or piece.strip()):
            started = started if statement else line
            depth += (piece in "[{") - (piece in "]}")
            statement.append(piece)
        line += piece.count("\n")


def _index(text: str) -> dict[Where, int]:
    """Tell the first line of every table and key of text that tomllib has accepted."""
    lines: dict[Where, int] = {}
    newest: dict[Where, int] = {}  # of each array of tables the position of its last one
    table: Where = ()
    for line, statement in _statements(text):
        if header := _HEADER.fullmatch(statement):
            table = ()
            for part in _parts(header[2]):
                table = (*table, newest[table]) if table in newest else table
                table = (*table, part)
            lines.setdefault(table, line)
            if header[1] == "[[":
                newest[table] = newest.get(table, -1) + 1
                table = (*table, newest[table])
            lines.setdefault(table, line)
        elif key := _KEY.match(statement):
            where = table
            for part in _parts(key[1]):
                where = (*where, part)
                lines.setdefault(where, line)
    return lines


def _parts(key: str) -> list[str]:
    parts = []
    level: Any = tomllib.loads(f"{key} = 0")
    while isinstance(level, dict):
        part, level = next(iter(level.items()))
        parts.append(part)
    return parts


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Offer the known name that was most likely meant, as the end of a sentence; '' when none comes near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]}?" if close else ""


def shown(value: object) -> str:
    """Write a value as a TOML author would recognise it, cut short."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            text = ascii(value)
            return f"the text {text if len(text) <= SHOWN_LENGTH else text[:SHOWN_LENGTH] + '...'}"
        case int() | float():
            return f"{value}"[:SHOWN_LENGTH]
        case dict():
            return "a table"
        case list() | tuple():
            return "an array"
        case _:
            return f"a {type(value).__name__}"


# Of pydantic's kinds of error those an author can make; the value follows the first group, where it is no secret.
_WANTED: Final = {
    "int_type": "wanted a whole number",
    "int_from_float": "wanted a whole number",
    "float_type": "wanted a number",
    "finite_number": "wanted a finite number",
    "bool_type": "wanted true or false",
    "string_type": "wanted text",
    "is_instance_of": "wanted text",
    "date_type": "wanted a date like 2026-11-01",
    "list_type": "wanted an array",
    "tuple_type": "wanted an array",
    "dict_type": "wanted a table",
    "mapping_type": "wanted a table",
    "model_type": "wanted a table",
    "model_attributes_type": "wanted a table",
    "literal_error": "wanted {expected}",
    "enum": "wanted {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_pattern_mismatch": "must match {pattern}",
}
_SAID: Final = {
    "missing": "is missing",
    "string_too_long": "is longer than {max_length} characters",
    "too_long": "has more than {max_length} entries",
    "string_too_short": "is empty",
    "too_short": "has too few entries",
    "value_error": "{error}",
}


def sentence(error: ErrorDetails, *, secret: bool) -> str:
    """Say what pydantic found, in words for the author of the file. Unknown keys are the caller's (it knows the known)."""
    kind = error["type"]
    context = {name: int(v) if isinstance(v, float) and v == int(v) else v for name, v in error.get("ctx", {}).items()}
    if kind in _WANTED:
        return _WANTED[kind].format(**context) + ("" if secret else f", got {shown(error['input'])}")
    return _SAID[kind].format(**context) if kind in _SAID else error["msg"]


_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_LOCAL_PART: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
# RFC 5321 4.5.3.1: the longest local part, domain and path
_MAX_LOCAL_PART, _MAX_DOMAIN, _MAX_ADDRESS = 64, 253, 254


def is_domain(text: str) -> bool:
    """Accept what DNS and SMTP accept as a full domain name, in ASCII."""
    return len(text) <= _MAX_DOMAIN and _DOMAIN.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Accept a plain ASCII e-mail address: no quotes, no comment, no display name."""
    local, at, domain = text.rpartition("@")
    if not at or len(text) > _MAX_ADDRESS or len(local) > _MAX_LOCAL_PART:
        return False
    return _LOCAL_PART.fullmatch(local) is not None and is_domain(domain)
