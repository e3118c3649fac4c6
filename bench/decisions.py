"""CPU microseconds a decision: one message's `choose` and `settle`, at three sizes of fleet, with room and without.

    python -m bench.decisions [--json] [--sizes 1200,12000,100000]

25 addresses a domain, 8 domains a client (the last row: one client alone). Process CPU time, so that a busy machine disturbs little.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import json
import time
import tracemalloc
from math import inf

from bench.figures import Figure, Scale
from rotord.core.model import Address, Client, Domain, Kind, Outcome, ProviderLimits
from rotord.core.pool import Assignment, Lane, SenderPool

AT = 1_795_000_000.0
ADDRESSES_A_DOMAIN = 25
NO_LIMIT = (10**6, 10**7)


def fleet(size: int, clients: int, address: tuple[int, int], domain: tuple[int, int]) -> tuple[list[Client], list[Domain], list[Address]]:
    domains = size // ADDRESSES_A_DOMAIN
    return (
        [Client(f"c{number}", per_hour=10**6, per_day=10**7) for number in range(clients)],
        [Domain(f"d{n}.example", f"c{n % clients}", "main", ("relay",), *domain) for n in range(domains)],
        [Address(f"a{n}@d{n % domains}.example", f"d{n % domains}.example", "", *address) for n in range(size)],
    )


def load(size: int, clients: int, address: tuple[int, int] = (1000, 4000), domain: tuple[int, int] = NO_LIMIT) -> tuple[SenderPool, float]:
    """A pool and the CPU seconds to fill it, up to the first answer."""
    values = fleet(size, clients, address, domain)
    gc.collect()
    began = time.process_time()
    pool = _fill(values)
    pool.lane(Lane("c0", "main", Kind.BULK), AT)
    return pool, time.process_time() - began


def _fill(values: tuple[list[Client], list[Domain], list[Address]]) -> SenderPool:
    pool = SenderPool([ProviderLimits("relay", per_second=10**6, per_hour=10**9, per_day=10**9)])
    pool.providers["relay"].slots = 10**9
    for client in values[0]:
        pool.put_client(client)
    for domain in values[1]:
        pool.put_domain(domain)
    for address in values[2]:
        pool.put_address(address)
    return pool


def bytes_an_address(size: int, clients: int) -> float:
    """What the pool itself keeps for an address before it sends; its value and its texts are the fleet's."""
    values = fleet(size, clients, (20, 100), NO_LIMIT)
    gc.collect()
    tracemalloc.start()
    pool = _fill(values)
    pool.lane(Lane("c0", "main", Kind.BULK), AT)
    found = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del pool
    return found / size


def with_room(pool: SenderPool, clients: int, now: float, decisions: int = 20_000) -> tuple[float, float]:
    """Microseconds a choose and a settle while there is room everywhere, clients in turn, 200 messages in flight."""
    lanes = [Lane(f"c{number}", "main", Kind.BULK) for number in range(clients)]
    chose = settled = 0.0
    for batch in range(decisions // 200):
        now += 0.02
        asked = [lanes[(batch * 200 + n) % clients] for n in range(200)]
        began = time.process_time()
        found = [pool.choose(lane, now) for lane in asked]
        between = time.process_time()
        for assignment in found:
            assert isinstance(assignment, Assignment)
            pool.settle(assignment, Outcome.ACCEPTED, now + 0.01)
        settled += time.process_time() - between
        chose += between - began
    return chose / decisions * 1e6, settled / decisions * 1e6


def throttled(size: int, clients: int, calls: int = 20_000) -> float:
    """Every address has used its only place: microseconds a refusal."""
    pool, _ = load(size, clients, address=(1, 1))
    lanes = [Lane(f"c{number}", "main", Kind.BULK) for number in range(clients)]
    for lane in lanes:
        # A wait until now is no refusal: there was more to look at than one decision may.
        while isinstance(found := pool.choose(lane, AT), Assignment) or found.until <= AT:
            if isinstance(found, Assignment):
                pool.settle(found, Outcome.ACCEPTED, AT)
    began = time.process_time()
    for number in range(calls):
        pool.choose(lanes[number % clients], AT + 1)
    return (time.process_time() - began) / calls * 1e6


def domains_blocked(size: int, clients: int) -> float:
    """All domains are used up, no address is: milliseconds of the worst decision."""
    pool, _ = load(size, clients, domain=(1, 1))
    lanes = [Lane(f"c{number}", "main", Kind.BULK) for number in range(clients)]
    worst = 0.0
    gc.disable()
    for domain in pool.domains.values():
        domain.cap.restore(AT, 1)
    for lane in lanes:
        until = -inf
        while until <= AT:
            began = time.process_time()
            until = pool.choose(lane, AT).until
            worst = max(worst, time.process_time() - began)
    gc.enable()
    return worst * 1e3


def anchor() -> float:
    """Microseconds of what a decision cannot do without once: a call that replaces the first of a heap of 1,000."""
    heap = [(float(number), number, None) for number in range(1000)]

    def turn(number: int) -> None:
        heapq.heapreplace(heap, (heap[0][0] + 1000.0, number, None))

    began = time.process_time()
    for number in range(20_000):
        turn(number)
    return (time.process_time() - began) / 20_000 * 1e6


def row(size: int, clients: int) -> dict[str, float]:
    pool, load_s = load(size, clients)
    choose_us, settle_us = min(with_room(pool, clients, AT + 10 * number) for number in range(3))
    del pool
    return {
        "addresses": size,
        "clients": clients,
        "anchor_us": min(anchor() for _ in range(5)),
        "load_s": load_s,
        "choose_us": choose_us,
        "settle_us": settle_us,
        "throttled_us": throttled(size, clients),
        "blocked_ms": domains_blocked(size, clients),
        "bytes": bytes_an_address(size, clients),
    }


def figures(scale: Scale) -> list[Figure]:
    found = []
    for size in {Scale.TINY: (1200,), Scale.SHORT: (1200, 100_000), Scale.FULL: (1200, 12_000, 100_000)}[scale]:
        line, about = row(size, max(1, size // 200)), f"at {size:,} addresses"
        found += [
            Figure(f"choose {about}", line["choose_us"], "us", at_most=5, beside=f"a heap's turn {line['anchor_us']:.2f}"),
            Figure(f"settle {about}", line["settle_us"], "us"),
            Figure(f"when all are throttled {about}", line["throttled_us"], "us", at_most=1),
            Figure(f"worst when all domains are blocked {about}", line["blocked_ms"], "ms", at_most=5),
            Figure(f"memory of the pool {about}", line["bytes"], "B an address", at_most=1000),
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sizes", default="1200,12000,100000")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    table = [row(size, max(1, size // 200)) for size in sizes]
    table.append(row(min(10_000, sizes[-1]), 1))
    if options.json:
        print(json.dumps(table))
        return
    print("".join(f"{name:>14}" for name in table[0]))
    for line in table:
        print("".join(f"{value:>14.2f}" if isinstance(value, float) else f"{value:>14,}" for value in line.values()))


if __name__ == "__main__":
    main()
