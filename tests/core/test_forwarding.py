"""Whatever a reply is: the mail that passes it on can be stored and rendered, and is known again for what it is."""

from base64 import b64decode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rotord.core import received
from rotord.core.forwarding import HEADERS, forward
from rotord.core.incoming import Automatic, recognise
from rotord.core.model import Attachment, Kind, Message, Sender
from rotord.core.rendering import Stamp, headers, message_id, render

PIECES = st.sampled_from(
    [
        *(
            b"Subject: ",
            b"=?utf-8?q?=0D=0ABcc:_x=00?=",
            b"=?=?utf-7?q?x?=",
            b"From: ",
            b"Date: ",
            b"\n",
            b"\n\n",
            b"\r",
            b"\0",
            b"\x85",
            b"\xff",
        ),
        *(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n", b"--b\n", b"Content-Type: text/html\n\n<b>", b"<style", b"</style"),
        *(
            b"Content-Type: text/plain; charset=unicode_escape\n\n\\ud800",
            b"Content-Type: message/rfc822\n\n",
            b"Content-Disposition: attachment\n",
        ),
    ]
)
MAILS = st.binary(max_size=300) | st.lists(PIECES | st.binary(max_size=9), max_size=30).map(b"".join)


def rendered(found):
    files = (Attachment("reply.eml", "application/octet-stream", b64decode(found.original)),)
    message = Message(
        *(7, "acme", "inbox@acme.example", found.subject, message_id(7, "acme.example")),
        body_text=found.body,
        kind=Kind.TRANSACTIONAL,
        reply_to=found.reply_to,
        headers=headers(HEADERS),
        attachments=files,
    )
    return render(message, Sender("a@acme.example"), Stamp(1, 0))


@example(b"Content-Type: text/plain; charset=unicode_escape\n\n\\d", "")
@settings(max_examples=100, deadline=None)
@given(MAILS, st.emails() | st.text(max_size=20) | st.sampled_from(["a..b@x.example", "jörg@x.example", "jo@bücher.example", "a@b@c"]))
def test_any_reply_can_be_passed_on(raw, sender):
    found = forward(raw, sender, "a@acme.example")
    wire = rendered(found)

    assert b64decode(found.original) == raw
    assert recognise(received.read(wire), wire) is Automatic.AUTO_REPLY
    # as the constraints of rotord.outbox have it
    assert found.subject
    assert "=?" not in found.subject
    assert "\0" not in found.body


@pytest.mark.parametrize(
    ("sender", "reply_to"), [("jane@x.example", "jane@x.example"), ("a..b@x.example", ""), ("jörg@x.example", ""), ("", "")]
)
def test_it_is_answered_to_who_wrote_it_where_a_header_may_say_so(sender, reply_to):
    assert forward(b"\nYes.", sender, "a@acme.example").reply_to == reply_to
