"""forget: what a person types, reads and gets back; what is told of a message to somebody who was forgotten."""

from outbox_rows import fail, insert, make_uncertain

from rotord.cli import COMMANDS


async def test_it_says_what_it_would_erase_what_it_erased_and_what_is_left(rotord, db):
    for _ in range(2):
        await insert(db, recipient="Ann@Example.org")
    await make_uncertain(db, await insert(db, recipient="ann@example.org"))
    await rotord("suppress", "add", "ann@example.org", "--client", "acme", "--reason", "unsubscribe")

    would = await rotord("forget", "ANN@example.org", "--dry-run")
    assert would.out == (
        "would be erased: 3 messages (2 in the queue, which end as suppressed, 1 on the wire or uncertain), 0 events; "
        "1 suppression kept as a keyed hash\n"
    )
    assert (await rotord("forget", "ann@example.org", "--dry-run", "--json")).json["messages"] == 3

    done = await rotord("forget", "ANN@example.org")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == (
        "erased: 3 messages (2 in the queue, now suppressed), 0 replies passed on, 0 events, 0 posts of providers; "
        "1 suppression kept as a keyed hash"
    )
    assert lines[2] == "1 on the wire, uncertain or not read yet: the daemon that leads erases the rest of these when they are over"
    assert "backups" in lines[3]
    assert "ann" not in done.out.lower().replace("cannot", "")


async def test_again_there_is_nothing_and_the_suppression_is_found_by_the_address(rotord, db):
    await rotord("forget", "ann@example.org")
    again = (await rotord("forget", "ann@example.org", "--json")).json

    assert {name: again[name] for name in ("messages", "events", "posts", "suppressions", "left")} == dict.fromkeys(
        ("messages", "events", "posts", "suppressions", "left"), 0
    )
    assert again["name"] in (await rotord("suppress", "list", "--recipient", "Ann@example.org")).out
    assert (await rotord("suppress", "remove", "ann@example.org")).code == 0
    assert (await rotord("suppress", "list", "--recipient", "ann@example.org")).out == "no suppression matches\n"


async def test_why_says_who_waits_for_nothing_and_that_a_recipient_was_forgotten(rotord, db):
    failed = await insert(db, recipient="ann@example.org")
    await fail(db, failed)
    await rotord("forget", "ann@example.org")
    later = await insert(db, recipient="ann@example.org")

    told = (await rotord("why", "message", str(failed))).out
    assert "the reason was erased; its recipient was forgotten, on " in told
    assert "suppressed: its recipient is suppressed for everybody (manual)" in (await rotord("why", "message", str(later))).out


async def test_what_is_no_address_is_refused(rotord):
    refused = await rotord("forget", "ann")

    assert (refused.code, refused.err) == (2, "rotord: 'ann' is not an e-mail address\n")
    assert "forget" in COMMANDS
