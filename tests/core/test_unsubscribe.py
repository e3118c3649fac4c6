from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotord.core.unsubscribe import mailto, rehearsal_key, token, token_in, verify

KEY = b"k" * 32
OLD = b"o" * 32
BIGINT = st.integers(-(2**63), 2**63 - 1)
URL_SAFE = set(string.ascii_letters + string.digits + "-_")


@given(BIGINT)
def test_a_token_names_its_row(outbox_id: int) -> None:
    made = token(KEY, outbox_id)

    assert verify(KEY, made) == outbox_id
    assert len(made) == 32
    assert set(made) <= URL_SAFE


@given(BIGINT, st.integers(0, 31), st.sampled_from(sorted(URL_SAFE)))
def test_a_changed_token_names_nothing(outbox_id: int, at: int, letter: str) -> None:
    made = token(KEY, outbox_id)
    changed = made[:at] + letter + made[at + 1 :]

    assert verify(KEY, changed) == (outbox_id if changed == made else None)


@given(st.text())
def test_any_other_text_names_nothing(text: str) -> None:
    assert verify(KEY, text) is None


@pytest.mark.parametrize("spoil", ["{}=", "{}\n", " {}", "{}A", ""])
def test_only_the_one_spelling_is_a_token(spoil: str) -> None:
    assert verify(KEY, spoil.format(token(KEY, 7))) is None


def test_an_old_key_still_verifies_while_it_is_listed() -> None:
    assert verify((KEY, OLD), token(OLD, 7)) == 7
    assert verify((OLD, KEY), token(OLD, 7)) == 7
    assert verify(KEY, token(OLD, 7)) is None
    assert verify((), token(OLD, 7)) is None


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        token(b"short", 7)
    with pytest.raises(ValueError, match="shorter"):
        verify((KEY, b""), token(KEY, 7))


def test_a_token_is_for_ever_the_same() -> None:
    # Links in mail that was sent years ago must still work: a change of this value is a break of every one of them.
    assert token(bytes(range(32)), 1) == "AAAAAAAAAAEr1mFW8i7MwMzxodn36rPD"


@given(BIGINT)
def test_a_rehearsals_token_is_none_of_a_messages(outbox_id: int) -> None:
    assert verify(KEY, token(rehearsal_key(KEY), outbox_id)) is None
    assert verify(rehearsal_key(KEY), token(KEY, outbox_id)) is None


@given(BIGINT, st.sampled_from(["", "Re: ", "[EXTERNAL] "]))
def test_a_mail_link_brings_its_token_back_in_the_subject(outbox_id: int, before: str) -> None:
    made = token(KEY, outbox_id)
    link = mailto("out@in.example", made)

    assert link.startswith("mailto:out@in.example?subject=")
    assert token_in(before + link.partition("=")[2].replace("%20", " ")) == made


@pytest.mark.parametrize("subject", ["", "unsubscribe", "please unsubscribe me", f"unsubscribe {'A' * 33}", f"x{'A' * 32}"])
def test_another_subject_brings_none(subject: str) -> None:
    assert token_in(subject) is None
