"""What an HTTP answer means: nothing that proves nothing may be called a refusal, and every hint of when to come back is read."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from rotord.core.http_replies import (
    NOT_LET_IN,
    REFUSED,
    Answer,
    Effect,
    accepted,
    judge,
    retry_after_s,
    row,
    unanswered,
    unreadable,
)
from rotord.core.model import Blame, Outcome
from rotord.core.replies import RETRY_AFTER_LIMIT_S, TEXT_LIMIT

NOW = 1_800_000_000.0


def answer(status, body=b"{}", *, complete=True, **headers):
    return Answer(status, CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}), body, complete)


@pytest.mark.parametrize(
    ("status", "outcome", "blame", "effect"),
    [
        (400, Outcome.REJECTED, Blame.CONTENT, Effect.NONE),
        (401, Outcome.NOT_SENT, Blame.ACCOUNT, Effect.DOWN),
        (402, Outcome.NOT_SENT, Blame.ACCOUNT, Effect.DOWN),
        (403, Outcome.DEFERRED, Blame.PROVIDER, Effect.NONE),
        (404, Outcome.NOT_SENT, Blame.ACCOUNT, Effect.DOWN),
        (405, Outcome.NOT_SENT, Blame.ACCOUNT, Effect.DOWN),
        (408, Outcome.UNCERTAIN, Blame.PROVIDER, Effect.NONE),
        (409, Outcome.DEFERRED, Blame.PROVIDER, Effect.NONE),
        (413, Outcome.REJECTED, Blame.CONTENT, Effect.NONE),
        (415, Outcome.REJECTED, Blame.CONTENT, Effect.NONE),
        (429, Outcome.DEFERRED, Blame.RATE, Effect.PAUSE),
        (301, Outcome.NOT_SENT, Blame.ACCOUNT, Effect.DOWN),
        (302, Outcome.UNCERTAIN, Blame.PROVIDER, Effect.NONE),
        (303, Outcome.UNCERTAIN, Blame.PROVIDER, Effect.NONE),
        (307, Outcome.NOT_SENT, Blame.ACCOUNT, Effect.DOWN),
        (500, Outcome.UNCERTAIN, Blame.PROVIDER, Effect.NONE),
        (501, Outcome.UNCERTAIN, Blame.PROVIDER, Effect.NONE),
        (503, Outcome.UNCERTAIN, Blame.PROVIDER, Effect.NONE),
        (599, Outcome.UNCERTAIN, Blame.PROVIDER, Effect.NONE),
    ],
)
def test_a_status_alone(status, outcome, blame, effect):
    judgement = judge(answer(status), "", (), NOW)

    assert (outcome, blame, effect) == (judgement.reply.outcome, judgement.reply.blame, judgement.effect)
    assert judgement.reply.code == str(status)


@pytest.mark.parametrize("statuses", [[408], [500], [400, 503], [199], [600]])
def test_no_row_can_speak_for_what_proves_nothing(statuses):
    with pytest.raises(ValueError, match="no text can prove"):
        row(statuses, "x", REFUSED)


def test_the_first_row_that_fits_counts():
    rows = (row([400], "plan", NOT_LET_IN), row([400], "", REFUSED))

    assert judge(answer(400), "your PLAN is over", rows, NOW).effect is Effect.DOWN
    assert judge(answer(400), "bad html", rows, NOW).reply.outcome is Outcome.REJECTED
    assert judge(answer(413), "your plan", rows, NOW).reply.blame is Blame.CONTENT


@pytest.mark.parametrize(
    ("status", "outcome"), [(400, Outcome.DEFERRED), (404, Outcome.DEFERRED), (401, Outcome.NOT_SENT), (503, Outcome.UNCERTAIN)]
)
def test_a_refusal_whose_reason_is_missing_is_for_now(status, outcome):
    judgement = judge(answer(status, complete=False), "", (), NOW)

    assert outcome is judgement.reply.outcome
    assert (judgement.effect is Effect.DOWN) == (status == 401)


@pytest.mark.parametrize(
    ("headers", "words", "expected"),
    [
        ({"Retry_After": "7"}, "", 7.0),
        ({"Retry_After": " 7 "}, "try again after 99 seconds", 7.0),
        ({"Retry_After": "Fri, 15 Jan 2027 08:01:00 GMT"}, "", 60.0),
        ({"Retry_After": "soon", "X_RateLimit_Reset": str(int(NOW) + 12)}, "", 12.0),
        ({"X_RateLimit_Reset": str(int(NOW) - 12)}, "", 0.0),
        ({"X_RateLimit_Reset": "30"}, "", 30.0),
        ({"X_RateLimit_Reset": "9" * 400}, "", RETRY_AFTER_LIMIT_S),
        ({"X_RateLimit_Reset": str(int(NOW) + 70), "Date": "Fri, 15 Jan 2027 08:01:00 GMT"}, "", 10.0),
        ({}, "account-requests-per-sec limit exceeded, try again after 120 seconds", 120.0),
        ({}, "limit exceeded, try again after Fri, 15 Jan 2027 08:00:30 UTC", 30.0),
        ({}, "limit exceeded, try again after lunch", None),
        ({}, "", None),
        ({"Retry_After": "999999999"}, "", RETRY_AFTER_LIMIT_S),
    ],
)
def test_when_to_come_back(headers, words, expected):
    found = answer(429, **headers)

    assert expected == retry_after_s(found.headers, words, NOW)
    assert expected == judge(found, words, (), NOW).reply.retry_after_s


def test_a_used_up_quota_is_learned_from_a_success():
    left = accepted(answer(202, X_RateLimit_Remaining="3", X_RateLimit_Reset=str(int(NOW) + 9)), "", "id", NOW)
    used = accepted(answer(202, X_RateLimit_Remaining="0", X_RateLimit_Reset=str(int(NOW) + 9)), "", "id", NOW)

    assert (left.quota_back_in_s, used.quota_back_in_s) == (None, 9.0)
    assert used.reply.outcome is Outcome.ACCEPTED


def test_what_is_no_answer():
    assert unreadable(answer(200, b"<html>")).reply.outcome is Outcome.UNCERTAIN
    assert unanswered("reset", body_left=True).reply.outcome is Outcome.UNCERTAIN
    assert unanswered("reset", body_left=False).reply.outcome is Outcome.NOT_SENT


@given(
    status=st.integers(100, 999),
    body=st.binary(max_size=2000),
    words=st.text(max_size=1000),
    headers=st.dictionaries(st.sampled_from(["Retry-After", "X-RateLimit-Reset", "X-RateLimit-Remaining", "Date"]), st.text(max_size=40)),
    complete=st.booleans(),
)
def test_every_answer_has_a_meaning(status, body, words, headers, complete):
    judgement = judge(Answer(status, CIMultiDict(headers), body, complete), words, (), NOW)
    reply = judgement.reply

    assert reply.outcome is not Outcome.ACCEPTED
    assert not (reply.outcome.proves_not_accepted and (status >= 500 or status == 408 or status < 300))
    assert 0 < len(reply.text) <= TEXT_LIMIT
    assert not any(category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in reply.text)
    assert reply.retry_after_s is None or 0 <= reply.retry_after_s <= RETRY_AFTER_LIMIT_S
    assert accepted(Answer(202, CIMultiDict(headers), body), words, "1", NOW).reply.outcome is Outcome.ACCEPTED


def test_the_example_date_is_what_the_table_says():
    assert format_datetime(datetime.fromtimestamp(NOW, UTC), usegmt=True) == "Fri, 15 Jan 2027 08:00:00 GMT"
