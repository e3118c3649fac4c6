"""What `why` says is what the pool decides: the gate and the time of one are those of the other."""

from math import inf

import pytest

from rotord.core.explain import ProviderNews, explain, explain_address, is_limited, restore
from rotord.core.limits import HOUR
from rotord.core.model import Address, Campaign, Client, Domain, Health, Kind, Outcome, ProviderLimits, Status
from rotord.core.past import LedgerRow
from rotord.core.pool import Lane, Open, SenderPool
from rotord.core.senders import Gate, Wait

NOW = 1_795_000_000.0
A = "a@acme.example"
BULK = Lane("acme", "main", Kind.BULK)
RELAY = (ProviderLimits("relay"),)


SPRING = BULK._replace(campaign="spring")


def pool_of(client=None, domain=None, address=None, providers=RELAY, campaign=None):
    pool = SenderPool(providers)
    pool.put_client(Client("acme", **(client or {})))
    pool.put_domain(Domain("acme.example", "acme", providers=tuple(one.name for one in providers), **(domain or {})))
    pool.put_address(Address(A, "acme.example", **(address or {})))
    if campaign is not None:
        pool.set_campaigns([Campaign("acme", "spring", **campaign)])
    for gate in pool.providers.values():
        gate.slots = 10
    return pool


def row(ended_ago, outcome=Outcome.ACCEPTED, client="acme", campaign="spring"):
    return LedgerRow(A, "acme.example", client, "relay", NOW - ended_ago - 1, NOW - ended_ago, outcome, campaign=campaign)


@pytest.mark.parametrize(
    "pool",
    [
        pool_of(),
        pool_of(address={"per_hour": 2}),
        pool_of(domain={"per_day": 3}),
        pool_of(client={"per_hour": 3}),
        pool_of(client={"status": Status.PAUSED}),
        pool_of(domain={"status": Status.DISABLED}),
        pool_of(address={"health": Health.COOLING, "health_until": NOW + 500}),
        pool_of(address={"per_hour": 2}, domain={"health": Health.COOLING, "health_until": NOW + 5000}),
        pool_of(client={"sending_window": "sun 00:00-00:01"}),
        pool_of(providers=(ProviderLimits("relay", per_hour=1), ProviderLimits("other", per_hour=9))),
        pool_of(providers=(ProviderLimits("relay", per_hour=2),)),
        pool_of(campaign={"per_hour": 3}),
        pool_of(campaign={"per_day": 2}),
        pool_of(campaign={"per_hour": 4}),
    ],
)
def test_it_is_ready_exactly_when_the_pool_is_open_and_opens_when_the_pool_does(pool):
    restore(pool, [row(3000), row(2000), row(1000)], [])
    found, verdict = explain(pool, SPRING, NOW, {}), pool.lane(SPRING, NOW)

    assert (found.gate is Gate.READY) == isinstance(verdict, Open)
    if isinstance(verdict, Wait):
        assert (inf if found.until is None else found.until) == verdict.until


def test_of_address_and_domain_the_one_that_holds_longer_is_named():
    pool = pool_of(address={"per_hour": 1}, domain={"health": Health.COOLING, "health_until": NOW + 5000})
    restore(pool, [row(3000)], [])

    found = explain_address(pool.addresses[A], Kind.BULK, NOW, {})

    assert (found.gate, found.scope, found.until) == (Gate.COOLING, "domain", NOW + 5000)


def test_what_is_on_the_wire_is_held_whatever_its_deadline():
    pool = pool_of(address={"per_hour": 1})
    restore(pool, [row(-90, outcome=None)], [])

    found = explain(pool, BULK, NOW, {})

    assert (found.gate, found.until, dict(found.numbers)) == (Gate.HOUR, None, {"used": 1, "limit": 1, "on_the_wire": 1})


def test_a_campaigns_cap_is_named_with_its_numbers():
    pool = pool_of(campaign={"per_hour": 3})
    restore(pool, [row(3000), row(2000), row(1000, campaign=""), row(-50, outcome=None)], [])

    found = explain(pool, SPRING, NOW, {})

    assert (found.gate, found.scope, found.name, found.until) == (Gate.HOUR, "campaign", "acme/spring", NOW - 3000 + HOUR)
    assert found.sentence.startswith("campaign acme/spring has used 3 of 3 in the last 60 minutes, 1 of them on the wire")
    assert explain(pool, BULK, NOW, {}).gate is Gate.READY


def test_the_requests_of_others_count_for_the_provider_alone():
    pool = pool_of(client={"per_hour": 5}, providers=(ProviderLimits("relay", per_hour=4),))
    restore(pool, [row(1000)], [("relay", False, NOW - 3000, 2), ("relay", True, NOW + 60, 1)])

    found = explain(pool, BULK, NOW, {})

    assert (found.gate, found.until) == (Gate.PROVIDER_LIMIT, NOW - 3000 + HOUR)
    assert dict(found.numbers) == {"used": 4, "limit": 4, "on_the_wire": 1}
    assert pool.clients["acme"].cap.use(NOW) == (1, 1)


def test_of_several_closed_providers_the_first_to_open_is_named():
    pool = pool_of(providers=(ProviderLimits("relay"), ProviderLimits("other")))
    pool.set_paused(frozenset({("provider", "relay")}))

    found = explain(pool, BULK, NOW, {"other": ProviderNews(down=True, reason="connection refused", next_try_at=NOW + 7)})

    assert (found.gate, found.name, found.until) == (Gate.PROVIDER_DOWN, "other", NOW + 7)
    assert found.sentence == "provider other is down (connection refused) and is tried again"


@pytest.mark.parametrize(
    ("pool", "limited"),
    [
        (pool_of(), False),
        (pool_of(client={"per_hour": 5}), True),
        (pool_of(domain={"per_day": 5}), True),
        (pool_of(address={"per_hour": 0}), True),
        (pool_of(campaign={"per_day": 9}), True),
        (pool_of(campaign={"sending_window": "daily 08:00-09:00"}), False),
    ],
)
def test_the_ledger_matters_where_there_is_a_limit(pool, limited):
    pool.put_client(Client("other", per_hour=1))

    assert is_limited(pool, "acme") is limited
