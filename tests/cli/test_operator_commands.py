"""pause, resume, uncertain, retry, cancel, status: what a person types, reads and gets back."""

from datetime import timedelta

from outbox_rows import begin, fail, insert, make_uncertain, status

from rotord.core.alerting import Alert, Severity
from rotord.db import alerts


async def test_pause_and_resume_say_what_they_did_and_what_was_so_already(rotord, db):
    assert (await rotord("pause", "client", "acme")).out == "client acme is paused\n"
    assert (await rotord("pause", "client", "acme")).out == "client acme was paused already\n"
    assert (await rotord("resume", "client", "acme")).out == "client acme is resumed\n"
    assert (await rotord("resume", "client", "acme")).out == "client acme was not paused already\n"
    assert (await rotord("pause", "all", "--json")).json == {"kind": "all", "name": "", "before": "active", "status": "paused"}
    assert (await rotord("pause", "address", "A@acme.example")).out == "address a@acme.example is paused\n"
    assert (await rotord("pause", "campaign", "acme/x")).out == "campaign acme/x is paused (no message has named it yet)\n"
    assert await db.fetchval("SELECT count(*) FROM rotord.pauses") == 1


REFUSED = [
    (["client", "acm"], 1, "there is no client acm; did you mean acme?"),
    (["stream", "acme/mian"], 1, "there is no stream acme/mian; did you mean acme/main?"),
    (["campaign", "acm/spring"], 1, "there is no campaign acm/spring; did you mean acme/spring?"),
    (["provider", "rely"], 1, "the configuration has no provider rely; did you mean relay?"),
    (["provider", "x"], 1, "the configuration has no provider x; it has backup, relay"),
    (["stream", "acme"], 2, "a stream is named CLIENT/STREAM, such as acme/spring"),
    (["all", "acme"], 2, "`all` has no name"),
    (["domain"], 2, "name the domain"),
]


async def test_a_name_that_is_not_there_is_refused_with_the_nearest(rotord):
    for words, code, error in REFUSED:
        done = await rotord("pause", *words)

        assert (done.code, done.err, done.out) == (code, f"rotord: {error}\n", "")


async def test_resume_does_not_enable_and_says_what_does(rotord, db):
    await db.execute("UPDATE rotord.addresses SET status = 'disabled' WHERE email = 'a@acme.example'")

    refused = await rotord("resume", "address", "a@acme.example")
    assert refused.code == 1
    await db.execute(refused.err.partition("or run: ")[2])
    assert (await rotord("resume", "address", "a@acme.example")).code == 0


async def test_a_provider_of_the_configuration_is_paused(rotord, db):
    assert (await rotord("pause", "provider", "relay")).code == 0
    assert await db.fetchval("SELECT name FROM rotord.pauses WHERE kind = 'provider'") == "relay"


async def test_uncertain_list_shows_what_a_person_needs_for_the_providers_log(rotord, db):
    assert (await rotord("uncertain", "list")).out == "no messages are uncertain\n"
    message = await insert(db)
    await make_uncertain(db, message, ago=timedelta(hours=3))

    shown = (await rotord("uncertain", "list")).out
    assert all(word in shown for word in (str(message), "3h", "acme", "R@Example.org", "a@acme.example", "relay", "hold", "cut"))
    (row,) = (await rotord("uncertain", "list", "--json")).json["messages"]
    assert (row["id"], row["provider"], row["message_id"]) == (message, "relay", "<m@x>")
    assert row["began_at"].endswith("Z")


async def test_uncertain_resolve_by_id_tells_which_were_not_uncertain(rotord, db):
    unsure, queued = await insert(db), await insert(db)
    await make_uncertain(db, unsure)

    done = await rotord("uncertain", "resolve", "--json", str(unsure), str(queued), "sent")

    assert (done.code, done.json) == (1, {"sent": [unsure], "queued": [], "cancelled": [], "not_uncertain": [queued]})
    assert (await status(db, unsure), await status(db, queued)) == ("sent", "queued")
    again = await rotord("uncertain", "resolve", str(unsure), "sent")
    assert (again.code, again.err) == (1, f"rotord: not uncertain, so left alone: {unsure}\n")


async def test_uncertain_resolve_all_takes_what_is_old_enough_of_one_provider(rotord, db):
    old, young, elsewhere = await insert(db), await insert(db), await insert(db)
    await make_uncertain(db, old, ago=timedelta(hours=3))
    await make_uncertain(db, young)
    await make_uncertain(db, elsewhere, ago=timedelta(hours=3), provider="backup")

    done = await rotord("uncertain", "resolve", "--all", "--older-than", "2h", "--provider", "relay", "not-sent")

    assert (done.code, done.out) == (0, "1 message back in the queue, due now\n")
    assert [await status(db, message) for message in (old, young, elsewhere)] == ["queued", "uncertain", "uncertain"]


async def test_a_provider_that_does_not_exist_is_told_from_one_without_uncertain_messages(rotord, db):
    await make_uncertain(db, await insert(db), provider="former")
    for words in ("uncertain resolve --all --older-than 2h sent --provider", "uncertain list --provider"):
        typo = await rotord(*words.split(), "relya")

        assert (typo.code, typo.err) == (2, "rotord: there is no provider relya; did you mean relay?\n")
        for known in ("backup", "former"):  # one that is configured, one that is no longer
            assert (await rotord(*words.split(), known)).code == 0


async def test_a_verdict_on_nothing_in_particular_is_a_usage_error(rotord):
    for words in ("--all sent", "sent", "--older-than 2h 1 sent", "x sent", "1 maybe", "--all --older-than 2h 1 sent"):
        done = await rotord("uncertain", "resolve", *words.split())

        assert (done.code, done.err.count("\n")) == (2, 1), words


async def test_retry_and_cancel_want_a_filter(rotord):
    for command in ("retry", "cancel"):
        done = await rotord(command)
        assert (done.code, done.err) == (2, "rotord: name at least one of --client, --campaign, --status, --since\n")


async def test_a_dry_run_counts_and_shows_and_changes_nothing(rotord, db):
    for _ in range(12):
        await insert(db, campaign="spring")

    shown = (await rotord("cancel", "--campaign", "spring", "--dry-run")).out
    counted = (await rotord("cancel", "--campaign", "spring", "--dry-run", "--json")).json

    assert shown.startswith("12 messages would be called back, for example:\nID ")
    assert len(shown.splitlines()) == 12
    assert (counted["count"], len(counted["sample"])) == (12, 10)
    assert await db.fetchval("SELECT count(*) FROM rotord.queue") == 12


async def test_cancel_then_nothing_is_left_to_cancel(rotord, db):
    message = await insert(db)

    assert (await rotord("cancel", "--since", "1h")).out == "1 message called back\n"
    assert (await rotord("cancel", "--since", "1h")).out == "no message matches\n"
    assert await status(db, message) == "cancelled"


async def test_retry_by_default_takes_failed_and_deferred_but_not_suppressed(rotord, db):
    failed, deferred, suppressed = await insert(db), await insert(db), await insert(db)
    await fail(db, failed)
    await fail(db, suppressed)
    await db.execute("UPDATE rotord.message_state SET status = 'suppressed' WHERE id = $1", suppressed)
    await begin(db, deferred)
    await db.execute("UPDATE rotord.queue SET state = 'scheduled', due_at = now() + interval '1 h' WHERE id = $1", deferred)

    done = await rotord("retry", "--client", "acme", "--json")

    assert done.json == {"requeued": 1, "woken": 1}
    assert [await status(db, message) for message in (failed, suppressed)] == ["queued", "suppressed"]
    assert (await rotord("retry", "--status", "suppressed")).out.startswith("1 message back in the queue")


async def test_an_unknown_client_is_named_with_the_nearest(rotord):
    for words in (["cancel", "--client", "acm"], ["uncertain", "list", "--client", "acm"], ["suppress", "list", "--client", "acm"]):
        done = await rotord(*words)
        assert (done.code, done.err) == (1, "rotord: there is no client acm; did you mean acme?\n")


async def test_status_tells_the_whole_in_one_picture(rotord, db):
    empty = (await rotord("status")).out
    assert "the queue is empty" in empty
    assert "no daemon has run on this database" in empty
    await insert(db)
    await make_uncertain(db, await insert(db, client="other"))
    await db.execute(
        "INSERT INTO rotord.provider_status VALUES "
        "('relay', 'smtp', false, 0, 0, 8, 'connection refused', now() - interval '90 s', now() + interval '10 s', now())"
    )
    await db.execute(
        "INSERT INTO rotord.lease (name, holder, epoch, elected_at, expires_at, node) "
        "VALUES ('main', gen_random_uuid(), 7, now() - interval '1 hour', now() + interval '9 s', 'vps-1') "
        "ON CONFLICT (name) DO UPDATE SET epoch = 7, node = 'vps-1', expires_at = excluded.expires_at, elected_at = excluded.elected_at"
    )
    await rotord("pause", "stream", "acme/main")

    shown = (await rotord("status")).out
    document = (await rotord("status", "--json")).json

    assert "vps-1 (epoch 7) for 1h" in shown
    assert "paused     stream acme/main\n" in shown
    assert "DOWN" in shown
    assert "connection refused" in shown
    assert shown.endswith("1 message uncertain: rotord uncertain list\n")
    assert document["leader"]["is_leading"]
    assert document["leader"]["expires_at"].endswith("Z")
    assert {row["client"]: (row["queued"], row["uncertain"]) for row in document["queue"]} == {"acme": (1, 0), "other": (0, 1)}
    assert (document["uncertain"], document["alerts"], document["addresses"]) == (1, [], {"healthy": 2})
    assert document["providers"][0]["reason"] == "connection refused"

    # So does a daemon leave that was stopped: by resigning, which lets nothing run out.
    await db.execute("UPDATE rotord.lease SET expires_at = now() - interval '2 minutes'")
    assert "leader     none: vps-1 (epoch 7) led until 2m" in (await rotord("status")).out


async def test_events_replay_has_stored_posts_folded_again(rotord, db):
    await db.execute(
        "INSERT INTO rotord.provider_posts (provider, route, token, digest, content_type, body, received_at, folded_at)"
        " SELECT 'mg', 'webhooks', n::text, '', '', '', now() - n * interval '1 day', now() FROM generate_series(1, 3) AS n"
    )

    assert (await rotord("events", "replay", "--since", "36h")).out == "1 post will be folded again\n"
    assert (await rotord("events", "replay", "--json")).json == {"posts": 2}
    assert await db.fetchval("SELECT count(*) FROM rotord.provider_posts WHERE folded_at IS NULL") == 3


async def test_status_shows_open_alerts_the_most_urgent_first(rotord, db):
    assert "alerts     none open" in (await rotord("status")).out

    await alerts.raise_alert(db, Alert("plan_used", "relay", Severity.INFO, "80 %"))
    await alerts.raise_alert(db, Alert("provider_down", "relay", Severity.CRITICAL, "refused"))
    out = (await rotord("status")).out

    assert "alerts     2 open" in out
    assert out.index("critical provider down relay (for") < out.index("info plan used relay")

    shown = (await rotord("status", "--json")).json["alerts"]

    assert [(one["what"], one["severity"]) for one in shown] == [("provider_down", "critical"), ("plan_used", "info")]
