"""What the rows that drain have in common: both sides in turn, on clones of one database, and the figures of the two."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from bench.figures import Figure, Scale
from bench.place import Place, Receiver, Window, daemon, watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

# Messages in the queue, of which the window is measured, and how often both are run in turn.
SIZES = {
    Scale.TINY: (900, Window(200, 500), 1),
    Scale.SHORT: (24_000, Window(4_000, 22_000), 2),
    Scale.FULL: (60_000, Window(6_000, 56_000), 4),
}
Run = dict[str, float]


async def by_the_daemon(where: Place, sink: Receiver, window: Window, slots: int, provider: str) -> Run:
    async with where.clone() as url, daemon(where, url, slots, provider) as child:
        return await watch(where, url, child, sink, window)


async def in_turn(rounds: int, bare: Callable[[], Awaitable[Run]], ours: Callable[[], Awaitable[Run]]) -> tuple[list[Run], list[Run]]:
    found: tuple[list[Run], list[Run]] = ([], [])
    for _ in range(rounds):
        found[0].append(await bare())
        found[1].append(await ours())
    return found


def middle(runs: Sequence[Run]) -> Run:
    return {key: median(run[key] for run in runs) for key in runs[0]}


def compared(
    bares: Sequence[Run], ours: Sequence[Run], *, at_least: float, client_us: float | None, server_us: float | None
) -> list[Figure]:
    """Speed by the clock and by the CPU: the second is what a busy machine leaves of the first."""
    own, bare = middle(ours), middle(bares)

    def beside(key: str) -> str:
        return f"bare {bare[key]:,.1f}; runs " + ", ".join(f"{run[key]:,.1f}" for run in ours)

    return [
        Figure("messages a second", own["messages_a_second"], beside=beside("messages_a_second")),
        Figure("of the bare loop, by the clock", own["messages_a_second"] / bare["messages_a_second"], at_least=at_least),
        Figure("of the bare loop, by CPU of the client", bare["client_us"] / own["client_us"]),
        Figure("CPU of the daemon", own["client_us"], "us a message", at_most=client_us, beside=beside("client_us")),
        Figure("CPU of PostgreSQL", own["server_us"], "us a message", at_most=server_us, beside=beside("server_us")),
        Figure("write-ahead log", own["wal_bytes"], "B a message", beside=beside("wal_bytes")),
        Figure("round trips to PostgreSQL", own["round_trips"], "a message", beside=beside("round_trips")),
        Figure("cores used by the daemon", own["client_cores"], beside=beside("client_cores")),
        Figure("cores used by PostgreSQL", own["server_cores"], beside=beside("server_cores")),
    ]
