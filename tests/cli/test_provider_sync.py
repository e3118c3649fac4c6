"""provider sync and check against accounts that remember: what is missing is created once, nothing else is touched."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from rotord.cli.zone import merged_spf, zone
from rotord.providers.account import Record
from tests.doubles.mailgun import MailgunDouble
from tests.doubles.mailgun_account import MailgunAccount
from tests.doubles.sendgrid import SendgridDouble
from tests.doubles.sendgrid_account import SendgridAccount
from tests.doubles.smtp2go import Smtp2goDouble
from tests.doubles.smtp2go_account import Smtp2goAccount

CONFIG = """
[http]
public_url = "https://rotor.example"
[providers.mg]
kind = "mailgun"
base_url = "{mg}"
api_key = "{key}"
[providers.sg]
kind = "sendgrid"
base_url = "{sg}"
api_key = "{key}"
[providers.s2]
kind = "smtp2go"
base_url = "{s2}"
api_key = "{key}"
webhook_key = "a-long-random-token"
"""
ACCOUNTS = {"mg": (MailgunDouble, MailgunAccount), "sg": (SendgridDouble, SendgridAccount), "s2": (Smtp2goDouble, Smtp2goAccount)}


@pytest.fixture
async def accounts(rotord, db, tmp_path):
    """Three accounts without anything in them, by which the fleet's domain goes."""
    await db.execute("UPDATE rotord.domains SET providers = '{mg,sg,s2}'")
    there = {name: account() for name, (_, account) in ACCOUNTS.items()}
    async with AsyncExitStack() as stack:
        doubles = {name: await stack.enter_async_context(double(tmp_path, extra=[there[name]])) for name, (double, _) in ACCOUNTS.items()}
        urls = {name: double.url for name, double in doubles.items()}
        (tmp_path / "rotord.toml").write_text(CONFIG.format(**urls, key=doubles["mg"].key))
        yield there


def changes(accounts):
    return {name: list(account.changes) for name, account in accounts.items()}


async def domains(db):
    return [row["name"] for row in await db.fetch("SELECT name FROM rotord.domains ORDER BY name")]


async def test_plan_changes_nothing_apply_creates_what_is_missing_and_a_second_apply_nothing(rotord, accounts, db):
    names = await domains(db)
    plan = await rotord("provider", "sync", "plan", "--json")

    assert plan.code == 0, plan.err
    assert changes(accounts) == {"mg": [], "sg": [], "s2": []}
    kinds = {(entry["provider"], entry["kind"]) for entry in plan.json["found"] if entry["to_create"]}
    assert kinds == {
        *(("mg", kind) for kind in ("sender", "webhook", "inbound")),
        *(("sg", kind) for kind in ("sender", "webhook", "inbound")),
        *(("s2", kind) for kind in ("sender", "webhook")),
    }

    applied = await rotord("provider", "sync", "apply", "--json")
    assert applied.code == 0, applied.out
    assert all(entry["failure"] is None for entry in applied.json["created"])
    assert not [entry for entry in applied.json["found"] if entry["to_create"]]
    assert set(accounts["mg"].states) == set(names)
    assert accounts["mg"].webhooks[names[0]]["delivered"] == ["https://rotor.example/webhooks/mg"]
    assert accounts["s2"].webhooks[0]["auth_header_value"] == "a-long-random-token"
    assert accounts["s2"].webhooks[0]["headers"] == ["X-Rotord-Attempt"]  # without it its events do not say of which attempt
    assert accounts["sg"].webhooks[0]["url"] == "https://rotor.example/webhooks/sg"
    text = "\n".join(applied.json["zones"][names[0]])
    for wanted in ("include:mailgun.org ~all", "mx._domainkey", "s1._domainkey", "em1.", "link.", "_dmarc.", "IN MX"):
        assert wanted in text

    before = changes(accounts)
    again = await rotord("provider", "sync", "apply")
    assert again.code == 0
    assert "nothing to create" in again.out.splitlines()
    assert changes(accounts) == before
    assert "a-long-random-token" not in plan.out + applied.out + again.out


async def test_what_others_have_there_stays(rotord, accounts, db):
    (name, *_) = await domains(db)
    accounts["mg"].states[name] = "active"
    accounts["mg"].webhooks[name] = {"delivered": ["https://other.example/hook"]}
    accounts["sg"].webhooks.append({"id": "w0", "url": "https://other.example/hook", "enabled": True})

    assert (await rotord("provider", "sync", "apply", "--provider", "mg")).code == 0
    assert accounts["mg"].webhooks[name]["delivered"] == ["https://other.example/hook", "https://rotor.example/webhooks/mg"]
    assert accounts["sg"].changes == []


async def test_check_says_what_is_missing_and_how_to_mend_it(rotord, accounts, db):
    (name, *_) = await domains(db)
    checks = (await rotord("check", "--json", "--no-dns")).json["checks"]
    found = {(check["kind"], check["name"]): check for check in checks}

    assert {found["provider", provider]["level"] for provider in ACCOUNTS} == {"ok"}
    assert found["sender", f"mg {name}"]["level"] == "fail"
    assert "sync apply" in found["sender", f"mg {name}"]["remedy"]
    assert found["webhook", "sg"]["level"] == "fail"

    await rotord("provider", "sync", "apply")
    checks = (await rotord("check", "--json", "--no-dns")).json["checks"]
    found = {(check["kind"], check["name"]): check for check in checks}
    assert found["sender", f"mg {name}"]["says"].startswith("it is unverified; 3 of its")
    assert {found["webhook", hook]["level"] for hook in (f"mg {name}", "sg", "s2")} == {"ok"}


async def test_a_wrong_key_and_a_provider_that_is_away_are_one_failure_each(rotord, accounts, monkeypatch):
    monkeypatch.setenv("ROTORD_PROVIDERS__MG__API_KEY", "canary-wrong-key")
    monkeypatch.setenv("ROTORD_PROVIDERS__SG__API_KEY", "canary-wrong-key")
    monkeypatch.setenv("ROTORD_PROVIDERS__S2__BASE_URL", "http://127.0.0.1:1/v3")
    done = await rotord("check", "--json", "--no-dns")
    failed = {check["name"]: check for check in done.json["checks"] if check["level"] == "fail" and check["kind"] == "provider"}

    assert set(failed) == {"mg", "sg", "s2"}
    assert "key" in failed["mg"]["remedy"]
    assert "base_url" in failed["s2"]["remedy"]
    assert not [check for check in done.json["checks"] if check["kind"] in {"sender", "webhook", "inbound"}]
    assert "canary-wrong-key" not in done.out + done.err

    plan = await rotord("provider", "sync", "plan")
    assert plan.code == 1
    assert plan.out.count("fail    provider") == 3
    assert "nothing to create" not in plan.out


@pytest.mark.parametrize("verb", ["plan", "apply"])
async def test_a_configuration_without_apis_is_told_that_there_is_nothing_to_create(rotord, verb):
    done = await rotord("provider", "sync", verb)

    assert (done.code, done.err) == (0, "")
    assert done.out == "nothing to create: the configuration has no provider of kind mailgun, sendgrid or smtp2go\n"


async def test_a_provider_without_an_account_is_named(rotord, accounts):
    done = await rotord("provider", "sync", "plan", "--provider", "sq")

    assert done.code == 2
    assert "there is no API provider sq" in done.err


def test_one_name_has_one_spf_record_and_long_texts_are_split():
    spf = [
        ("a", Record("TXT", "x.example", "v=spf1 include:a.example -all")),
        ("b", Record("TXT", "x.example", "v=spf1 include:b.example ~all")),
    ]
    lines = zone("x.example", [*spf, ("a", Record("TXT", "k._domainkey.x.example", "p=" + "M" * 300))])

    assert merged_spf(record.value for _, record in spf) == "v=spf1 include:a.example include:b.example ~all"
    assert sum("v=spf1" in line for line in lines) == 1
    assert f'"p={"M" * 253}" "{"M" * 47}"' in lines[1]
