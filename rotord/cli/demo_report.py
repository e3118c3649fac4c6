"""What `rotord demo` says at its end: tables by client, provider and limit, the verdict, and what to try next."""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rotord.cli.output import plural, print_table
from rotord.demo.usage import worst

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rotord.demo import Report

#: faults and exceeded limits that are shown; --json has all
SHOWN: Final = 10
_OTHERS: Final = ("failed", "suppressed", "expired", "cancelled", "uncertain", "sending", "queued")


def show(report: Report, config: Path) -> None:
    """Print it for a person at 80 columns."""
    statuses = Counter(row["status"] for row in report.audit.rows)
    _show_clients(report, statuses)
    _show_providers(report)
    for number, sentence in enumerate(_failover(report)):
        print(sentence if number else f"\n{sentence}")
    print("\nThe fullest hour: what came nearest to its limit, by the receivers' own logs\n")
    columns = ["limit of", "name", "used", "limit", "%"]
    print_table(columns, [[use.level, use.name, use.used, use.limit, round(100 * use.share)] for use in worst(report.uses)], indent="  ")
    print()
    _show_verdict(report, statuses)
    _show_next(report, config)


def document(report: Report) -> dict[str, Any]:
    """Give it for a machine."""
    return {
        "accounted_for": report.is_accounted_for,
        "messages": len(report.audit.rows),
        "statuses": dict(Counter(row["status"] for row in report.audit.rows)),
        "drain_seconds": round(report.drain_s, 3),
        "clients": _clients(report),
        "providers": _providers(report),
        "outage": _outage(report),
        "uses": [{"level": use.level, "name": use.name, "used": use.used, "limit": use.limit} for use in report.uses],
        "faults": [{"message": fault.message, "what": fault.what, "why": report.whys.get(fault.message)} for fault in report.audit.faults],
    }


def short(path: Path) -> str:
    """Shorten to what a person would type here."""
    absolute, relative = os.path.abspath(path), os.path.relpath(path)  # noqa: PTH100 - as it was typed: no link is followed
    return absolute if relative.startswith("..") else relative


def _show_clients(report: Report, statuses: Counter[str]) -> None:
    print("\nBy client. p50, p99: ms from INSERT to the receiver's yes, most of it spent")
    print("waiting for a turn: each wave is inserted at once.\n")
    shown = [status for status in _OTHERS if statuses[status]]
    lines = [
        [line["client"], line["sent"], *(line["other"].get(status, 0) for status in shown), line["p50_ms"], line["p99_ms"]]
        for line in _clients(report)
    ]
    lines.append(["all", statuses["sent"], *(statuses[status] for status in shown), *_percentiles(_waits(report.audit.rows))])
    print_table(["client", "sent", *shown, "p50", "p99"], lines, indent="  ")


def _show_providers(report: Report) -> None:
    print("\nBy provider. p50, p99: ms from begin to answer.\n")
    print_table(
        ["provider", "accepted", "refused for now", "for good", "not sent", "p50", "p99"],
        [
            [line[column] for column in ("provider", "accepted", "deferred", "rejected", "not_sent", "p50_ms", "p99_ms")]
            for line in _providers(report)
        ],
        indent="  ",
    )


def _show_verdict(report: Report, statuses: Counter[str]) -> None:
    total, faults = len(report.audit.rows), report.audit.faults
    over = [use for use in report.uses if use.used > use.limit]
    for use in over[:SHOWN]:
        print(f"  exceeded: {use.level} {use.name}: {use.used} of {use.limit} in 60 minutes")
    for fault in faults[:SHOWN]:
        print(f"  message {fault.message}: {fault.what}" if fault.message else f"  {fault.what}")
        for line in report.whys.get(fault.message, "").splitlines():
            print(f"    {line}")
    if report.is_accounted_for:
        print(f"All {total:,} rows are accounted for, {report.drain_s:.1f} s after the first INSERT.")
        for status, (example, why) in _reasons(report).items():
            print(f"  {statuses[status]:>5,} {status} ({'' if statuses[status] == 1 else 'like '}message {example}): {why}")
        print("Of those that were not sent, none was found at a receiver.")
    else:
        problems = [plural(len(faults), "message")] if faults else []
        problems += [plural(len(over), "exceeded limit")] if over else []
        print(f"NOT all {total:,} rows are accounted for: {' and '.join(problems)}.")


def _reasons(report: Report) -> dict[str, tuple[int, str]]:
    """Each status with its last message and why it has it."""
    last = {row["status"]: row for row in report.audit.rows}
    whys = {
        "sent": "each found exactly once, at one receiver",
        "failed": f"refused for good ({last['failed']['last_error'] if 'failed' in last else ''})",
        "suppressed": "the recipient is on the suppression list",
        "expired": "too late when the turn came",
        "cancelled": "called back in time",
    }
    return {status: (last[status]["id"], why) for status, why in whys.items() if status in last}


def _show_next(report: Report, config: Path) -> None:
    program = (
        shlex.quote(short(Path(sys.argv[0])))
        if Path(sys.argv[0]).name == "rotord"
        else f"{shlex.quote(short(Path(sys.executable)))} -m rotord"
    )
    command = f"{program} --config {shlex.quote(short(config))}"
    print("\nTry next. Each starts the demo's database for as long as it takes.\n")
    print(f"  {command} status")
    examples = _reasons(report)
    for status in ("failed", "suppressed", "sent"):
        if status in examples:
            print(f"  {command} why message {examples[status][0]}")
            break
    busiest = max((use for use in report.uses if use.level == "address"), key=lambda use: use.share, default=None)
    if busiest is not None:
        print(f"  {command} why address {busiest.name}")


def _clients(report: Report) -> list[dict[str, Any]]:
    rows = defaultdict(list)
    for row in report.audit.rows:
        rows[row["client"]].append(row)
    lines = []
    for client, of_client in rows.items():
        statuses = Counter(row["status"] for row in of_client)
        p50, p99 = _percentiles(_waits(of_client))
        lines.append({"client": client, "sent": statuses.pop("sent", 0), "other": dict(statuses), "p50_ms": p50, "p99_ms": p99})
    return lines


def _providers(report: Report) -> list[dict[str, Any]]:
    lines = []
    for provider in sorted({attempt["provider"] for attempt in report.audit.attempts}):
        own = [attempt for attempt in report.audit.attempts if attempt["provider"] == provider]
        outcomes = Counter(attempt["outcome"] for attempt in own)
        p50, p99 = _percentiles([attempt["finished_at"] - attempt["began_at"] for attempt in own])
        counts = {outcome: outcomes[outcome] for outcome in ("accepted", "deferred", "rejected", "not_sent", "uncertain")}
        lines.append({"provider": provider, **counts, "p50_ms": p50, "p99_ms": p99})
    return lines


def _outage(report: Report) -> dict[str, Any] | None:
    """What the receivers' logs say of the time in which one of them was away."""
    outage = report.outage
    if outage.left_at is None or outage.back_at is None:
        return None
    meanwhile = Counter(d.provider for d in report.audit.deliveries if outage.left_at <= d.at < outage.back_at)
    again = min((d.at for d in report.audit.deliveries if d.provider == outage.provider and d.at >= outage.back_at), default=None)
    return {
        "provider": outage.provider,
        "seconds": round(outage.back_at - outage.left_at, 3),
        "waiting": outage.waiting,
        "meanwhile": dict(meanwhile),
        "again_after_seconds": None if again is None else round(again - outage.back_at, 3),
    }


def _failover(report: Report) -> Iterable[str]:
    told = _outage(report)
    if told is None:
        return
    others = {name: count for name, count in sorted(told["meanwhile"].items()) if name != told["provider"]}
    took = " and ".join(f"{name} {count:,}" for name, count in others.items()) or "nobody any"
    yield f"Failover. {told['provider']} was away for {told['seconds']:.1f} s, with {told['waiting']:,} messages waiting."
    last = told["meanwhile"].get(told["provider"], 0)
    again, after_s = "It had no mail after that", told["again_after_seconds"]
    if after_s is not None:
        again = f"Its first message after that came {after_s:.1f} s after its return"
    yield f"Meanwhile {took}; {told['provider']} {last:,}, on connections it still had."
    yield f"{again}."


def _waits(rows: Iterable[Any]) -> list[float]:
    return [row["took_s"] for row in rows if row["took_s"] is not None]


def _percentiles(seconds: Sequence[float]) -> tuple[int | None, int | None]:
    """The nearest-rank 50th and 99th, in milliseconds."""
    ordered = sorted(seconds)
    if not ordered:
        return None, None
    p50, p99 = (round(1000 * ordered[math.ceil(part * len(ordered)) - 1]) for part in (0.5, 0.99))
    return p50, p99
