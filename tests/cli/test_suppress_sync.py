"""suppress sync against accounts that remember: each side hears of what the other lists, and nothing is lifted on either."""

from __future__ import annotations

import copy
from contextlib import AsyncExitStack

import pytest
from outbox_rows import insert

from tests.doubles.mailgun import MailgunDouble
from tests.doubles.sendgrid import SendgridDouble
from tests.doubles.smtp2go import Smtp2goDouble
from tests.doubles.suppression_lists import MailgunLists, SendgridLists, Smtp2goLists

CONFIG = """
[providers.mg]
kind = "mailgun"
base_url = "{mg}"
api_key = "{key}"
look_ups_per_minute = 6000
[providers.sg]
kind = "sendgrid"
base_url = "{sg}"
api_key = "{key}"
look_ups_per_minute = 6000
[providers.s2]
kind = "smtp2go"
base_url = "{s2}"
api_key = "{key}"
look_ups_per_minute = 6000
[providers.relay]
kind = "smtp"
host = "127.0.0.1"
{more}
"""
ACCOUNTS = {"mg": (MailgunDouble, MailgunLists), "sg": (SendgridDouble, SendgridLists), "s2": (Smtp2goDouble, Smtp2goLists)}
DOMAIN = "acme.example"


@pytest.fixture
def more():
    """More of the configuration."""
    return ""


@pytest.fixture
async def accounts(rotord, db, tmp_path, more):
    """Three accounts that one client alone sends through."""
    await db.execute("UPDATE rotord.domains SET providers = '{relay}'")
    await db.execute("UPDATE rotord.domains SET providers = '{mg,sg,s2}' WHERE name = $1", DOMAIN)
    there = {name: lists() for name, (_, lists) in ACCOUNTS.items()}
    async with AsyncExitStack() as stack:
        doubles = {name: await stack.enter_async_context(double(tmp_path, extra=[there[name]])) for name, (double, _) in ACCOUNTS.items()}
        doubles["mg"].domains.add(DOMAIN)
        urls = {name: double.url for name, double in doubles.items()}
        (tmp_path / "rotord.toml").write_text(CONFIG.format(**urls, key=doubles["mg"].key, more=more))
        yield there


def listed(accounts):
    """Everything that the three list."""
    mailgun = {(domain, name, address) for domain, lists in accounts["mg"].lists.items() for name in lists for address in lists[name]}
    sendgrid = {(name, item["email"]) for name, items in accounts["sg"].lists.items() for item in items}
    smtp2go = {(one["reason"], one["email_address"], one["block_description"]) for one in accounts["s2"].entries}
    return mailgun, sendgrid, smtp2go


async def suppressed(db):
    rows = await db.fetch("SELECT client, recipient, reason, source FROM rotord.suppressions")
    return {tuple(row) for row in rows}


def fill(accounts):
    accounts["mg"].put(DOMAIN, "bounces", "Dead@example.org")
    accounts["mg"].put(DOMAIN, "unsubscribes", "gone@example.org")
    accounts["sg"].put("spam_reports", "angry@example.org")
    accounts["sg"].put("blocks", "blocked@example.org")
    accounts["s2"].put("whole-domain.example", "manual")
    accounts["s2"].put("written@example.org", "manual")
    accounts["s2"].put("three@example.org", "bounce")


HERE = {
    ("acme", "dead@example.org", "hard_bounce", "list of mg"),
    ("acme", "gone@example.org", "unsubscribe", "list of mg"),
    ("acme", "angry@example.org", "complaint", "list of sg"),
    ("acme", "written@example.org", "manual", "list of s2"),
    ("acme", "three@example.org", "hard_bounce", "list of s2"),
}


async def test_plan_changes_nothing_apply_exchanges_and_a_second_apply_has_nothing_to_do(rotord, accounts, db):
    fill(accounts)
    await rotord("suppress", "add", "ours@example.org", "--client", "acme")
    await rotord("suppress", "add", "everybodys@example.org", "--reason", "hard_bounce")
    await rotord("suppress", "add", "opted-out@example.org", "--client", "acme", "--reason", "unsubscribe")
    before, mine = copy.deepcopy(listed(accounts)), await suppressed(db)

    plan = await rotord("suppress", "sync", "plan", "--json")
    assert (plan.code, plan.err) == (0, ""), plan.out
    assert (listed(accounts), await suppressed(db)) == (before, mine)
    assert sum(entry["new"] for entry in plan.json["read"]) == 5
    assert sum(entry["left_out"] for entry in plan.json["read"]) == 1
    assert sum(entry["count"] for entry in plan.json["to_add"]) == 2 * 3
    assert await db.fetchval("SELECT count(*) FROM rotord.list_pulls") == 0

    applied = await rotord("suppress", "sync", "apply")
    assert applied.code == 0, applied.out
    assert await suppressed(db) == mine | HERE
    after = listed(accounts)
    assert [old - new for old, new in zip(before, after, strict=True)] == [set(), set(), set()]
    added = [new - old for old, new in zip(before, after, strict=True)]
    # what the one lists, the others are told; what is only for bulk mail stays here, for their lists stop all
    ours = {"ours@example.org", "everybodys@example.org"}
    assert added[0] == {(DOMAIN, "bounces", one) for one in ours | {"written@example.org", "three@example.org"}}
    assert added[1] == {("unsubscribes", one) for one in ours | {"dead@example.org", "written@example.org", "three@example.org"}}
    words = {"ours@example.org": "manual", "everybodys@example.org": "hard_bounce", "dead@example.org": "hard_bounce"}
    assert added[2] == {("manual", one, f"rotord: {reason}") for one, reason in words.items()}

    for account in accounts.values():
        account.requests.clear()
    again = await rotord("suppress", "sync", "apply")
    assert again.code == 0, again.out
    assert "added" not in again.out
    assert (listed(accounts), await suppressed(db)) == (after, mine | HERE)
    assert not [one for account in accounts.values() for one in account.requests if one[0] == "POST" and not one[1].endswith("/view")]


@pytest.mark.parametrize("more", ['[suppressions]\npush = "all"'])
async def test_all_reasons_are_added_if_that_is_wished(rotord, accounts, db):
    for reason in ("unsubscribe", "complaint"):
        await rotord("suppress", "add", f"{reason}@example.org", "--client", "acme", "--reason", reason)
    mine = await suppressed(db)
    await rotord("suppress", "sync", "apply")
    assert listed(accounts) == (
        {(DOMAIN, "unsubscribes", "unsubscribe@example.org"), (DOMAIN, "complaints", "complaint@example.org")},
        {("unsubscribes", "unsubscribe@example.org"), ("unsubscribes", "complaint@example.org")},
        {("manual", f"{reason}@example.org", f"rotord: {reason}") for reason in ("unsubscribe", "complaint")},
    )
    await rotord("suppress", "sync", "apply")
    assert await suppressed(db) == mine  # what comes back of it is no new one, and no stricter one


@pytest.mark.parametrize("more", ['[suppressions]\npush = "none"'])
async def test_nothing_is_added_if_that_is_wished(rotord, accounts, db):
    fill(accounts)
    before = listed(accounts)
    await rotord("suppress", "add", "ours@example.org", "--client", "acme")
    assert (await rotord("suppress", "sync", "apply")).code == 0
    assert listed(accounts) == before
    assert len(await suppressed(db)) == 6


@pytest.mark.parametrize("more", ['[engine]\nredirect_all_to = "qa@agency.example"'])
async def test_a_rehearsal_touches_no_list(rotord, accounts, db):
    fill(accounts)
    await rotord("suppress", "add", "ours@example.org", "--client", "acme")
    for verb in ("plan", "apply"):
        done = await rotord("suppress", "sync", verb)
        assert (done.code, done.out) == (1, "")
        assert "rehearsal" in done.err
    assert [account.requests for account in accounts.values()] == [[], [], []]


async def test_an_account_that_clients_share_is_told_only_what_is_everybodys(rotord, accounts, db):
    await db.execute("UPDATE rotord.domains SET providers = providers || '{sg,s2}' WHERE client <> 'acme'")
    clients = {row[0] for row in await db.fetch("SELECT DISTINCT client FROM rotord.domains")}
    assert len(clients) > 1
    message = await insert(db, recipient="Wrote-To@example.org")
    assert message
    accounts["sg"].put("unsubscribes", "wrote-to@example.org")
    accounts["sg"].put("unsubscribes", "nobody-wrote-to@example.org")
    accounts["sg"].put("bounces", "dead@example.org")
    await rotord("suppress", "add", "acmes@example.org", "--client", "acme")
    await rotord("suppress", "add", "everybodys@example.org")

    assert (await rotord("suppress", "sync", "apply", "--provider", "sg")).code == 0
    rows = {(client, recipient, reason) for client, recipient, reason, source in await suppressed(db) if source == "list of sg"}
    assert rows == {
        ("acme", "wrote-to@example.org", "unsubscribe"),
        *((client, "nobody-wrote-to@example.org", "unsubscribe") for client in clients),
        *((client, "dead@example.org", "hard_bounce") for client in clients),
    }
    assert {item["email"] for item in accounts["sg"].lists["unsubscribes"]} == {
        "wrote-to@example.org",
        "nobody-wrote-to@example.org",
        "everybodys@example.org",
    }
    assert accounts["mg"].requests == accounts["s2"].requests == []


async def test_a_list_that_cannot_be_read_is_named_and_stops_no_other(rotord, accounts, db, monkeypatch):
    fill(accounts)
    await db.execute("INSERT INTO rotord.domains (name, client, providers) VALUES ('absent.example', 'acme', '{mg}')")
    monkeypatch.setenv("ROTORD_PROVIDERS__SG__API_KEY", "canary-wrong-key")
    done = await rotord("suppress", "sync", "apply")

    assert done.code == 1
    assert "fail    bounces of mg absent.example: 404 Domain not found: absent.example" in done.out
    assert "fail    sg: 401" in done.out
    assert "canary" not in done.out + done.err
    assert {row for row in HERE if row[3] != "list of sg"} <= await suppressed(db)
    faults = await db.fetch("SELECT domain, fault FROM rotord.list_pulls WHERE provider = 'mg' AND fault <> ''")
    assert {row["domain"] for row in faults} == {"absent.example"}


async def test_who_lifts_a_suppression_is_told_of_the_providers_list(rotord, accounts):
    await rotord("suppress", "add", "ours@example.org")
    assert "lift it there as well" in (await rotord("suppress", "remove", "ours@example.org")).out


async def test_a_provider_without_lists_is_named(rotord, accounts):
    done = await rotord("suppress", "sync", "plan", "--provider", "relay")

    assert done.code == 2
    assert "there is no API provider relay" in done.err
