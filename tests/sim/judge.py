"""The promises of contract.md 7, asked of what the receivers saw and of what the database holds in the end."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from rotord.core.limits import MonthUse
from rotord.core.past import past_of
from rotord.core.pool import Open, SenderPool
from rotord.core.rebuilding import rebuild

from .world import Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .memory_rows import Row
    from .memory_tables import Tables
    from .world import World

HOUR, DAY = 3600.0, 86_400.0
# How often what is uncertain has been asked after by then; outages make it late.
LOOKED_UP_WITHIN_S, LOOK_UPS = 2 * HOUR, 4
_LAW = {"hard_bounce", "manual"}


def judge(world: World) -> Result:
    """Everything that can be said of a run."""
    violations = [
        *(f"crash: {crash}" for crash in world.crashes),
        *_limits(world),
        *_nothing_lost(world),
        *_told_as_it_is(world),
        *_looked_up(world),
        *_nothing_twice(world),
        *_suppressed(world),
        *_isolated(world),
        *_one_sender(world),
    ]
    world.counts.found = sum(receiver.looked_up for receiver in world.receivers.values())
    uncertain = sum(row.state == "uncertain" for row in world.tables.queue.values())
    return Result(world.scenario.seed, len(world.tables.outbox), world.counts, uncertain, _digest(world), violations)


# -- P1 --------------------------------------------------------------------------------------------------------------------------


def _limits(world: World) -> Iterator[str]:
    scenario = world.scenario
    domain_of = {address.email: address.domain for address in scenario.addresses}
    client_of = {domain.name: domain.client for domain in scenario.domains}
    seen: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for address in scenario.addresses:
        elsewhere = [(address.used_day_at, 0)] * address.used_day
        for name in (address.email, address.domain, client_of[address.domain]):
            seen[name] += elsewhere
    for receiver in world.receivers.values():
        seen[receiver.name] = [(at, 0) for at in receiver.requests]
        for message in receiver.seen:
            domain = domain_of[message.address]
            for name in (message.address, domain, client_of[domain]):
                seen[name].append((message.at, message.outbox_id))
            row = world.tables.outbox[message.outbox_id]
            if row["campaign"]:
                seen[f"{row['client']}/{row['campaign']}"].append((message.at, message.outbox_id))
    limited = [
        *((client.slug, client.per_hour, client.per_day) for client in scenario.clients),
        *((domain.name, domain.per_hour, domain.per_day) for domain in scenario.domains),
        *((address.email, address.per_hour, address.per_day) for address in scenario.addresses),
        *((f"{campaign.client}/{campaign.name}", campaign.per_hour, campaign.per_day) for campaign in scenario.campaigns),
        *((limits.name, limits.per_hour, limits.per_day) for limits in scenario.limits),
    ]
    for name, per_hour, per_day in limited:
        for window, limit in ((HOUR, per_hour), (DAY, per_day)):
            yield from _worst(world, name, sorted(seen[name]), window, limit)


def _worst(world: World, name: str, events: list[tuple[float, int]], window: float, limit: int | None) -> Iterator[str]:
    if limit is None:
        return
    first = 0
    for last, (at, outbox_id) in enumerate(events):
        # What was sent elsewhere (0) may be above the hour's limit: it is told as a day's use at one moment.
        while at - events[first][0] >= window:
            first += 1
        inside = [n for _, n in events[first : last + 1] if window == DAY or n]
        if len(inside) > limit and outbox_id:
            ends = (events[first][1], outbox_id)
            yield f"P1: {name} {len(inside)} in {window:.0f} s, limit {limit}\n" + _story(world, ends, name)
            return


# -- P2, P3 ----------------------------------------------------------------------------------------------------------------------


def _nothing_lost(world: World) -> Iterator[str]:
    tables = world.tables
    for outbox_id in tables.outbox:
        row = tables.queue.get(outbox_id)
        if (row is None) == (outbox_id not in tables.state):
            yield f"P2: message {outbox_id} is in both or neither of queue and message_state\n" + _story(world, [outbox_id])
        elif row is not None and (fault := _stuck(world, row)):
            yield f"P2: message {outbox_id} {fault}\n" + _story(world, [outbox_id])
    for outbox_id in sorted(world.left_behind):
        yield f"P2: message {outbox_id} stayed on the wire long after its deadline\n" + _story(world, [outbox_id])
    if world.stalled:
        yield f"P2: messages {world.stalled[:5]} could go and did not\n" + _story(world, world.stalled[:1])


def _stuck(world: World, row: Row) -> str:
    """What is wrong with a row in the queue, after the last node has stopped."""
    if row.state == "sending":
        return "is sending, and nobody sends it"
    if row.state == "waiting" and not _waits_behind(world.tables, row):
        return "waits behind nothing"
    if row.state == "scheduled" and row.due_at < world.now() - 60:
        return "is due and not ready"
    return ""


def _waits_behind(tables: Tables, row: Row) -> bool:
    return any(
        other.client == row.client and other.thread_key == row.thread_key and other.id < row.id and other.state != "uncertain"
        for other in tables.queue.values()
    )


def _told_as_it_is(world: World) -> Iterator[str]:
    """What was received is sent or uncertain; what is sent was received."""
    tables = world.tables
    had = {message.outbox_id for receiver in world.receivers.values() for message in receiver.seen}
    for outbox_id in sorted(had):
        row = tables.queue.get(outbox_id)
        status = row.state if row is not None else tables.state[outbox_id].status
        if status not in {"sent", "uncertain"}:
            yield f"P3: message {outbox_id} was received and is {status}\n" + _story(world, [outbox_id])
    for outbox_id, state in tables.state.items():
        if state.status == "sent" and outbox_id not in had:
            yield f"P2: message {outbox_id} is sent and nobody received it\n" + _story(world, [outbox_id])


def _looked_up(world: World) -> Iterator[str]:
    """What a provider that can be asked has is asked after in time, and settled once the provider has said so.

    Each time it may say nothing: it is away, in a bad mood, or its log lags. Of some thousand messages one has that four times.
    """
    api = world.scenario.limits[0].name
    for row in world.tables.queue.values():
        attempt = world.tables.attempts.get(row.attempt or -1)
        if row.state != "uncertain" or attempt is None or attempt.provider != api:
            continue
        taken_at = world.receivers[api].taken_at.get(attempt.id)
        asked = world.tables.look_ups.get(attempt.id, (0, 0.0))[0]
        if taken_at is None or attempt.deadline_at >= world.now() - LOOKED_UP_WITHIN_S:
            continue
        if asked < LOOK_UPS or attempt.id in world.receivers[api].told_of:
            yield f"P2: message {row.id} is uncertain, though {api} has it since {taken_at}\n" + _story(world, [row.id])


def _nothing_twice(world: World) -> Iterator[str]:
    copies = Counter(message.outbox_id for receiver in world.receivers.values() for message in receiver.seen)
    for outbox_id, count in copies.items():
        if count > 1:
            yield f"P3: message {outbox_id} was received {count} times\n" + _story(world, [outbox_id])


# -- P4, P5, P6 ------------------------------------------------------------------------------------------------------------------


def _suppressed(world: World) -> Iterator[str]:
    tables = world.tables
    for attempt in tables.attempts.values():
        message = tables.outbox[attempt.outbox_id]
        for client, recipient, reason, at in tables.suppressions:
            covers = recipient == message["recipient"].lower() and client in {None, attempt.client}
            if covers and at < attempt.began_at and (message["kind"] == "bulk" or reason in _LAW):
                yield f"P4: message {attempt.outbox_id} began after {recipient} was suppressed\n" + _story(world, [attempt.outbox_id])


def _isolated(world: World) -> Iterator[str]:
    pool_of = {domain.name: (domain.client, domain.stream) for domain in world.scenario.domains}
    for receiver in world.receivers.values():
        for seen in receiver.seen:
            message = world.tables.outbox[seen.outbox_id]
            if (message["client"], message["stream"]) != pool_of[seen.address.partition("@")[2]]:
                yield f"P5: message {seen.outbox_id} left from {seen.address}\n" + _story(world, [seen.outbox_id])


def _one_sender(world: World) -> Iterator[str]:
    """In the order in which they were committed, and in the order of `began_at`."""
    committed = list(world.tables.attempts.values())
    for order in (committed, sorted(committed, key=lambda attempt: attempt.began_at)):
        newest = 0
        for attempt in order:
            if attempt.epoch < newest:
                yield f"P6: attempt of epoch {attempt.epoch} after one of {newest}\n" + _story(world, [attempt.outbox_id])
            newest = max(newest, attempt.epoch)


# -- for the above ---------------------------------------------------------------------------------------------------------------


def could_go(world: World) -> set[int]:
    """The ready messages that a pool would let go which is rebuilt from the database, as the next term's would be."""
    tables, now = world.tables, world.now()
    pool = SenderPool(world.scenario.limits)
    for client in tables.clients.values():
        pool.put_client(client)
    for domain in tables.domains.values():
        pool.put_domain(domain)
    for address in tables.addresses.values():
        pool.put_address(address)
    pool.set_paused(frozenset(tables.paused))
    pool.set_campaigns(tables.campaigns)
    rebuild(pool, past_of(tables.counted_on(now)))
    month = tables.month_use(now)
    for name, gate in pool.providers.items():
        gate.slots = 1
        if gate.month is not None:
            gate.month.restore(now, month.get(name, MonthUse()))
    rows = [row for row in tables.queue.values() if row.state == "queued" and row.id not in tables.locked]
    verdicts = {lane: pool.lane(lane, now) for lane in {row.lane for row in rows}}
    return {row.id for row in rows if isinstance(verdict := verdicts[row.lane], Open) and verdict.places > 0}


def _story(world: World, outbox_ids: Iterable[int], about: str = "") -> str:
    """What happened to these messages, what befell the nodes around it, and in between whatever was done to `about`."""
    base = world.scenario.starts_at
    lines: list[tuple[float, str]] = []
    for outbox_id in outbox_ids:
        for attempt in world.tables.attempts.values():
            if attempt.outbox_id == outbox_id:
                end = "open" if attempt.finished_at is None else f"{attempt.finished_at - base:.3f}"
                what = f"attempt {attempt.number} epoch {attempt.epoch} {attempt.address} {attempt.provider} ends {end}: {attempt.outcome}"
                lines.append((attempt.began_at, f"message {outbox_id}: {what}"))
        for receiver in world.receivers.values():
            lines += [(seen.at, f"message {outbox_id}: {receiver.name} has it") for seen in receiver.seen if seen.outbox_id == outbox_id]
    marks = sorted(at for at, _ in lines)
    times = [at for at, _ in world.history]
    for at in marks:
        for index in range(bisect_left(times, at - 40), bisect_right(times, at + 70)):
            if world.history[index] not in lines:
                lines.append(world.history[index])
    if about and marks:
        lines += [event for event in world.history if about in event[1] and marks[0] < event[0] < marks[-1] and event not in lines]
    return "\n".join(f"    {at - base:10.3f} {text}" for at, text in sorted(lines)[:40])


def _digest(world: World) -> str:
    digest = hashlib.sha256()
    for attempt in sorted(world.tables.attempts.values(), key=lambda attempt: attempt.id):
        digest.update(repr(attempt).encode())
    for receiver in world.receivers.values():
        digest.update(repr(sorted(receiver.seen)).encode())
    digest.update(repr(sorted(world.tables.state.items())).encode())
    digest.update(repr(sorted(world.history)).encode())
    return digest.hexdigest()[:12]
