"""`rotord why` names the gate that holds a message, with numbers a hand calculation gives, and the time at which it opens."""

from datetime import UTC, datetime, timedelta

import pytest
from outbox_rows import begin, fail, insert, make_uncertain

from rotord.core.records import ProviderReport
from rotord.db import reports, settle

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
A, B = "a@acme.example", "b@acme.example"


@pytest.fixture
async def why(rotord, db):
    """Ask with --json, in a fleet of one client that may send, under a leader; acme has one address, a@acme.example."""
    await db.execute("UPDATE rotord.domains SET providers = '{relay}'")
    await db.execute("INSERT INTO rotord.lease VALUES ('main', gen_random_uuid(), 7, now(), now() + interval '1 hour', 'node-1')")

    async def ask(kind, name):
        done = await rotord("why", kind, str(name), "--json")
        assert done.code == 0, done.err
        return done.json

    return ask


async def now(db):
    return await db.fetchval("SELECT now()")


def until(found):
    return datetime.fromisoformat(found["until"])


async def send(db, *ago, address=A, finished=True, outcome="accepted", client="acme"):
    """Write attempts into the ledger that began and, 1 s later, ended so long ago; gives the ends."""
    ends = []
    for number, back in enumerate(ago):
        end = await now(db) - back
        ends.append(end)
        domain = address.partition("@")[2]
        began = end - timedelta(seconds=1)
        await db.execute(
            "INSERT INTO rotord.attempts (id, outbox_id, number, epoch, address, domain, client, provider, began_at, deadline_at,"
            " finished_at, outcome) VALUES ($1, 0, 1, 7, $2, $3, $4, 'relay', $5, $6, $7, $8)",
            (int(began.timestamp() * 1000) << 20) + number, address, domain, client, began, end + timedelta(minutes=2),
            end if finished else None, outcome if finished else None,
        )  # fmt: skip
    return ends


async def publish(db, *, up=True, in_flight=0, capacity=8, reason="", next_try_in_s=None):
    """What a leader writes of its provider about once a second."""
    await db.set_type_codec("jsonb", schema="pg_catalog", encoder=lambda _: "{}", decoder=str)
    await reports.publish(db, [ProviderReport("relay", "smtp", up, capacity, in_flight, capacity, reason, next_try_in_s)])


async def test_nothing_holds_it(why, db):
    assert await why("message", await insert(db)) == {
        "message": 1,
        "status": "queued",
        "gate": "ready",
        "scope": "stream",
        "name": "acme/main",
        "sentence": "nothing holds it: 1 of 1 addresses are free",
        "until": None,
        "numbers": {},
    }


# -- limits ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "name", "table"),
    [("address", A, "addresses"), ("domain", "acme.example", "domains"), ("client", "acme", "clients")],
)
async def test_an_hourly_limit_opens_when_the_oldest_message_is_an_hour_old(why, db, scope, name, table):
    await db.execute(f"UPDATE rotord.{table} SET per_hour = 3")
    ends = await send(db, timedelta(minutes=70), timedelta(minutes=50), timedelta(minutes=40), timedelta(minutes=30))

    found = await why("message", await insert(db))

    assert (found["gate"], found["scope"], found["name"]) == ("hour", scope, name)
    assert found["numbers"] == {"used": 3, "limit": 3, "on_the_wire": 0}
    assert found["sentence"] == f"{scope} {name} has used 3 of 3 in the last 60 minutes"
    assert abs(until(found) - (ends[1] + HOUR)) < timedelta(milliseconds=2)


@pytest.mark.parametrize(
    ("scope", "name", "table"),
    [("address", A, "addresses"), ("domain", "acme.example", "domains"), ("client", "acme", "clients")],
)
async def test_a_daily_limit_opens_when_the_oldest_message_is_a_day_old(why, db, scope, name, table):
    await db.execute(f"UPDATE rotord.{table} SET per_hour = 2, per_day = 3")
    ends = await send(db, 20 * HOUR, 5 * HOUR, timedelta(minutes=10))

    found = await why("message", await insert(db))

    assert (found["gate"], found["scope"], found["name"]) == ("day", scope, name)
    assert found["numbers"] == {"used": 3, "limit": 3, "on_the_wire": 0}
    assert found["sentence"] == f"{scope} {name} has used 3 of 3 in the last 24 hours"
    assert abs(until(found) - (ends[0] + DAY)) < timedelta(milliseconds=2)


async def test_what_is_on_the_wire_counts_and_has_no_time(why, db):
    await db.execute("UPDATE rotord.addresses SET per_hour = 3")
    ends = await send(db, timedelta(minutes=50))
    await send(db, timedelta(0), timedelta(seconds=-1), finished=False)

    found = await why("message", await insert(db))

    assert found["numbers"] == {"used": 3, "limit": 3, "on_the_wire": 2}
    assert found["sentence"].endswith("in the last 60 minutes, 2 of them on the wire (one that is refused gives its place back)")
    assert abs(until(found) - (ends[0] + HOUR)) < timedelta(milliseconds=2)

    await send(db, timedelta(seconds=-2), finished=False)

    assert (await why("message", 1))["until"] is None


async def test_a_refused_attempt_does_not_count(why, db):
    await db.execute("UPDATE rotord.addresses SET per_hour = 2")
    await send(db, timedelta(minutes=50))
    await send(db, timedelta(minutes=40), outcome="rejected")

    assert (await why("message", await insert(db)))["gate"] == "ready"


async def test_a_campaigns_cap_counts_what_its_messages_used_also_before_attempts_named_it(why, db):
    ids = [await insert(db, campaign="spring") for _ in range(3)]
    await db.execute("UPDATE rotord.campaigns SET per_hour = 2 WHERE name = 'spring'")
    ends = await send(db, timedelta(minutes=50), timedelta(minutes=40), timedelta(minutes=30))
    await db.execute("UPDATE rotord.attempts SET outbox_id = $1", ids[0])
    await db.execute("UPDATE rotord.attempts SET campaign = CASE WHEN id % 2 = 1 THEN 'spring' END WHERE began_at < $1", ends[1])
    await db.execute("UPDATE rotord.attempts SET campaign = '' WHERE began_at > $1", ends[1])

    found = await why("message", ids[1])

    assert (found["gate"], found["scope"], found["name"]) == ("hour", "campaign", "acme/spring")
    assert found["sentence"] == "campaign acme/spring has used 2 of 2 in the last 60 minutes"
    assert abs(until(found) - (ends[0] + HOUR)) < timedelta(milliseconds=2)
    assert (await why("message", await insert(db)))["gate"] == "ready"


async def test_bulk_mail_waits_for_what_is_kept_for_transactional_mail(why, db):
    await db.execute("UPDATE rotord.clients SET per_hour = 10, transactional_reserve = 0.8 WHERE slug = 'acme'")
    ends = await send(db, timedelta(minutes=50), timedelta(minutes=40))

    found = await why("message", await insert(db))

    assert found["sentence"] == "client acme has used 2 of 2 in the last 60 minutes; 80% of its limit is kept for transactional mail"
    assert abs(until(found) - (ends[0] + HOUR)) < timedelta(milliseconds=2)
    assert (await why("message", await insert(db, kind="transactional")))["gate"] == "ready"


async def test_of_several_addresses_the_one_that_opens_first_is_named_and_the_rest_counted(why, db):
    await db.execute("UPDATE rotord.addresses SET per_hour = 1")
    await db.execute("INSERT INTO rotord.addresses (email, domain, per_hour, status) VALUES ($1, 'acme.example', 1, 'active')", B)
    await db.execute("INSERT INTO rotord.addresses (email, domain, status) VALUES ('c@acme.example', 'acme.example', 'paused')")
    await send(db, timedelta(minutes=10))
    ends = await send(db, timedelta(minutes=40), address=B)

    found = await why("message", await insert(db))

    assert (found["gate"], found["name"]) == ("hour", B)
    assert found["sentence"] == (
        "none of acme/main's 3 addresses is free (2 at an hourly limit, 1 paused); "
        f"next: address {B} has used 1 of 1 in the last 60 minutes"
    )
    assert abs(until(found) - (ends[0] + HOUR)) < timedelta(milliseconds=2)


@pytest.mark.parametrize(
    ("limit", "numbers", "sentence"),
    [
        ("per_hour = 2", {"used": 2, "limit": 2, "on_the_wire": 0}, "provider relay has used 2 of 2 in the last 60 minutes"),
        ("per_day = 3", {"used": 3, "limit": 3, "on_the_wire": 0}, "provider relay has used 3 of 3 in the last 24 hours"),
    ],
)
async def test_a_provider_limit_counts_refused_requests_too(why, db, tmp_path, limit, numbers, sentence):
    (tmp_path / "rotord.toml").write_text(f"[providers.relay]\nkind = 'smtp'\nhost = '127.0.0.1'\n{limit}\n")
    ends = await send(db, 2 * HOUR, timedelta(minutes=40), timedelta(minutes=20), outcome="rejected")

    found = await why("message", await insert(db))

    assert (found["gate"], found["scope"], found["name"]) == ("provider_limit", "provider", "relay")
    assert (found["numbers"], found["sentence"]) == (numbers, sentence)
    opens_at = ends[1] + HOUR if "hour" in limit else ends[0] + DAY
    assert abs(until(found) - opens_at) < timedelta(milliseconds=2)


async def test_other_clients_use_a_provider_up_as_well(why, db, tmp_path):
    (tmp_path / "rotord.toml").write_text("[providers.relay]\nkind = 'smtp'\nhost = '127.0.0.1'\nper_hour = 4\n")
    ends = await send(db, timedelta(minutes=50), timedelta(minutes=40), address="o@other.example", client="other")
    await send(db, timedelta(minutes=30))
    await send(db, timedelta(0), address="o@other.example", client="other", finished=False)

    found = await why("message", await insert(db))

    assert (found["gate"], found["numbers"]) == ("provider_limit", {"used": 4, "limit": 4, "on_the_wire": 1})
    # to the second, as what others did is read
    assert timedelta(0) <= until(found) - (ends[0] + HOUR) < timedelta(seconds=1)


async def test_a_provider_s_month_ends_with_the_month(why, db, tmp_path):
    (tmp_path / "rotord.toml").write_text("[providers.relay]\nkind = 'smtp'\nhost = '127.0.0.1'\nper_month = 5\n")
    moment = await now(db)
    first = datetime(moment.year, moment.month, 1, tzinfo=UTC)
    await db.execute("INSERT INTO rotord.daily_counters VALUES ($1, 'relay', 'acme', 'acme.example', $2, 5, 5)", first.date(), A)

    found = await why("message", await insert(db))

    assert (found["gate"], found["numbers"]) == ("provider_limit", {"used": 5, "limit": 5})
    assert found["sentence"] == "provider relay has used the 5 that its plan has a month"
    assert until(found) == datetime(first.year + first.month // 12, first.month % 12 + 1, 1, tzinfo=UTC)


# -- times -------------------------------------------------------------------------------------------------------------------------


async def test_a_closed_window_opens_on_its_day(why, db):
    opens_on = (await now(db)).astimezone(UTC).date() + timedelta(days=2)
    window = f"{DAYS[opens_on.weekday()]} 08:00-09:00"
    await db.execute("UPDATE rotord.clients SET sending_window = $1 WHERE slug = 'acme'", window)

    found = await why("message", await insert(db))

    assert (found["gate"], found["scope"], found["name"]) == ("window", "client", "acme")
    assert found["sentence"] == f"the sending window of client acme is closed (it sends {window} UTC)"
    assert until(found) == datetime(opens_on.year, opens_on.month, opens_on.day, 8, tzinfo=UTC)
    assert (await why("message", await insert(db, kind="transactional")))["gate"] == "ready"


async def test_pacing_names_the_next_turn(why, db):
    await db.execute("UPDATE rotord.clients SET pacing = 'even', per_day = 24 WHERE slug = 'acme'")
    [end] = await send(db, timedelta(0))

    found = await why("message", await insert(db))

    assert (found["gate"], found["scope"], found["name"]) == ("pacing", "client", "acme")
    assert found["sentence"] == "client acme is paced: its mail is spread evenly over its sending window"
    # 24 a day are one an hour; never faster than four times that, never later than two slots
    assert end + timedelta(minutes=14) < until(found) < end + timedelta(minutes=125)


async def test_send_after_and_a_refusal_for_now_say_when_it_is_tried(why, db):
    later = await now(db) + HOUR
    found = await why("message", await insert(db, send_after=later))

    assert (found["gate"], until(found), found["status"]) == ("scheduled", later, "queued")
    assert found["sentence"] == f"its send_after is {later:%Y-%m-%d %H:%M:%SZ}"

    refused = await insert(db)
    await db.execute(
        "UPDATE rotord.queue SET state = 'scheduled', due_at = $1, attempts = 2, last_error = '451 greylisted' WHERE id = $2",
        later,
        refused,
    )
    found = await why("message", refused)

    assert (found["gate"], until(found), found["status"]) == ("scheduled", later, "queued")
    assert found["sentence"] == f"it was refused for now (451 greylisted); attempt 3 is at {later:%Y-%m-%d %H:%M:%SZ}"


async def test_an_expired_message_waits_for_nothing(why, db):
    past = await now(db) - HOUR
    found = await why("message", await insert(db, expires_at=past))

    assert (found["gate"], found["status"], found["until"]) == ("expired", "queued", None)
    assert found["sentence"] == f"it expired at {past:%Y-%m-%d %H:%M:%SZ}, and is never sent"


# -- a person's word ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("client", "acme"),
        ("stream", "acme/main"),
        ("campaign", "acme/spring"),
        ("domain", "acme.example"),
        ("address", A),
        ("provider", "relay"),
    ],
)
async def test_what_a_person_paused_is_named_with_the_way_back(why, rotord, db, kind, name):
    message = await insert(db, campaign="spring")
    assert (await rotord("pause", kind, name)).code == 0

    found = await why("message", message)

    assert (found["gate"], found["scope"], found["name"], found["until"]) == ("paused", kind, name, None)
    assert found["sentence"] == f"{kind} {name} is paused by a person (rotord resume {kind} {name})"

    assert (await rotord("resume", kind, name)).code == 0
    assert (await why("message", message))["gate"] == "ready"


async def test_everything_is_paused(why, rotord, db):
    await rotord("pause", "all")

    found = await why("message", await insert(db))

    assert (found["gate"], found["sentence"]) == ("paused", "everything is paused by a person (rotord resume all)")


@pytest.mark.parametrize(
    ("scope", "name", "table"),
    [("address", A, "addresses"), ("domain", "acme.example", "domains"), ("client", "acme", "clients")],
)
async def test_what_a_person_disabled_says_the_remedy(why, db, scope, name, table):
    await db.execute(f"UPDATE rotord.{table} SET status = 'disabled'")

    found = await why("message", await insert(db))

    assert (found["gate"], found["scope"], found["name"], found["until"]) == ("disabled", scope, name, None)
    assert found["sentence"] == f"{scope} {name} is disabled by a person (set its status to active)"


# -- rotord's word -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scope", "name", "table"), [("address", A, "addresses"), ("domain", "acme.example", "domains")])
async def test_a_cooling_address_or_domain_says_why_and_until_when(why, db, scope, name, table):
    warm_at = await now(db) + 6 * HOUR
    await db.execute(f"UPDATE rotord.{table} SET health = 'cooling', health_until = $1, health_reason = '9 of 40 bounced'", warm_at)

    found = await why("message", await insert(db))

    assert (found["gate"], found["scope"], found["name"], until(found)) == ("cooling", scope, name, warm_at)
    assert found["sentence"] == f"{scope} {name} is cooling: 9 of 40 bounced"


async def test_an_address_that_rotord_disabled_says_why(why, db):
    await db.execute("UPDATE rotord.addresses SET health = 'disabled', health_reason = 'its provider closed the account'")

    found = await why("message", await insert(db))

    assert (found["gate"], found["until"]) == ("disabled", None)
    assert found["sentence"] == f"address {A} is disabled by rotord: its provider closed the account"


# -- messages that may leave from one address only ---------------------------------------------------------------------------------


async def test_a_pinned_message_waits_for_its_sender_though_another_is_free(why, db):
    await db.execute("INSERT INTO rotord.addresses (email, domain) VALUES ($1, 'acme.example')", B)
    message = await insert(db, sender=A)
    warm_at = await now(db) + 6 * HOUR
    await db.execute("UPDATE rotord.addresses SET health = 'cooling', health_until = $1 WHERE email = $2", warm_at, A)

    found = await why("message", message)

    assert (found["gate"], found["scope"], found["name"], until(found)) == ("sticky", "address", A, warm_at)
    assert found["sentence"] == f"its row names this sender: address {A} is cooling"

    await db.execute("UPDATE rotord.addresses SET health = 'healthy', status = 'paused' WHERE email = $1", A)
    found = await why("message", message)

    assert (found["gate"], found["until"]) == ("sticky", None)
    assert found["sentence"] == f"its row names this sender: address {A} is paused by a person (rotord resume address {A})"

    await db.execute("UPDATE rotord.addresses SET per_hour = 1, status = 'active' WHERE email = $1", A)
    ends = await send(db, timedelta(minutes=20))
    found = await why("message", message)

    assert (found["gate"], found["numbers"]["used"]) == ("sticky", 1)
    assert abs(until(found) - (ends[0] + HOUR)) < timedelta(milliseconds=2)


async def test_a_thread_waits_for_its_address(why, db):
    await db.execute("INSERT INTO rotord.addresses (email, domain) VALUES ($1, 'acme.example')", B)
    await db.execute("INSERT INTO rotord.threads (client, thread_key, sender, last_message_id) VALUES ('acme', 't', $1, '<1@x>')", A)
    message = await insert(db, thread_key="t")
    warm_at = await now(db) + 6 * HOUR
    await db.execute("UPDATE rotord.addresses SET health = 'cooling', health_until = $1 WHERE email = $2", warm_at, A)

    found = await why("message", message)

    assert (found["gate"], until(found)) == ("sticky", warm_at)
    assert found["sentence"] == f"its thread keeps its address: address {A} is cooling"

    await db.execute("UPDATE rotord.addresses SET health_until = now() + interval '25 hours' WHERE email = $1", A)
    found = await why("message", message)

    assert (found["gate"], found["sentence"]) == ("ready", f"it moves from {A} to {B} at the next turn")


async def test_a_pin_that_is_nobody_s_fails_at_the_next_turn(why, db):
    found = await why("message", await insert(db, sender="x@acme.example"))

    assert (found["gate"], found["sentence"]) == (
        "no_address",
        "sender x@acme.example is not an address of acme/main; it fails at the next turn",
    )


async def test_a_message_waits_for_the_one_before_it_in_its_thread(why, db):
    first, second = await insert(db, thread_key="t"), await insert(db, thread_key="t")

    found = await why("message", second)

    assert (found["gate"], found["status"]) == ("thread", "queued")
    assert found["sentence"] == f"it waits behind message {first} of its thread t"


# -- no way out --------------------------------------------------------------------------------------------------------------------


async def test_a_stream_without_addresses(why, db):
    found = await why("message", await insert(db, stream="cold"))

    assert (found["gate"], found["name"]) == ("no_address", "acme/cold")
    assert found["sentence"] == "acme/cold has no address: give it one (rotord fleet apply)"


async def test_a_domain_that_names_no_configured_provider(why, db):
    await db.execute("UPDATE rotord.domains SET providers = '{gone,lost}'")

    found = await why("message", await insert(db))

    assert (found["gate"], found["name"]) == ("no_address", "acme.example")
    assert found["sentence"] == "domain acme.example names no configured provider (its providers: gone, lost)"


async def test_all_slots_of_the_provider_are_in_use(why, db):
    await publish(db, in_flight=8, capacity=8)

    found = await why("message", await insert(db))

    assert (found["gate"], found["name"], found["until"]) == ("slots", "relay", None)
    assert found["sentence"] == "all 8 slots of provider relay are in use; the next answer frees one"


async def test_a_provider_that_is_down_says_why_and_when_it_is_tried(why, db):
    await publish(db, up=False, reason="connection refused", next_try_in_s=10.0)

    found = await why("message", await insert(db))

    assert (found["gate"], found["name"]) == ("provider_down", "relay")
    assert found["sentence"] == "provider relay is down (connection refused) and is tried again"
    assert timedelta(seconds=5) < until(found) - await now(db) < timedelta(seconds=11)


async def test_another_provider_of_the_domain_lets_it_pass(why, db):
    await db.execute("UPDATE rotord.domains SET providers = '{relay,backup}'")
    await publish(db, up=False, reason="connection refused", next_try_in_s=10.0)

    assert (await why("message", await insert(db)))["gate"] == "ready"


async def test_without_a_leader_nothing_is_sent(why, db):
    message = await insert(db)
    expired_at = await db.fetchval("UPDATE rotord.lease SET expires_at = now() - interval '5 s' RETURNING expires_at")
    found = await why("message", message)

    assert found["gate"] == "lease"
    assert found["sentence"] == (
        f"no daemon leads, so nothing is sent (node-1 led until {expired_at:%Y-%m-%d %H:%M:%SZ}): start one with rotord run"
    )

    await db.execute("DELETE FROM rotord.lease")

    assert (await why("message", message))["sentence"] == "no daemon has ever led, so nothing is sent: start one with rotord run"


# -- suppressed, on the wire, over -------------------------------------------------------------------------------------------------


async def test_a_suppressed_recipient(why, rotord, db):
    message = await insert(db, recipient="Jane@Example.org")
    await rotord("suppress", "add", "jane@example.org", "--client", "acme", "--reason", "complaint")
    found = await why("message", message)

    assert (found["gate"], found["status"], found["until"]) == ("suppressed", "queued", None)
    assert found["sentence"] == "its recipient is suppressed for client acme (complaint); it ends as suppressed when its turn comes"
    assert (await why("message", await insert(db, recipient="Jane@Example.org", kind="transactional")))["gate"] == "ready"


async def test_a_message_on_the_wire_says_from_where_and_how_long_at_most(why, db):
    message = await insert(db)
    attempt = await begin(db, message)
    began_at, deadline_at = await db.fetchrow("SELECT began_at, deadline_at FROM rotord.attempts WHERE id = $1", attempt)

    found = await why("message", message)

    assert (found["gate"], found["status"], until(found)) == ("sending", "sending", deadline_at)
    assert found["sentence"] == (
        f"attempt 1 from {A} by relay is on the wire since {began_at:%Y-%m-%d %H:%M:%SZ}, "
        f"until {deadline_at:%Y-%m-%d %H:%M:%SZ} at the latest"
    )

    await db.execute("UPDATE rotord.outbox SET cancelled_at = now() WHERE id = $1", message)

    assert (await why("message", message))["sentence"].endswith(
        "at the latest; it was called back too late, and is cancelled if it turns out not to be sent"
    )


async def test_an_uncertain_message_says_who_settles_it(why, db):
    message = await insert(db)
    await make_uncertain(db, message)

    found = await why("message", message)

    assert (found["gate"], found["status"], found["until"]) == ("uncertain", "uncertain", None)
    assert found["sentence"] == (
        "its provider may have it (cut), so it is not sent again until an event or a person settles it "
        f"(rotord uncertain resolve {message} sent|not-sent)"
    )


async def test_what_is_over_says_how_it_ended(why, rotord, db):
    sent, failed, cancelled, expired = [await insert(db) for _ in range(4)]
    await make_uncertain(db, sent)
    await rotord("uncertain", "resolve", str(sent), "sent")
    await fail(db, failed)
    await db.execute("UPDATE rotord.outbox SET cancelled_at = now() WHERE id = $1", cancelled)
    await db.execute("UPDATE rotord.queue SET expires_at = now() WHERE id = $1", expired)
    await settle.expire(db)

    answers = [await why("message", message) for message in (sent, failed, cancelled, expired)]

    assert [answer["status"] for answer in answers] == ["sent", "failed", "cancelled", "expired"]
    assert [answer["gate"] for answer in answers] == ["settled", "settled", "settled", "expired"]
    times = await db.fetch("SELECT settled_at, sent_at FROM rotord.messages ORDER BY id")
    moments = [f"{settled_at:%Y-%m-%d %H:%M:%SZ}" for settled_at, _ in times]
    assert [answer["sentence"] for answer in answers] == [
        f"relay accepted it at {times[0][1]:%Y-%m-%d %H:%M:%SZ}, from {A}",
        f"it failed at {moments[1]}: 550 no",
        f"it was called back in time, at {moments[2]}",
        f"it expired before it could be sent (settled at {moments[3]})",
    ]


# -- the other two questions, and the words of a terminal --------------------------------------------------------------------------


async def test_why_address_says_what_it_has_used_and_what_holds_it(why, rotord, db):
    await db.execute("UPDATE rotord.addresses SET per_hour = 2, per_day = 40")
    ends = await send(db, 3 * HOUR, timedelta(minutes=30), timedelta(minutes=20))
    found = await why("address", A.upper())

    assert (found["address"], found["used_hour"], found["used_day"], found["on_the_wire"]) == (A, 2, 3, 0)
    assert found["gate"] == "hour"

    done = await rotord("why", "address", A)

    opens_at = (ends[1] + HOUR).astimezone(UTC)
    assert done.out == (
        f"address {A}: sent 2 of 2 in the last 60 minutes, 3 of 40 in the last 24 hours\n"
        f"  hour: address {A} has used 2 of 2 in the last 60 minutes; opens {opens_at:%Y-%m-%d %H:%M:%SZ}\n"
    )


async def test_why_address_looks_up_to_its_client_and_the_leader(why, rotord, db):
    await rotord("pause", "stream", "acme/main")

    assert (await why("address", A))["sentence"].startswith("stream acme/main is paused by a person")

    await rotord("resume", "stream", "acme/main")
    assert (await why("address", A))["sentence"] == f"{A} may send now"

    await db.execute("DELETE FROM rotord.lease")
    assert (await why("address", A))["gate"] == "lease"


async def test_why_client_says_it_lane_by_lane(why, rotord, db):
    for campaign, count in (("spring", 2), (None, 3)):
        for _ in range(count):
            await insert(db, campaign=campaign)
    await insert(db, kind="transactional", stream="cold")
    await rotord("pause", "campaign", "acme/spring")

    found = await why("client", "acme")

    assert (found["client"], found["ready"], found["is_more"]) == ("acme", 6, False)
    assert [(lane["messages"], lane["gate"]) for lane in found["lanes"]] == [
        ("3 messages (bulk, stream main)", "ready"),
        ("2 messages (bulk, stream main, campaign spring)", "paused"),
        ("1 message (transactional, stream cold)", "no_address"),
    ]

    done = await rotord("why", "client", "acme")

    assert done.out.splitlines()[:3] == [
        "client acme: 6 messages ready to go",
        "  3 messages (bulk, stream main):",
        "    ready: nothing holds it: 1 of 1 addresses are free",
    ]


async def test_why_client_counts_no_further_than_a_thousand(why, db):
    await db.execute(
        "INSERT INTO rotord.outbox (client, recipient, subject, body_text)"
        " SELECT 'acme', 'r@example.org', 's', 'b' FROM generate_series(1, 1200)"
    )

    found = await why("client", "acme")

    assert (found["ready"], found["is_more"]) == (1000, True)
    assert found["lanes"][0]["messages"] == "1,000 messages or more (bulk, stream main)"


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("message", "99", "there is no message 99"),
        ("address", "aa@acme.example", "there is no address aa@acme.example in the fleet"),
        ("client", "acne", "there is no client acne"),
    ],
)
async def test_an_unknown_name_fails_and_says_so(why, rotord, kind, name, words):
    done = await rotord("why", kind, name)

    assert done.code == 1
    assert words in done.err
