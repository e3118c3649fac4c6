"""What the journal of a killed process proves, and when it must not be believed."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from uuid import UUID

import pytest

from rotord.core.model import Blame, Outcome, Reply
from rotord.core.records import Next, Settlement, Step
from rotord.journal import SIZE, Journal

HOLDER = UUID(int=7)
SENT = Settlement(2, 20, Reply(Outcome.ACCEPTED, None, "250 2.0.0", "queued", "abc"), 1e9, Step(Next.SENT))
REFUSED = Settlement(
    3, 30, Reply(Outcome.DEFERRED, Blame.RECIPIENT, "451 4.7.1", "wäit"), 1e9, Step(Next.RETRY, 2e9, "a@b.example", "relay")
)


def written(folder, records=64, settlements=(SENT, REFUSED), left=(1, 2)):
    """A journal of epoch 5 whose process has ended."""
    journal = Journal(folder, records)
    journal.open(HOLDER, 5)
    assert journal.is_on
    for attempt_id in left:
        journal.leaving(attempt_id)
    for settlement in settlements:
        journal.answered(settlement)
    journal.close()
    return folder / "journal"


def read(folder, holder=HOLDER, epoch=5, records=64):
    journal = Journal(folder, records)
    testimony = journal.read(holder, epoch)
    journal.close()
    return testimony


def test_it_tells_what_left_what_was_answered_and_what_never_left(tmp_path):
    written(tmp_path)

    testimony = read(tmp_path)

    assert testimony.answered == {2: SENT, 3: REFUSED}
    assert [testimony.never_left(attempt_id) for attempt_id in (1, 2, 3, 4)] == [False, False, False, True]


@pytest.mark.parametrize(("holder", "epoch"), [(UUID(int=8), 5), (None, 5), (HOLDER, 4), (HOLDER, 6)])
def test_another_holder_or_epoch_is_not_believed(tmp_path, holder, epoch):
    written(tmp_path)

    assert read(tmp_path, holder, epoch) is None


def test_no_file_and_an_empty_one_say_nothing(tmp_path):
    assert read(tmp_path) is None
    assert read(tmp_path) is None


@pytest.mark.parametrize("place", [4, SIZE + 6, SIZE + 20, 3 * SIZE + 35, 64 * SIZE + 100])
def test_one_wrong_byte_anywhere_and_it_is_not_believed(tmp_path, place):
    path = written(tmp_path)
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    with path.open("r+b") as file:
        file.write(content)

    assert read(tmp_path) is None


def test_a_record_that_is_gone_makes_a_hole(tmp_path):
    path = written(tmp_path)
    with path.open("r+b") as file:
        file.seek(2 * SIZE)
        file.write(bytes(SIZE))

    assert read(tmp_path) is None


def test_another_boot_is_not_believed(tmp_path, monkeypatch):
    written(tmp_path)
    (tmp_path / "boot").write_text("another")
    monkeypatch.setattr("rotord.journal._BOOT_ID", tmp_path / "boot")

    assert read(tmp_path) is None


def test_a_copy_in_its_place_is_not_believed(tmp_path):
    path = written(tmp_path)
    (tmp_path / "copy").write_bytes(path.read_bytes())
    (tmp_path / "copy").rename(path)

    assert read(tmp_path) is None


def test_while_its_writer_lives_it_says_nothing_and_nobody_else_writes_it(tmp_path):
    writer = Journal(tmp_path, 64)
    writer.open(HOLDER, 5)
    other = Journal(tmp_path, 64)

    assert other.read(HOLDER, 5) is None
    other.open(UUID(int=8), 6)
    assert not other.is_on
    writer.close()
    assert other.read(HOLDER, 5) is not None
    other.close()


def test_what_the_ring_has_overwritten_is_not_called_unsent(tmp_path):
    left = range(100, 150)
    written(tmp_path, records=16, settlements=(), left=left)

    testimony = read(tmp_path, records=16)

    assert not any(testimony.never_left(attempt_id) for attempt_id in left)
    assert not testimony.never_left(99)
    assert testimony.never_left(150)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_disk_that_takes_no_record_voids_it_before_anything_leaves(tmp_path, monkeypatch, failing):
    journal = Journal(tmp_path, 64)
    journal.open(HOLDER, 5)
    real, failures = os.pwrite, iter([True] * failing + [False] * 9)

    def full(file, content, offset):
        if next(failures):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, content, offset)

    monkeypatch.setattr(os, "pwrite", full)
    journal.leaving(1)
    journal.leaving(2)

    assert not journal.is_on
    journal.close()
    assert read(tmp_path) is None


def test_one_that_can_be_neither_written_nor_voided_forbids_the_sending(tmp_path, monkeypatch):
    journal = Journal(tmp_path, 64)
    journal.open(HOLDER, 5)

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pwrite", broken)
    monkeypatch.setattr(os, "ftruncate", broken)
    for attempt_id in (1, 2):
        with pytest.raises(OSError, match="Input/output"):
            journal.leaving(attempt_id)


def test_words_that_are_too_long_are_cut_or_left_out(tmp_path):
    long = Settlement(4, 40, Reply(Outcome.ACCEPTED, None, "250", "ü" * 5000, "i" * 300), 1e9, Step(Next.SENT))
    hopeless = Settlement(5, 50, Reply(Outcome.ACCEPTED, None, "250", "", "i" * 600), 1e9, Step(Next.SENT))
    written(tmp_path, settlements=(long, hopeless), left=(4, 5))

    testimony = read(tmp_path)

    assert set(testimony.answered) == {4}
    assert testimony.answered[4].reply.provider_message_id == "i" * 300
    assert not testimony.never_left(5)


def test_no_mailbox_is_in_it(tmp_path):
    words = f"{'x' * 190} <ann@example.org>: no mailbox (bob@example.org), ok"
    refused = Settlement(3, 30, Reply(Outcome.REJECTED, Blame.RECIPIENT, "550", words[185:]), 1e9, Step(Next.FAILED))
    cut = Settlement(4, 40, Reply(Outcome.REJECTED, Blame.RECIPIENT, "550", words), 1e9, Step(Next.FAILED))

    file = written(tmp_path, settlements=(refused, cut), left=(3, 4))

    assert not [word for word in (b"ann", b"bob", b"example") if word in file.read_bytes()]
    assert read(tmp_path).answered[3].reply.text == "xxxxx <...>: no mailbox (...), ok"


WRITER = """
import os, sys
from pathlib import Path
from uuid import UUID
from rotord.core.model import Outcome, Reply
from rotord.core.records import Next, Settlement, Step
from rotord.journal import Journal
journal = Journal(Path(sys.argv[1]))
journal.open(UUID(int=7), 5)
for number in range(1, 10**9):
    journal.leaving(number)
    os.write(1, number.to_bytes(8, "big"))
    journal.answered(Settlement(number, number, Reply(Outcome.ACCEPTED, None, "250", "ok"), 1e9, Step(Next.SENT)))
"""


def test_what_reached_the_other_side_before_a_kill_is_never_called_unsent(tmp_path):
    """The writer sends each number after its record; killed at random moments, the journal knows every number that arrived."""
    chance = random.Random(1)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        arrived = int.from_bytes(process.stdout.read(8), "big")
        until = time.monotonic() + chance.uniform(0.0, 0.15)
        while time.monotonic() < until:
            arrived = int.from_bytes(process.stdout.read(8), "big")
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0]
        arrived = int.from_bytes(rest[-8:], "big") if rest else arrived

        testimony = read(tmp_path, records=16_384)

        assert testimony is not None
        assert not testimony.never_left(arrived)
        assert arrived - 1 in testimony.answered or arrived == 1
        assert testimony.never_left(arrived + 2)
