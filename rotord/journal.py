"""What left and what was answered, in a small file of this machine: it outlives a kill -9 of the process, not a crash of the machine.

A flight writes "about to leave" before the last byte can leave, and the answer before it is handed to the recorder. So an attempt that the
database has as begun and the journal does not have as left has not left. Only the next term reads it, and only believes a journal

- whose writer is dead: it held the lock on the file, and the reader has it now;
- of this boot: what was in the page cache is still there;
- of the epoch right before the reader's own, won by that very holder;
- without a hole: each record has a checksum, and their numbers are consecutive.

Otherwise it says nothing, and what was on the wire is uncertain. The file is a ring of fixed size. What it has overwritten lies at or below
`floor`, the highest attempt id it has lost; about those it says nothing either. It is not synced: it need not survive the machine.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson
import structlog

from rotord.core.model import Blame, Outcome, Reply
from rotord.core.records import Next, Settlement, Step

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

_log = structlog.get_logger(__name__)
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_VERSION: Final = 1
#: two for each message: the last 8,000 messages
RECORDS: Final = 16_384
SIZE: Final = 512
# checksum of what follows, length of the words, number, attempt, floor
_HEAD: Final = struct.Struct("<IHQQQ")
_CHECKED_FROM: Final = 4
_WORDS_AT_MOST: Final = SIZE - _HEAD.size
_TEXT_AT_MOST: Final = 200
#: whoever is forgotten (`rotord forget`) is not in here either: replies quote the recipient
_MAILBOX: Final = re.compile(r"[^\s<>()\[\]\"',;:]+@[^\s<>()\[\]\"',;:]+")


@dataclass(frozen=True, slots=True)
class Testimony:
    """What a dead process's journal says about its attempts."""

    left: frozenset[int]
    answered: Mapping[int, Settlement]
    floor: int

    def never_left(self, attempt_id: int) -> bool:
        """True if the provider cannot have it and nothing was answered."""
        return attempt_id > self.floor and attempt_id not in self.left and attempt_id not in self.answered


class Journal:
    """Written by the flights of one term. Off until `open` succeeds, and off for the rest of the term once a write has failed."""

    def __init__(self, directory: Path, records: int = RECORDS) -> None:
        self._path = directory / "journal"
        self._records = records
        self._file: int | None = None
        self.is_on = False
        self._number = 0
        self._floor = 0
        self._attempts: list[int] = []

    def read(self, holder: UUID | None, epoch: int) -> Testimony | None:
        """What it says about `epoch`, which `holder` had. None if it must not be believed. Before `open`."""
        self.is_on = False
        try:
            if holder is None or not self._lock():
                return None
            return self._read(holder, epoch)
        except (OSError, ValueError, struct.error) as error:
            _log.warning("journal_not_readable", error=str(error))
            return None

    def open(self, holder: UUID, epoch: int) -> None:
        """Begin a term: forget the last one. What fails here leaves it off."""
        self.is_on = False
        try:
            if not self._lock() or self._file is None:
                _log.warning("journal_off", reason="another process that lives has it", path=str(self._path))
                return
            # The head last: until it stands, nobody believes the rest.
            os.ftruncate(self._file, 0)
            os.posix_fallocate(self._file, 0, SIZE * (1 + self._records))
            os.pwrite(self._file, _sealed(0, epoch, 0, self._head(holder, epoch)), 0)
        except (OSError, ValueError) as error:
            _log.warning("journal_off", reason=str(error), path=str(self._path))
            return
        self._number = self._floor = 0
        self._attempts = [0] * self._records
        self.is_on = True

    def leaving(self, attempt_id: int) -> None:
        """Its last byte is about to leave. Raises OSError when that cannot be written and the journal cannot be voided: do not send."""
        if not self.is_on:
            return
        try:
            self._write(attempt_id, b"")
        except OSError as error:
            self._void(error)

    def answered(self, settlement: Settlement) -> None:
        """Its answer is known. Not written, it counts as left without one."""
        if not self.is_on:
            return
        words = _words(settlement)
        if len(words) > _WORDS_AT_MOST:
            return
        try:
            self._write(settlement.attempt_id, words)
        except OSError as error:
            self._void(error)

    def close(self) -> None:
        """Let another process have it."""
        self.is_on = False
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, attempt_id: int, words: bytes) -> None:
        if self._file is None:
            raise OSError("the journal is closed")
        place = self._number % self._records
        floor = max(self._floor, self._attempts[place])
        record = _sealed(self._number + 1, attempt_id, floor, words)
        if os.pwrite(self._file, record, SIZE * (1 + place)) != len(record):
            raise OSError("the journal took a part of a record")
        self._number += 1
        self._floor = floor
        self._attempts[place] = attempt_id

    def _void(self, error: OSError) -> None:
        """Make sure that nobody believes it, before anything leaves of which it does not know."""
        _log.warning("journal_off", reason=str(error), path=str(self._path))
        if self._file is not None:
            try:
                os.pwrite(self._file, bytes(SIZE), 0)
            except OSError:
                os.ftruncate(self._file, 0)
        self.is_on = False

    def _lock(self) -> bool:
        """Hold the file's lock until the process ends, whatever ends it. False: a process that lives has it and might still send."""
        if self._file is not None:
            return True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        except OSError:
            os.close(file)
            raise
        self._file = file
        return True

    def _head(self, holder: UUID, epoch: int) -> bytes:
        if self._file is None:
            raise OSError("the journal is closed")
        boot, about = _BOOT_ID.read_text().strip(), os.fstat(self._file)
        # The inode: a copy that was put in its place is not what the process wrote.
        return orjson.dumps([_VERSION, boot, str(holder), epoch, about.st_dev, about.st_ino, self._records])

    def _read(self, holder: UUID, epoch: int) -> Testimony | None:
        if self._file is None:
            return None
        content = os.pread(self._file, SIZE * (1 + self._records), 0)
        if len(content) != SIZE * (1 + self._records):
            return None
        head = _unsealed(content[:SIZE])
        if head is None or head[3] != self._head(holder, epoch):
            return None
        records = []
        for start in range(SIZE, len(content), SIZE):
            piece = content[start : start + SIZE]
            record = _unsealed(piece)
            if record is not None:
                records.append(record)
            elif any(piece):
                return None
        records.sort(key=lambda record: record[0])
        return _testimony(records, self._records)


def _testimony(records: list[tuple[int, int, int, bytes]], capacity: int) -> Testimony | None:
    if not records:
        return Testimony(frozenset(), {}, 0)
    first, last = records[0][0], records[-1][0]
    if last - first + 1 != len(records) or first != max(1, last - capacity + 1):
        return None
    left = {attempt_id for _, attempt_id, _, words in records if not words}
    answered = {attempt_id: _settlement(attempt_id, words) for _, attempt_id, _, words in records if words}
    return Testimony(frozenset(left), answered, records[-1][2])


def _sealed(number: int, attempt_id: int, floor: int, words: bytes) -> bytes:
    record = _HEAD.pack(0, len(words), number, attempt_id, floor) + words
    return zlib.crc32(record[_CHECKED_FROM:]).to_bytes(4, "little") + record[_CHECKED_FROM:]


def _unsealed(piece: bytes) -> tuple[int, int, int, bytes] | None:
    """Number, attempt, floor, words; None if it is none."""
    checksum, length, number, attempt_id, floor = _HEAD.unpack_from(piece)
    end = _HEAD.size + length
    if end > SIZE or not any(piece[:end]) or zlib.crc32(piece[_CHECKED_FROM:end]) != checksum:
        return None
    return number, attempt_id, floor, piece[_HEAD.size : end]


def _words(settlement: Settlement) -> bytes:
    reply, step = settlement.reply, settlement.step
    text = _MAILBOX.sub("...", reply.text) if "@" in reply.text else reply.text
    values = [
        settlement.outbox_id,
        settlement.finished_at,
        reply.outcome,
        reply.blame,
        reply.code,
        text[:_TEXT_AT_MOST],
        reply.provider_message_id,
        step.next,
        step.due_at,
        step.pin,
        step.avoid,
    ]
    words = orjson.dumps(values)
    if len(words) > _WORDS_AT_MOST:
        values[5] = ""
        words = orjson.dumps(values)
    return words


def _settlement(attempt_id: int, words: bytes) -> Settlement:
    outbox_id, finished_at, outcome, blame, code, text, provider_message_id, step, due_at, pin, avoid = orjson.loads(words)
    reply = Reply(Outcome(outcome), Blame(blame) if blame else None, code, text, provider_message_id=provider_message_id)
    return Settlement(attempt_id, outbox_id, reply, finished_at, Step(Next(step), due_at, pin, avoid))
