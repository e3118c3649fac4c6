"""The demo: what it inserts, what its audit would notice, and the whole of it as a process."""

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotord.core.model import Pacing
from rotord.demo import Use
from rotord.demo.api_receiver import mailgun_mail, sendgrid_mail
from rotord.demo.audit import Delivery, judge
from rotord.demo.outage import Outage
from rotord.demo.rows import Fate, script
from rotord.demo.usage import fullest_window, uses, worst
from rotord.fleet import read
from rotord.providers.mailgun import form

ROOT = Path(__file__).parent.parent
ROTORD = [sys.executable, "-m", "rotord"]
ROWS = 240


@pytest.fixture(scope="module")
def fleet():
    return read(ROOT / "config" / "fleet.toml")


def test_the_rows_show_everything_an_app_can_ask_for(fleet):
    rows = [row.columns for row in script(fleet, 3000).rows]

    assert {row["client"] for row in rows} == {client.slug for client in fleet.clients}
    assert {(row["client"], row["stream"]) for row in rows} == {(domain.client, domain.stream) for domain in fleet.domains}
    assert {row["kind"] for row in rows} == {"bulk", "transactional"}
    for asked in ("campaign", "sender", "thread_key", "body_html", "attachments", "reply_to", "send_in_s", "expires_in_s"):
        assert any(row.get(asked) for row in rows), asked
    threads = Counter((row["client"], row["thread_key"]) for row in rows if row["thread_key"])
    assert max(threads.values()) == 3
    assert any(not row["subject"].isascii() for row in rows)
    assert len({row["idempotency_key"] for row in rows}) == 3000


def test_no_row_waits_for_an_hour_of_the_day(fleet):
    held = {client.slug for client in fleet.clients if client.sending_window or client.pacing is Pacing.EVEN}

    assert held
    assert not [row.key for row in script(fleet, 3000).rows if row.columns["client"] in held and row.columns["kind"] == "bulk"]


def test_a_pinned_sender_is_an_active_one_of_its_client(fleet):
    client_of = {domain.name: domain.client for domain in fleet.domains if domain.stream == "main"}
    stopped = {address.email for address in fleet.addresses if address.status not in {None, "active"}}
    pinned = [row.columns for row in script(fleet, 3000).rows if row.columns.get("sender")]

    assert pinned
    for row in pinned:
        assert client_of[row["sender"].partition("@")[2]] == row["client"]
        assert row["sender"] not in stopped


def usable(limit, client):
    """What bulk mail may use of a limit."""
    return math.floor(limit * (1 - client.transactional_reserve))


def addresses_of(fleet, domain):
    return [address for address in fleet.addresses if address.domain == domain.name and address.status in {None, "active"}]


def test_a_message_bound_to_one_address_finds_room_there_wherever_rotation_begins_its_thread(fleet):
    bound = [row.columns for row in script(fleet, 3000).waves()[0]]
    client_of = {client.slug: client for client in fleet.clients}
    pins = Counter(row.get("sender") for row in bound)

    assert {row["stream"] for row in bound} == {"main"}
    for domain in (domain for domain in fleet.domains if domain.stream == "main"):
        client, addresses = client_of[domain.client], addresses_of(fleet, domain)
        threads = Counter(row["thread_key"] for row in bound if row["client"] == client.slug and row["thread_key"])
        at_one_address = math.ceil(len(threads) / len(addresses)) * max(threads.values())
        assert sum(threads.values()) + sum(pins[address.email] for address in addresses) <= usable(domain.per_hour, client)
        for address in addresses:
            assert at_one_address + pins[address.email] <= usable(address.per_hour, client)


def test_each_stream_has_room_for_its_share(fleet):
    rows = Counter((row.columns["client"], row.columns["stream"]) for row in script(fleet, 3000).rows)
    clients = {client.slug: client for client in fleet.clients}
    room = Counter()
    for domain in fleet.domains:
        client = clients[domain.client]
        of_addresses = sum(usable(address.per_hour, client) for address in addresses_of(fleet, domain))
        room[client.slug, domain.stream] += min(usable(domain.per_hour, client), of_addresses)

    assert all(count <= room[place] for place, count in rows.items())
    assert all(
        sum(n for (slug, _), n in rows.items() if slug == client.slug) <= usable(client.per_hour, client) for client in fleet.clients
    )


@settings(max_examples=100)
@given(st.lists(st.integers(0, 50), max_size=30), st.integers(0, 20))
def test_the_fullest_window_is_the_fullest_of_all_windows(times, window):
    expected = max((sum(begin <= at <= begin + window for at in times) for begin in times), default=0)

    assert fullest_window(times, window) == expected


def test_use_is_counted_by_address_domain_client_and_provider(fleet):
    sender = next(address for address in fleet.addresses if address.domain == "acme-outreach.example")
    accepted = [(float(second), sender.email, "relay") for second in (0, 10, 3_700)]

    assert uses(fleet, {"relay": 1}, accepted) == [
        Use("address", sender.email, 2, 8),
        Use("domain", "acme-outreach.example", 2, 120),
        Use("client", "acme", 2, 800),
        Use("provider", "relay", 2, 1),
    ]


def test_the_worst_use_is_the_one_nearest_to_its_limit():
    small, large, zero = Use("address", "a", 3, 4), Use("address", "b", 50, 100), Use("domain", "c", 1, 0)

    assert worst([large, small, zero]) == [small, zero]


def row(status="sent", **changed):
    columns = {"id": 1, "key": "k1", "client": "acme", "thread_key": None, "status": status}
    return columns | {"sender": "a@acme.example", "recipient": "R@x.example", "provider": "relay"} | changed


def delivery(key="k1", at=1.0, **changed):
    return Delivery(**({"key": key, "at": at, "sender": "a@acme.example", "recipient": "r@x.example", "provider": "relay"} | changed))


@pytest.mark.parametrize(
    ("rows", "deliveries", "fate", "fault"),
    [
        ([row()], [delivery()], Fate.SENT, None),
        ([row("failed")], [], Fate.SENT, None),
        ([row("suppressed")], [], Fate.SUPPRESSED, None),
        ([row()], [], Fate.SENT, "arrived 0 times"),
        ([row()], [delivery(), delivery()], Fate.SENT, "arrived 2 times"),
        ([row()], [delivery(provider="mailgun")], Fate.SENT, "its provider is relay in the outbox and mailgun at the receiver"),
        ([row()], [delivery(sender="b@acme.example")], Fate.SENT, "its sender is"),
        ([row()], [delivery(recipient="s@x.example")], Fate.SENT, "its recipient is"),
        ([row("failed")], [delivery()], Fate.SENT, "it is failed, and arrived 1 times"),
        ([row("suppressed")], [delivery()], Fate.SUPPRESSED, "it is suppressed, and arrived 1 times"),
        ([row()], [delivery()], Fate.CANCELLED, "it is sent, and was to be cancelled"),
        ([row("queued")], [], Fate.SENT, "it is queued, and was to be sent"),
        ([row("uncertain")], [delivery()], Fate.SENT, "it is uncertain, and was to be sent"),
        ([], [], Fate.SENT, "k1 was inserted and is not in the outbox"),
        ([row()], [delivery(), delivery("k9")], Fate.SENT, "k9 was never inserted, but arrived"),
    ],
)
def test_the_audit_finds_what_is_not_accounted_for(rows, deliveries, fate, fault):
    faults = judge(rows, deliveries, {"k1": fate})

    assert [fault in found.what for found in faults] == [True] if fault else faults == []


def test_the_audit_finds_a_message_that_overtook_its_thread():
    rows = [row(thread_key="t"), row(id=2, key="k2", thread_key="t")]
    faults = judge(rows, [delivery(at=2.0), delivery("k2", at=1.0)], {"k1": Fate.SENT, "k2": Fate.SENT})

    assert [fault.message for fault in faults] == [2]


def demo(state, *words, rows=ROWS):
    return [*ROTORD, "demo", "--state", str(state), "--rows", str(rows), *words]


def run(command, **options):
    # what configures another rotord must not reach the demo's
    environ = {**os.environ, "ROTORD_DATABASE__URL": "postgresql://nobody@127.0.0.1:1/none", "ROTORD_ENGINE__CONCURRENCY": "no number"}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=150, check=False, **options)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """One directory for all, as for a person who tries again: each demo finds what the last one left, also an interrupted one."""
    return tmp_path_factory.mktemp("demo") / "state with ünïcode"


@pytest.mark.timeout(300)
def test_two_demos_on_one_database_account_for_every_row_and_the_commands_they_name_work(state):
    first = run(demo(state, "--json"))
    report = json.loads(first.stdout)

    assert first.returncode == 0, first.stderr
    assert report["accounted_for"] is True
    assert report["messages"] == ROWS
    assert report["statuses"].pop("sent") + report["statuses"].pop("failed", 0) == ROWS - 6
    assert report["statuses"] == {"suppressed": 2, "expired": 2, "cancelled": 2}
    assert len(report["clients"]) == 12
    assert all(use["used"] <= use["limit"] for use in report["uses"])
    assert {line["provider"] for line in report["providers"] if line["accepted"]} == {"mailgun", "sendgrid", "relay"}
    assert report["outage"]["provider"] == "mailgun"

    second = run(demo(state))
    assert second.returncode == 0, second.stderr
    assert "kept from the last demo" in second.stdout
    assert f"All {ROWS} rows are accounted for" in second.stdout
    tried = [shlex.split(line) for line in second.stdout.splitlines() if "--config" in line]
    said = [subprocess.run(words, capture_output=True, text=True, timeout=60, check=False) for words in tried]
    assert [(done.returncode, done.stderr) for done in said] == [(0, "")] * 3
    status, message, address = (done.stdout for done in said)
    assert "relay" in status
    assert re.match(r"message \d+ of client", message)
    assert re.match(r"address \S+: sent [1-9]", address)


class Double:
    def __init__(self):
        self.told = []

    def leave(self):
        self.told.append("leave")

    def return_(self):
        self.told.append("return")


def test_the_provider_that_goes_away_leaves_once_while_mail_is_under_way_and_is_brought_back():
    double, said = Double(), []
    outage = Outage("mailgun", double, lambda what, says: said.append(what))
    outage.look(10)
    outage.arm(10)
    outage.look(9)
    assert double.told == []

    outage.look(8)
    outage.look(7)
    outage.end()
    outage.end()
    outage.look(6)

    assert double.told == ["leave", "return"]
    assert said == ["failover"] * 2
    assert outage.waiting == 8
    assert outage.left_at <= outage.back_at


def test_the_apis_read_what_the_providers_are_sent():
    mime = b"From: Ada <a@acme.example>\r\nX-Row: demo-1\r\n\r\nbody\r\n"
    content_type, form_body = form([("to", "r@x.example"), ("o:tag", "x")], mime, 7)
    as_json = {
        "from": {"email": "a@acme.example"},
        "personalizations": [{"to": [{"email": "r@x.example"}]}],
        "headers": {"X-Row": "demo-1"},
    }

    assert mailgun_mail(form_body, content_type) == ("a@acme.example", "r@x.example", "demo-1")
    assert sendgrid_mail(json.dumps(as_json).encode(), "application/json") == ("a@acme.example", "r@x.example", "demo-1")


class Playing:
    """A demo that is under way, and the processes that it named."""

    def __init__(self, state):
        self.state = state
        self.process = subprocess.Popen(demo(state, rows=3000), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if found := re.search(r"rotord run, process (\d+)", line):
                self.daemon = int(found[1])
            if "outbox" in line:
                return
        raise AssertionError(self.process.stderr.read())

    def finish(self, number):
        self.process.send_signal(number)
        return self.ended()

    def ended(self):
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def survivors(self):
        """Find the processes with the state directory on their command line."""
        commands = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = entry.read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(self.state) in command:
                commands.append(command)
        return commands


@pytest.mark.timeout(150)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(state, number):
    playing = Playing(state)
    assert len(playing.survivors()) >= 5
    code, _, err = playing.finish(number)

    assert code == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert playing.survivors() == []


@pytest.mark.timeout(150)
def test_a_demo_whose_daemon_dies_says_so_and_fails(state):
    playing = Playing(state)
    os.kill(playing.daemon, signal.SIGKILL)
    code, _, err = playing.ended()

    assert code == 1
    assert "the daemon ended (-9)" in err
    assert playing.survivors() == []


def test_a_directory_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("mail")
    done = run(demo(tmp_path))

    assert done.returncode == 2
    assert "is not a demo's" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
