"""The receivers' logs against the outbox: each sent message exactly once at exactly one receiver, nothing else anywhere.

A log line names its row by what travelled with the message (the header X-Row), so a wrong ledger
cannot hide a wrong delivery. The daemon must have ended.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from rotord.demo.place import SLOTS
from rotord.demo.rows import Fate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from asyncpg import Connection, Record

    from rotord.demo.place import Place


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that a receiver took."""

    key: str
    at: float
    sender: str
    recipient: str
    provider: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A message that is not accounted for, and why not."""

    message: int
    what: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What became of the rows, and what is wrong with it."""

    rows: Sequence[Record]
    attempts: Sequence[Record]
    deliveries: Sequence[Delivery]
    faults: Sequence[Fault]


OUTCOMES: Final = """
SELECT m.id, m.client, m.status, m.sender, m.provider, m.last_error, o.idempotency_key AS key, o.recipient, o.thread_key,
       extract(epoch FROM a.finished_at - o.created_at)::float8 AS took_s
FROM rotord.messages AS m
JOIN rotord.outbox AS o USING (id)
LEFT JOIN rotord.attempts AS a ON a.outbox_id = m.id AND a.outcome = 'accepted'
ORDER BY m.id
"""

ATTEMPTS: Final = """
SELECT provider, outcome, extract(epoch FROM began_at)::float8 AS began_at, extract(epoch FROM finished_at)::float8 AS finished_at
FROM rotord.attempts
WHERE finished_at IS NOT NULL
"""


async def audit(conn: Connection, place: Place, fates: Mapping[str, Fate]) -> Audit:
    """Read both sides and compare. `fates` are what was asked for, by idempotency key."""
    rows = await conn.fetch(OUTCOMES)
    attempts = await conn.fetch(ATTEMPTS)
    deliveries = [
        Delivery(line["row"], line["at"], line["from"], ",".join(line["rcpt"]), provider)
        for provider in SLOTS
        for line in _lines(place.truth(provider))
    ]
    return Audit(rows, attempts, deliveries, judge(rows, deliveries, fates))


def judge(rows: Sequence[Record], deliveries: Sequence[Delivery], fates: Mapping[str, Fate]) -> list[Fault]:
    """Every message that is not accounted for."""
    arrived: dict[str, list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        arrived[delivery.key].append(delivery)
    known = {row["key"] for row in rows}
    faults = [Fault(0, f"{key} was never inserted, but arrived") for key in arrived if key not in known]
    faults += [Fault(0, f"{key} was inserted and is not in the outbox") for key in fates if key not in known]
    for row in rows:
        what = _fault(row, arrived[row["key"]], fates.get(row["key"]))
        if what:
            faults.append(Fault(row["id"], what))
    return faults + list(_out_of_order(rows, arrived))


def _fault(row: Record, arrived: Sequence[Delivery], fate: Fate | None) -> str:
    status = row["status"]
    if fate is None:
        return "it is no row of this run"
    if status != fate and not (status == "failed" and fate is Fate.SENT):
        return f"it is {status}, and was to be {fate}"
    if status != "sent":
        return f"it is {status}, and arrived {len(arrived)} times" if arrived else ""
    if len(arrived) != 1:
        return f"it is sent, and arrived {len(arrived)} times"
    for field, said in (("provider", arrived[0].provider), ("sender", arrived[0].sender), ("recipient", arrived[0].recipient)):
        if row[field].lower() != said.lower():
            return f"its {field} is {row[field]} in the outbox and {said} at the receiver"
    return ""


def _out_of_order(rows: Sequence[Record], arrived: Mapping[str, Sequence[Delivery]]) -> Iterator[Fault]:
    """Within a thread messages must arrive in the order of their rows; `rows` are in that order."""
    latest: dict[tuple[str, str], float] = {}
    for row in rows:
        if row["thread_key"] is None:
            continue
        thread = (row["client"], row["thread_key"])
        for delivery in arrived[row["key"]]:
            if delivery.at < latest.get(thread, 0.0):
                yield Fault(row["id"], f"it overtook an earlier message of {row['thread_key']}")
            latest[thread] = delivery.at


def _lines(log: Path) -> Iterator[dict[str, Any]]:
    if log.exists():
        for line in log.read_bytes().splitlines():
            yield orjson.loads(line)
