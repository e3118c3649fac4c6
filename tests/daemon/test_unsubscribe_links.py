"""The links that a daemon's messages carry: in earnest they name the message, in a rehearsal they unsubscribe nobody."""

import pytest
from outbox_rows import add_fleet, insert

from rotord.core.model import Kind, ProviderLimits
from rotord.core.pool import Lane, SenderPool
from rotord.core.received import read
from rotord.core.records import Candidate
from rotord.core.unsubscribe import rehearsal_key, verify
from rotord.daemon import build_preparation
from rotord.db import queue, senders
from rotord.engine.maintenance import apply_fleet
from rotord.engine.planned import Planned
from rotord.settings import load

KEY = b"k" * 32
SITE = {"ROTORD_HTTP__PUBLIC_URL": "https://rotor.example", "ROTORD_HTTP__UNSUBSCRIBE_MAILTO": "out@in.example"}


class NoSlot:
    """Of a message that will not be sent."""

    def prepare(self, envelope):
        self.prepared = envelope


@pytest.mark.parametrize(
    ("extra", "key"), [({}, KEY), ({"ROTORD_ENGINE__REDIRECT_ALL_TO": "qa@example.org"}, rehearsal_key(KEY))], ids=["earnest", "rehearsal"]
)
def test_both_links_carry_the_token_of_their_kind(tmp_path, extra, key):
    (tmp_path / "rotord.toml").touch()
    preparation = build_preparation(load(tmp_path / "rotord.toml", SITE | extra), KEY)
    url, by_mail = preparation.unsubscribe_url(7, ""), preparation.unsubscribe_mailto(7)

    assert url.startswith("https://rotor.example/u/")
    assert by_mail.startswith("mailto:out@in.example?subject=unsubscribe%20")
    assert verify(key, url[-32:]) == verify(key, by_mail[-32:]) == 7


@pytest.mark.parametrize(("site", "others"), [(SITE, "https://rotor.example/u/"), ({}, "")], ids=["with-public-url", "without"])
async def test_a_clients_own_host_stands_in_its_links_and_in_no_other_clients(db, tmp_path, site, others):
    await add_fleet(db)
    await db.execute("UPDATE rotord.clients SET unsubscribe_host = 'mail.acme.example' WHERE slug = 'acme'")
    await db.execute("UPDATE rotord.domains SET providers = '{relay}'")
    pool = SenderPool([ProviderLimits("relay")])
    apply_fleet(pool, await senders.load(db))
    pool.providers["relay"].slots = 2
    (tmp_path / "rotord.toml").touch()
    preparation = build_preparation(load(tmp_path / "rotord.toml", site), KEY)
    links = {}
    for client, stream in (("acme", "main"), ("other", "news")):
        message = await insert(db, client=client, stream=stream)
        [payload] = await queue.payloads(db, [message])
        payload = payload._replace(headers={}, attachments=[], metadata={})  # as a pool's connection reads jsonb
        chosen = pool.choose(Lane(client, stream, Kind.BULK), 1_795_000_000.0)
        candidate = Candidate(message, 1, 0, 0.0, 100, 0, None, None, None)
        plan = Planned(candidate, chosen, slot := NoSlot(), 1, f"<{message}.x@{client}.example>")
        await preparation.prepare(plan, payload)
        links[client] = read(slot.prepared.mime).header("list-unsubscribe").partition(">")[0].lstrip("<")
        assert not links[client] or verify(KEY, links[client][-32:]) == message

    assert links["acme"].startswith("https://mail.acme.example/u/")
    assert links["other"][:-32] == others
