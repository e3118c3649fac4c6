"""The corpus: each mail in tests/data/bounces is taken for what it is, and nobody is named who did not fail."""

import json
from pathlib import Path

import pytest

from rotord.core import received
from rotord.core.complaints import Complaint
from rotord.core.incoming import Automatic, Bounced, PersonsReply, recognise

CORPUS = Path(__file__).parent.parent / "data" / "bounces"
EXPECTED = json.loads((CORPUS / "expected.json").read_text())


def what(raw: bytes) -> dict[str, object]:
    match recognise(received.read(raw), raw):
        case Bounced(found):
            return {"is": "bounce", "recipients": [one.recipient for one in found], "class": found[0].bounce_class.value}
        case Complaint() as told:
            return {"is": "complaint", "recipients": [told.recipient]}
        case Automatic():
            return {"is": "automatic"}
        case PersonsReply():
            return {"is": "reply"}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_mail_is_taken_for_what_it_is(name: str) -> None:
    found = what((CORPUS / f"{name}.eml").read_bytes())

    assert EXPECTED[name] == {key: value for key, value in found.items() if key in EXPECTED[name]}


def test_the_corpus_is_complete() -> None:
    assert set(EXPECTED) == {path.stem for path in CORPUS.glob("*.eml")}


def test_a_reply_through_a_list_is_its_writers_though_the_list_stands_in_from() -> None:
    raw = (CORPUS / "reply-through-a-google-group.eml").read_bytes()
    found = recognise(received.read(raw), raw)

    assert isinstance(found, PersonsReply)
    assert (found.sender, found.references) == ("kim.lee@shop.example", ("<77.0123456789abcdef01234567@acme-mail.example>",))
