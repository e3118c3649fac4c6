"""The whole pool against brute force: every attempt ever made, counted anew for each question.

Nothing that could go is held back, nothing that may not goes: not through another's address, not above any limit of any level, not while
someone paused it, whatever happened before, through changes of the fleet and a pool rebuilt from the ledger.
"""

from dataclasses import dataclass, replace
from math import floor, inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rotord.core.limits import DAY, HOUR
from rotord.core.model import Address, Campaign, Client, Domain, Health, Kind, Outcome, ProviderLimits, Status
from rotord.core.past import LedgerRow, past_of
from rotord.core.pool import Assignment, Lane, Open, SenderPool
from rotord.core.rebuilding import rebuild
from rotord.core.senders import Wait

AT = 1_795_000_000.0
PROVIDERS = [ProviderLimits("m", per_hour=9, weight=2), ProviderLimits("n", per_day=14)]
CLIENTS = [Client("acme", per_hour=9), Client("bolt", per_day=12, transactional_reserve=0.4)]
DOMAINS = [
    Domain("a1.example", "acme", "main", ("m", "n"), per_hour=5),
    Domain("a2.example", "acme", "main", ("n",), per_day=7),
    Domain("a3.example", "acme", "news", ("m",)),
    Domain("b1.example", "bolt", "main", ("m", "n"), per_hour=6),
]
ADDRESSES = [
    Address(f"{who}@{domain.name}", domain.name, "", per_hour, per_day)
    for domain in DOMAINS
    for who, per_hour, per_day in (("x", 2, 5), ("y", 3, None), ("z", None, 1))
]
LANES = [
    Lane(client, stream, kind, campaign)
    for client, stream in (("acme", "main"), ("acme", "news"), ("bolt", "main"))
    for kind in Kind
    for campaign in ("", "spring")
]
SETTLED = st.sampled_from([Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.UNCERTAIN, Outcome.DEFERRED, Outcome.REJECTED, Outcome.NOT_SENT])
MARKS = st.sampled_from([(Status.ACTIVE, Health.HEALTHY), (Status.PAUSED, Health.HEALTHY), (Status.ACTIVE, Health.COOLING)])
LIMIT = st.none() | st.integers(0, 9)


@dataclass(eq=False)
class Attempt:
    """What the model knows of one assignment."""

    assignment: Assignment
    names: dict[str, str]
    finish: float = inf
    outcome: Outcome | None = None

    def counts(self, level, window, now):
        refused = self.outcome is not None and self.outcome.proves_not_accepted
        return self.finish + window > now and (level == "provider" or not refused)


class PoolMachine(RuleBasedStateMachine):
    """`fleet` holds what was put and not removed."""

    def __init__(self):
        super().__init__()
        self.now = AT
        self.attempts: list[Attempt] = []
        self.fleet = {}
        self.paused = frozenset()
        self.campaigns = {}
        self.pool = None

    @initialize()
    def load(self):
        self.pool = SenderPool(PROVIDERS)
        for client in CLIENTS:
            self.put("client", client, client.slug)
        for domain in DOMAINS:
            self.put("domain", domain, domain.name)
        for address in ADDRESSES:
            self.put("address", address, address.email)
        self.slots(True, True)

    def put(self, level, value, name):
        getattr(self.pool, f"put_{level}")(value)
        self.fleet[level, name] = value

    def of(self, level):
        return [value for (kind, _), value in self.fleet.items() if kind == level]

    # -- the model ---------------------------------------------------------------------------------------------------------------

    def full(self, level, name, limits, reserve):
        for limit, window in zip(limits, (HOUR, DAY), strict=True):
            if limit is None:
                continue
            used = sum(attempt.names[level] == name and attempt.counts(level, window, self.now) for attempt in self.attempts)
            if used >= floor(limit * (1 - reserve) + 1e-9):
                return True
        return False

    def campaign_may(self, lane):
        campaign = self.campaigns.get(f"{lane.client}/{lane.campaign}")
        limits = (None, None) if campaign is None else (campaign.per_hour, campaign.per_day)
        return not self.full("campaign", f"{lane.client}/{lane.campaign}", limits, 0.0)

    def may(self, level, value, name, reserve):
        rests = getattr(value, "health", Health.HEALTHY) is Health.COOLING and value.health_until > self.now
        return value.status is Status.ACTIVE and not rests and not self.full(level, name, (value.per_hour, value.per_day), reserve)

    def provider_may(self, limits):
        gate = self.pool.providers[limits.name]
        full = self.full("provider", limits.name, (limits.per_hour, limits.per_day), 0.0)
        return ("provider", limits.name) not in self.paused and gate.slots > 0 and not full

    def ways(self, lane):
        """Every (address, provider) that a message of the lane could go by now."""
        client = self.fleet.get(("client", lane.client))
        if client is None or ("stream", f"{lane.client}/{lane.stream}") in self.paused:
            return set()
        reserve = client.transactional_reserve if lane.kind is Kind.BULK else 0.0
        if not self.may("client", client, client.slug, reserve) or not self.campaign_may(lane):
            return set()
        found = set()
        for address in self.of("address"):
            domain = self.fleet["domain", address.domain]
            owned = (domain.client, domain.stream) == (lane.client, lane.stream)
            if owned and self.may("domain", domain, domain.name, reserve) and self.may("address", address, address.email, reserve):
                found |= {
                    (address.email, limits.name) for limits in PROVIDERS if limits.name in domain.providers and self.provider_may(limits)
                }
        return found

    # -- what happens ------------------------------------------------------------------------------------------------------------

    @rule(lane=st.sampled_from(LANES), count=st.integers(1, 4))
    def choose(self, lane, count):
        for _ in range(count):
            ways = self.ways(lane)
            open_ = self.pool.lane(lane, self.now)
            chosen = self.pool.choose(lane, self.now)
            if isinstance(chosen, Assignment):
                assert (chosen.email, chosen.provider.limits.name) in ways
                assert isinstance(open_, Open)
                assert open_.places >= 1

                self.begin(chosen, lane)
            else:
                assert not ways
                assert isinstance(chosen, Wait)
                assert chosen.until > self.now
                assert not isinstance(open_, Open)

    def begin(self, chosen, lane):
        names = {"client": chosen.client.value.slug, "domain": chosen.domain.value.name}
        names |= {"address": chosen.email, "provider": chosen.provider.limits.name}
        names["campaign"] = f"{lane.client}/{lane.campaign}"
        self.attempts.append(Attempt(chosen, names))

    @rule(
        address=st.sampled_from(ADDRESSES),
        kind=st.sampled_from(Kind),
        client=st.sampled_from(CLIENTS),
        campaign=st.sampled_from(["", "spring"]),
    )
    def choose_pinned(self, address, kind, client, campaign):
        domain = next(domain for domain in DOMAINS if domain.name == address.domain)
        lane = Lane(client.slug, domain.stream, kind, campaign, address.email, "sender")
        ways = {way for way in self.ways(lane) if way[0] == address.email}
        chosen = self.pool.choose(lane, self.now)
        if isinstance(chosen, Assignment):
            assert (chosen.email, chosen.provider.limits.name) in ways

            self.begin(chosen, lane)
        else:
            assert not ways

    def flying(self):
        return [attempt for attempt in self.attempts if attempt.finish == inf]

    @precondition(lambda self: self.flying())
    @rule(index=st.integers(0, 99), outcome=SETTLED)
    def settle(self, index, outcome):
        attempt = self.flying()[index % len(self.flying())]
        attempt.finish, attempt.outcome = self.now, outcome
        self.pool.settle(attempt.assignment, outcome, self.now)

    @precondition(lambda self: self.flying())
    @rule(index=st.integers(0, 99))
    def cancel(self, index):
        attempt = self.flying()[index % len(self.flying())]
        self.attempts.remove(attempt)
        self.pool.cancel(attempt.assignment)

    @rule(seconds=st.sampled_from([0.0, 1.0, 600.0, HOUR / 2, HOUR, DAY / 2, DAY]))
    def wait(self, seconds):
        self.now += seconds

    @rule(m=st.booleans(), n=st.booleans())
    def slots(self, m, n):
        self.pool.providers["m"].slots, self.pool.providers["n"].slots = 10**6 * m, 10**6 * n

    @rule(paused=st.frozensets(st.sampled_from([("provider", "m"), ("stream", "acme/news")])))
    def pause(self, paused):
        self.paused = paused
        self.pool.set_paused(paused)

    @rule(client=st.sampled_from(CLIENTS), per_hour=LIMIT, per_day=LIMIT)
    def set_campaign(self, client, per_hour, per_day):
        self.campaigns[f"{client.slug}/spring"] = Campaign(client.slug, "spring", None, per_hour, per_day)
        self.pool.set_campaigns(self.campaigns.values())

    @rule(address=st.sampled_from(ADDRESSES), mark=MARKS, per_hour=LIMIT)
    def change_address(self, address, mark, per_hour):
        if ("domain", address.domain) in self.fleet:
            value = replace(address, status=mark[0], health=mark[1], health_until=self.now + 900, per_hour=per_hour)
            self.put("address", value, value.email)

    @rule(domain=st.sampled_from(DOMAINS), mark=MARKS, per_day=LIMIT, providers=st.sampled_from([("m",), ("n", "m"), ("m", "n")]))
    def change_domain(self, domain, mark, per_day, providers):
        if ("client", domain.client) in self.fleet:
            value = replace(domain, status=mark[0], health=mark[1], health_until=self.now + 900, per_day=per_day, providers=providers)
            self.put("domain", value, value.name)

    @rule(client=st.sampled_from(CLIENTS), reserve=st.sampled_from([0.0, 0.4]), per_hour=LIMIT, is_active=st.booleans())
    def change_client(self, client, reserve, per_hour, is_active):
        status = Status.ACTIVE if is_active else Status.PAUSED
        value = replace(client, transactional_reserve=reserve, per_hour=per_hour, status=status)
        self.put("client", value, value.slug)

    @rule(address=st.sampled_from(ADDRESSES))
    def remove_address(self, address):
        self.pool.remove_address(address.email)
        self.fleet.pop(("address", address.email), None)

    @rule(domain=st.sampled_from(DOMAINS))
    def remove_domain(self, domain):
        self.pool.remove_domain(domain.name)
        self.fleet.pop(("domain", domain.name), None)
        for address in ADDRESSES:
            if address.domain == domain.name:
                self.fleet.pop(("address", address.email), None)

    @precondition(lambda self: not self.flying())
    @rule()
    def rebuild(self):
        rows = [
            LedgerRow(
                *(attempt.names[level] for level in ("address", "domain", "client", "provider")),
                *(AT, attempt.finish, attempt.outcome),
                campaign=attempt.names["campaign"].partition("/")[2],
            )
            for attempt in sorted(self.attempts, key=lambda attempt: attempt.finish)
        ]
        fleet, old = self.fleet, self.pool
        self.pool, self.fleet = SenderPool(PROVIDERS), {}
        for (level, name), value in sorted(fleet.items(), key=lambda item: ("client", "domain", "address").index(item[0][0])):
            self.put(level, value, name)
        self.pool.set_campaigns(self.campaigns.values())
        rebuild(self.pool, past_of(rows))
        self.pool.set_paused(self.paused)
        self.slots(old.providers["m"].slots > 0, old.providers["n"].slots > 0)

    @invariant()
    def what_is_held_is_what_flies(self):
        if self.pool is not None:
            for level, states in (("address", self.pool.addresses), ("domain", self.pool.domains), ("client", self.pool.clients)):
                for name, state in states.items():
                    assert state.cap.held == sum(attempt.names[level] == name for attempt in self.flying())


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
