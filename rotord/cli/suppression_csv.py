"""Suppressions as CSV: recipient,client,reason,source. An empty client is everybody, an empty reason is manual.

A file is imported in one transaction, a batch in memory at a time, or not at all: every faulty line is named. What is
written here can be read here.
"""

from __future__ import annotations

import csv
import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from rotord.cli.errors import CommandError
from rotord.core.suppression_lists import REASONS
from rotord.db import suppressions
from rotord.db.suppressions import Suppression
from rotord.handwritten import nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from asyncpg import Connection

COLUMNS: Final = ("recipient", "client", "reason", "source")
HEADER_TEXT: Final = ",".join(COLUMNS)

#: rows a statement: about 1 MB of parameters
BATCH: Final = 5_000

#: what the outbox takes as a recipient: one `@`, no space, nothing that quotes, groups or lists
RECIPIENT: Final = re.compile(r"""[^\s@"(),:;<>\[\]\\\x00-\x1f\x7f]+@[^\s@"(),:;<>\[\]\\\x00-\x1f\x7f]+""")
MAX_RECIPIENT: Final = 320


def is_recipient(text: str) -> bool:
    """Tell whether `text` is one e-mail address in its usual form."""
    return len(text) <= MAX_RECIPIENT and RECIPIENT.fullmatch(text) is not None


async def load(conn: Connection, file: str) -> tuple[int, int]:
    """Import a file (`-`: standard input) and count its rows and those that were new. Raises CommandError with every fault."""
    clients = await suppressions.clients(conn)
    faults: list[str] = []
    read = added = 0
    with _reading(file) as text:
        async with conn.transaction():
            for batch in _batches(_rows(text, clients, faults)):
                read += len(batch)
                if not faults:
                    added += await suppressions.add(conn, batch)
            if faults:  # leaves the transaction undone
                name = "standard input" if file == "-" else file
                raise CommandError(*(f"{name}:{fault}" for fault in faults), f"{name}: nothing was imported")
    return read, added


async def save(conn: Connection, file: str) -> int:
    """Write every suppression; a file appears complete or not at all."""
    written = 0
    with _writing(file) as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        async for row in suppressions.everything(conn):
            writer.writerow((row["recipient"], row["client"] or "", row["reason"], row["source"]))
            written += 1
    return written


def _rows(text: TextIO, clients: Collection[str], faults: list[str]) -> Iterator[Suppression]:
    """Yield the good rows; what is wrong with the others is added to `faults` as "LINE: what"."""
    reader = csv.DictReader(text, strict=True)
    try:
        missing = {"recipient"} - set(reader.fieldnames or ())
        unknown = set(reader.fieldnames or ()) - set(COLUMNS)
        if missing or unknown:
            faults.append(f"1: the first line must name the columns, of {HEADER_TEXT}, and at least recipient")
            return
        for row in reader:
            parsed = _row(row, clients)
            if isinstance(parsed, Suppression):
                yield parsed
            else:
                faults.append(f"{reader.line_num}: {parsed}")
    except csv.Error as error:
        faults.append(f"{reader.line_num + 1}: {error}")
    except UnicodeDecodeError:
        faults.append(f"{reader.line_num + 1}: not UTF-8")


def _row(row: dict[str | None, str | None], clients: Collection[str]) -> Suppression | str:
    recipient, client, reason, source = ((row.get(column) or "").strip() for column in COLUMNS)
    reason = reason or "manual"
    if None in row:
        return "more fields than columns"
    if not is_recipient(recipient):
        return f"{recipient!r} is not an e-mail address"
    if client and client not in clients:
        return f"there is no client {client}{nearest(client, clients)}"
    if reason not in REASONS:
        return f"the reason {reason!r} is none of {', '.join(REASONS)}"
    if "\x00" in source:
        return "the source has a NUL character"
    return Suppression(recipient, client or None, reason, source or "import")


def _batches(rows: Iterable[Suppression]) -> Iterator[list[Suppression]]:
    batch: list[Suppression] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


@contextmanager
def _reading(file: str) -> Iterator[TextIO]:
    try:
        # standard input is read as a file is, whatever the locale says
        text = open(sys.stdin.fileno() if file == "-" else file, encoding="utf-8-sig", newline="", closefd=file != "-")  # noqa: SIM115
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror or error}") from None
    with text:
        yield text


@contextmanager
def _writing(file: str) -> Iterator[TextIO]:
    if file == "-":
        yield sys.stdout
        return
    target = Path(file)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        try:
            with partial.open("x", encoding="utf-8", newline="") as text:
                yield text
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except ConnectionError:  # the database's trouble, not the file's
        raise
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror or error}") from None
