"""check: a real PostgreSQL, a real SMTP session and a real DNS question behind every line."""

import base64

import dns.rcode
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from rotord.core.replies import Phase
from tests.doubles.dns_server import DnsServer
from tests.doubles.slack import SlackDouble
from tests.doubles.smtp_server import ScriptedServer
from tests.doubles.telegram import CHAT, TOKEN, TelegramDouble
from tests.providers.test_smtp_tls import aiosmtpd, certificate

KEY = Ed25519PrivateKey.generate()
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
PUBLIC = base64.b64encode(KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
GOOD = {
    "acme.example": ["verification=1", "v=spf1 include:spf.example -all"],
    "_dmarc.acme.example": ["v=DMARC1; p=reject"],
    "s1._domainkey.acme.example": [f"v=DKIM1; k=ed25519; p={PUBLIC}"],
    "other.example": ["v=spf1 mx ~all"],
    "_dmarc.other.example": ["v=DMARC1; p=none"],
}


@pytest.fixture
async def relay(rotord, monkeypatch):
    """The provider `relay` of the configuration, in plain SMTP on loopback."""
    async with ScriptedServer() as server:
        monkeypatch.setenv("ROTORD_PROVIDERS__RELAY__PORT", str(server.port))
        monkeypatch.setenv("ROTORD_PROVIDERS__RELAY__TLS", "none")
        yield server


@pytest.fixture
async def names(rotord):
    async with DnsServer(dict(GOOD)) as server:
        yield server


@pytest.fixture
async def well(relay, db, monkeypatch, tmp_path):
    """Everything as it should be."""
    (tmp_path / "acme.pem").write_bytes(PEM)
    monkeypatch.setenv("ROTORD_HTTP__PUBLIC_URL", "https://rotor.example")
    monkeypatch.setenv("ROTORD_DKIM__ACME__DOMAIN", "acme.example")
    monkeypatch.setenv("ROTORD_DKIM__ACME__SELECTOR", "s1")
    monkeypatch.setenv("ROTORD_DKIM__ACME__KEY_FILE", str(tmp_path / "acme.pem"))
    await db.execute("UPDATE rotord.domains SET providers = '{relay,backup}'")
    await db.execute(
        "INSERT INTO rotord.lease (name, holder, epoch, elected_at, expires_at, node) "
        "VALUES ('main', gen_random_uuid(), 7, now(), now() + interval '1 hour', 'node-a/1')"
    )


def problems(done):
    return [line for line in done.out.splitlines()[:-1] if not line.startswith("ok ")]


async def test_all_well_is_a_line_each_and_exit_0(rotord, well, names, relay):
    done = await rotord("check", "--resolver", names.address)

    assert (done.code, done.err, problems(done)) == (0, "", [])
    assert done.out.splitlines()[-1] == "0 failures, 0 warnings, 17 ok"
    shown = {line.split(":")[0].removeprefix("ok    "): line.partition(": ")[2] for line in done.out.splitlines()}
    assert shown["database"].startswith("PostgreSQL ")
    assert shown["release"] == "backups are not in this release: back up PostgreSQL yourself"
    assert shown["schema"].startswith("the schema is current")
    assert shown["leader"] == "node-a/1 leads (epoch 7)"
    assert shown["provider relay"] == f"127.0.0.1:{relay.port}: no encryption; no authentication; offers 8BITMIME"
    assert "nothing leaves this machine" in shown["provider backup"]
    assert (shown["client"], shown["domain"]) == ("2 of 2 can send", "2 of 2 have a provider")
    assert (shown["spf"], shown["dmarc"], shown["dkim"]) == ("2 of 2 have SPF", "2 of 2 have DMARC", "1 of 1 publish our key")
    assert relay.commands[0].startswith(b"EHLO ")
    assert relay.commands[-1] == b"QUIT"
    assert not relay.messages


async def test_json_lists_every_line(rotord, well, names):
    document = (await rotord("check", "--json", "--resolver", names.address)).json

    assert (document["failed"], document["counts"]) == (False, {"ok": 17, "warn": 0, "fail": 0})
    kinds = [(check["kind"], check["name"]) for check in document["checks"]]
    assert ("spf", "acme.example") in kinds
    assert ("domain", "other.example") in kinds
    assert all(check["level"] == "ok" and check["says"] and not check["remedy"] for check in document["checks"])


async def test_what_the_dns_lacks_is_named_with_its_remedy(rotord, well, names):
    names.texts = {
        "acme.example": ["v=spf1 +all"],
        "_dmarc.acme.example": ["unrelated"],
        "s1._domainkey.acme.example": ["v=DKIM1; k=rsa; p=AAAA"],
        "_dmarc.other.example": dns.rcode.SERVFAIL,
        "other.example": [],
    }

    done = await rotord("check", "--resolver", names.address)

    assert done.code == 1
    spf_acme, dmarc_acme, dkim_acme, spf_other, dmarc_other = problems(done)
    assert spf_acme == "fail  spf acme.example: its SPF record lets everybody send (+all); end it with ~all or -all"
    assert dmarc_acme.startswith("warn  dmarc acme.example: there is no DMARC record")
    assert dkim_acme.startswith("fail  dkim acme.example: the DKIM key at s1._domainkey.acme.example is not that of the private key")
    assert f"p={PUBLIC}" in dkim_acme
    assert spf_other.startswith("fail  spf other.example: there is no SPF record")
    assert dmarc_other.startswith("warn  dmarc other.example: not known: _dmarc.other.example: the servers refuse or fail")
    assert done.out.splitlines()[-1] == "3 failures, 2 warnings, 12 ok"


async def test_a_subdomain_has_the_dmarc_of_its_parent(rotord, well, names, db):
    await db.execute("INSERT INTO rotord.domains (name, client, providers) VALUES ('news.acme.example', 'acme', '{relay}')")
    names.texts["news.acme.example"] = ["v=spf1 -all"]

    checks = (await rotord("check", "--json", "--resolver", names.address)).json["checks"]

    (inherited,) = [check["says"] for check in checks if (check["kind"], check["name"]) == ("dmarc", "news.acme.example")]
    assert inherited == "p=reject of its parent domain"
    assert names.asked.count("_dmarc.news.acme.example") == 1


async def test_no_dns_asks_none(rotord, well, names):
    done = await rotord("check", "--no-dns", "--resolver", names.address)

    assert (done.code, problems(done), names.asked) == (0, [], [])


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ({Phase.GREETING: b"554 go away\r\n"}, "answered 554 go away"),
        ({"ehlo": b"250 scripted\r\n"}, "STARTTLS"),
    ],
)
async def test_a_relay_without_what_is_configured_is_a_failure(rotord, well, relay, monkeypatch, script, says):
    monkeypatch.setenv("ROTORD_PROVIDERS__RELAY__TLS", "starttls")
    relay.script.update(script)

    done = await rotord("check", "--no-dns")

    assert done.code == 1
    (line,) = problems(done)
    assert line.startswith("fail  provider relay: ")
    assert says in line


@pytest.mark.parametrize(("trusted", "password"), [(True, "right"), (False, "right"), (True, "wrong")])
async def test_a_certificate_is_verified_and_the_password_tried(rotord, well, monkeypatch, tmp_path, trusted, password):
    pem = certificate(tmp_path, "relay", "127.0.0.1")
    async with aiosmtpd(pem, auth=True) as (port, inbox):
        relay = {"port": port, "tls": "starttls", "username": "relay", "password": password} | ({"ca_file": pem} if trusted else {})
        for name, value in relay.items():
            monkeypatch.setenv(f"ROTORD_PROVIDERS__RELAY__{name.upper()}", str(value))

        done = await rotord("check", "--no-dns")

    (line,) = [line for line in done.out.splitlines() if "provider relay: " in line]
    if not trusted:
        assert line.startswith(f"fail  provider relay: 127.0.0.1:{port}: the certificate does not verify")
        assert line.endswith("; name the host as its certificate does, or give the authority of a private relay as ca_file")
    elif password == "wrong":
        assert line.startswith(f"fail  provider relay: 127.0.0.1:{port} answered 535")
        assert line.endswith("; check username and password of [providers.relay]")
    else:
        assert line.startswith(f"ok    provider relay: 127.0.0.1:{port}: STARTTLS, certificate verified; let in as relay; offers ")
        assert "SMTPUTF8" in line
    assert done.code == (0 if line.startswith("ok") else 1)
    assert not inbox.envelopes


async def test_a_relay_that_is_not_there_does_not_hide_the_rest(rotord, well, relay, monkeypatch):
    monkeypatch.setenv("ROTORD_PROVIDERS__RELAY__PORT", "1")

    done = await rotord("check", "--no-dns")

    (line,) = problems(done)
    assert line == (
        "fail  provider relay: 127.0.0.1:1: connection refused; check host, port and tls of [providers.relay], "
        "and that a firewall lets this machine out"
    )


async def test_a_database_that_does_not_answer_does_not_hide_the_rest(rotord, well, monkeypatch):
    monkeypatch.setenv("ROTORD_DATABASE__URL", "postgresql://u:hunter2@127.0.0.1:1/rotord")

    done = await rotord("check", "--no-dns")

    assert (done.code, done.err) == (1, "")
    (line,) = problems(done)
    assert line.startswith("fail  database: cannot connect to the database")
    assert "ok    provider relay: " in done.out
    assert "hunter2" not in done.out


async def test_a_database_without_the_schema_is_a_failure(rotord, well, empty_database_url, monkeypatch):
    monkeypatch.setenv("ROTORD_DATABASE__URL", empty_database_url)

    done = await rotord("check", "--no-dns")

    assert (done.code, problems(done)) == (1, ["fail  schema: the database has no rotord schema; run rotord migrate"])


async def test_what_is_wrong_with_the_fleet_is_named(rotord, well, db):
    await db.execute("UPDATE rotord.domains SET providers = '{relai,relay}', warmup = 'standard' WHERE name = 'acme.example'")
    await db.execute("UPDATE rotord.domains SET providers = '{bakcup}' WHERE name = 'other.example'")
    await db.execute("INSERT INTO rotord.domains (name, client) VALUES ('bare.example', 'acme')")
    await db.execute("INSERT INTO rotord.clients (slug) VALUES ('empty'), ('gone')")
    await db.execute("UPDATE rotord.clients SET status = 'disabled' WHERE slug = 'gone'")
    await db.execute("UPDATE rotord.lease SET expires_at = now() - interval '1 minute'")

    done = await rotord("check", "--no-dns")

    assert done.code == 1
    assert problems(done) == FLEET_PROBLEMS.splitlines()


FLEET_PROBLEMS = """\
warn  leader: no daemon leads, so nothing is sent: the last, node-a/1, led until 1m ago; rotord run
warn  client empty: it has no active address, so its mail waits; give it one in the fleet file, or resume what is paused
warn  domain acme.example: not configured: relai; it goes by the others; add [providers.relai], or mend the fleet file; did you mean relay?
fail  domain bare.example: it has no provider, so its mail waits; give it one in the fleet file
fail  domain other.example: none of its providers is configured (bakcup); add [providers.bakcup]; did you mean backup?
warn  warmup: this release does not ramp up, acme.example may send up to its limits at once; set per_hour and per_day low yourself
"""


async def test_what_is_wrong_with_the_configuration_is_named(rotord, well, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "acme.pem").write_text("no key")
    monkeypatch.setenv("ROTORD_HTTP__PUBLIC_URL", "")
    monkeypatch.setenv("ROTORD_ENGINE__REDIRECT_ALL_TO", "qa@example.org")
    monkeypatch.setenv("ROTORD_BACKUP__DIRECTORY", "/srv/backup")
    monkeypatch.setenv("ROTORD_STATE__DIR", str(tmp_path / "file" / "state"))

    done = await rotord("check", "--no-dns")

    assert done.code == 1
    assert [line.split(":")[0] for line in problems(done)] == [
        "warn  unsubscribe",
        "warn  rehearsal",
        "warn  release",
        "fail  state",
        "fail  dkim acme",
        "fail  provider backup",
    ]
    assert "though backup.directory is set" in done.out


async def test_a_configuration_with_faults_is_told_line_by_line(rotord, monkeypatch):
    monkeypatch.setenv("ROTORD_ENGINE__CONCURENCY", "1")

    done = await rotord("check")

    assert (done.code, done.err) == (2, "")
    assert problems(done) == ["fail  configuration: ROTORD_ENGINE__CONCURENCY: names no setting; did you mean ROTORD_ENGINE__CONCURRENCY?"]


@pytest.mark.parametrize("address", ["127.0.0.1", "resolver.example:53", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:x"])
async def test_a_resolver_that_is_no_address_and_port_is_a_usage_error(rotord, address):
    assert (await rotord("check", "--resolver", address)).code == 2


async def test_sinks_of_alerts_are_asked_and_told_nothing(rotord, monkeypatch, tmp_path):
    async with TelegramDouble(tmp_path) as telegram, SlackDouble(tmp_path) as slack:
        monkeypatch.setenv("ROTORD_ALERTS__TELEGRAM__BASE_URL", telegram.url)
        monkeypatch.setenv("ROTORD_ALERTS__TELEGRAM__TOKEN", TOKEN)
        monkeypatch.setenv("ROTORD_ALERTS__TELEGRAM__CHAT_ID", CHAT)
        monkeypatch.setenv("ROTORD_ALERTS__SLACK__WEBHOOK_URL", slack.url + "/services/dead-canary")
        done = await rotord("check", "--no-dns")

        assert "ok    alerts telegram: it would take a message (none was sent)" in done.out
        assert "fail  alerts slack: it would not take a message: 404 no_service; check [alerts.slack]" in done.out
        assert "canary" not in done.out + done.err
        assert TOKEN not in done.out + done.err
        assert telegram.truth() == slack.truth() == []

    monkeypatch.delenv("ROTORD_ALERTS__TELEGRAM__CHAT_ID")
    done = await rotord("check", "--no-dns")

    assert "fail  alerts telegram: it has a token but no chat_id; set alerts.telegram.chat_id" in done.out
    assert "warn  alerts slack: it would not take a message: cannot connect" in done.out
