"""Suppressions by hand: one spelling, one scope each, and all of them or a few to read."""

import pytest
from outbox_rows import add_fleet

from rotord.db import suppressions
from rotord.db.suppressions import Suppression


@pytest.fixture(autouse=True)
async def fleet(db):
    await add_fleet(db)


async def test_what_is_there_already_is_not_added_again_in_any_spelling(db):
    rows = [Suppression("Ann@Example.org"), Suppression("ANN@example.org"), Suppression("ann@example.org", "acme")]

    assert await suppressions.add(db, rows) == 2
    assert await suppressions.add(db, rows) == 0
    assert await suppressions.add(db, [Suppression("ann@example.org", reason="complaint")]) == 1


async def test_remove_lifts_exactly_one_scope(db):
    await suppressions.add(
        db,
        [
            Suppression("ann@example.org"),
            Suppression("ann@example.org", reason="hard_bounce"),
            Suppression("ann@example.org", "acme"),
            Suppression("bob@example.org"),
        ],
    )

    assert await suppressions.remove(db, "ANN@example.org", None, "hard_bounce") == 1
    assert await suppressions.remove(db, "ANN@example.org", None) == 1
    assert await suppressions.remove(db, "ann@example.org", "other") == 0

    left = await suppressions.find(db, limit=10)
    assert [(row["recipient"], row["client"]) for row in left] == [
        ("ann@example.org", "acme"),
        ("bob@example.org", None),
    ]


async def test_find_and_count_agree_and_everything_comes_in_the_order_it_was_added(db):
    added = [Suppression(f"r{number}@example.org", "acme" if number % 2 else None) for number in range(9, 0, -1)]
    await suppressions.add(db, added)

    assert await suppressions.count(db, client="acme") == 5
    assert [row["recipient"] for row in await suppressions.find(db, client="acme", limit=2)] == [
        "r1@example.org",
        "r3@example.org",
    ]
    assert await suppressions.count(db, recipient="R4@example.org") == 1
    assert [row["recipient"] async for row in suppressions.everything(db)] == [row.recipient for row in added]
