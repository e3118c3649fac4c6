"""`rotord why`: the gate that holds a message, an address or a client, with its numbers, and when it opens."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rotord.cli.arguments import add_json
from rotord.cli.database import open_database
from rotord.cli.errors import CommandError
from rotord.cli.output import plural, print_json, when
from rotord.cli.why_uncertain import explain_uncertain
from rotord.handwritten import nearest

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from asyncpg import Record

    from rotord.cli.database import Session
    from rotord.core.explain import Finding, ProviderNews
    from rotord.core.pool import SenderPool

# How many of a client's lanes are explained: the fullest ones, each counted this far.
LANES_SHOWN = 20
COUNTED = 1000
# How the name ends that is left of a recipient who was forgotten (rotord.forgotten_name).
FORGOTTEN = "@forgotten.invalid"


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `why message`, `why address` and `why client`."""
    parser = subparsers.add_parser("why", help="what a message, an address or a client waits for, and until when")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, name, handler in (("message", "ID", _message), ("address", "EMAIL", _address), ("client", "SLUG", _client)):
        one = kinds.add_parser(kind, help=f"why {kind} {name}")
        one.add_argument("name", metavar=name, type=int if kind == "message" else str)
        add_json(one)
        one.set_defaults(handler=handler)


async def _message(arguments: Namespace) -> int:
    from rotord.db import explain  # noqa: PLC0415 - `rotord --help` must not wait for it

    async with open_database(arguments) as session:
        row = await explain.message(session.conn, arguments.name)
        if row is None:
            raise CommandError(f"there is no message {arguments.name}")
        found = await explain_message(session, row)
    head = f"message {row['id']} of client {row['client']} ({row['kind']}): {row['status']}"
    _show(arguments, head, [found], {"message": row["id"], "status": row["status"]})
    return 0


async def _address(arguments: Namespace) -> int:
    from rotord.core.explain import explain_address, explain_client  # noqa: PLC0415
    from rotord.core.model import Kind  # noqa: PLC0415
    from rotord.core.pool import Lane  # noqa: PLC0415
    from rotord.core.senders import Gate  # noqa: PLC0415

    email = arguments.name.lower()
    async with open_database(arguments) as session:
        pool, news, now = await _rebuild(session, email=email)
        address = pool.addresses.get(email)
        if address is None:
            raise CommandError(f"there is no address {email} in the fleet{nearest(email, pool.addresses)}")
        finding = await _with_reason(session, explain_address(address, Kind.BULK, now, news))
        if finding.gate is Gate.READY:
            domain = address.domain.value
            finding = await _lease_finding(session) or explain_client(pool, Lane(domain.client, domain.stream, Kind.BULK), now) or finding
    hour, day = address.cap.use(now)
    limits = address.value
    used = f"sent {hour:,}{_of(limits.per_hour)} in the last 60 minutes, {day:,}{_of(limits.per_day)} in the last 24 hours"
    if address.cap.held:
        used += f", {address.cap.held:,} on the wire"
    document = {"address": email, "used_hour": hour, "used_day": day, "on_the_wire": address.cap.held}
    _show(arguments, f"address {email}: {used}", [finding], document)
    return 0


async def _client(arguments: Namespace) -> int:
    from rotord.core.explain import explain as explain_lane  # noqa: PLC0415
    from rotord.core.model import Kind  # noqa: PLC0415
    from rotord.core.pool import Lane  # noqa: PLC0415
    from rotord.db import explain  # noqa: PLC0415

    slug = arguments.name
    async with open_database(arguments) as session:
        pool, news, now = await _rebuild(session, client=slug)
        if slug not in pool.clients:
            raise CommandError(f"there is no client {slug}{nearest(slug, pool.clients)}")
        backlog = await explain.backlog(session.conn, slug, COUNTED)
        lease = await _lease_finding(session)
        findings, notes = ([], []) if lease is None else ([lease], [""])
        for row in backlog[:LANES_SHOWN]:
            lane = Lane(slug, row["stream"], Kind(row["kind"]), row["campaign"], row["pin"], row["pin_kind"])
            findings.append(await _with_reason(session, explain_lane(pool, lane, now, news)))
            what = [row["kind"], f"stream {lane.stream}", f"campaign {lane.campaign}" if lane.campaign else "", lane.pin]
            notes.append(f"{_counted(row['messages'])} ({', '.join(filter(None, what))})")
    ready = sum(row["messages"] for row in backlog)
    is_more = any(row["messages"] >= COUNTED for row in backlog)
    count = f"{plural(ready, 'message')}{' or more' if is_more else ''} ready to go"
    head = f"client {slug}: {count if ready else 'nothing waits for its turn'}"
    if len(backlog) > LANES_SHOWN:
        head += f" in {len(backlog)} lanes, of which the {LANES_SHOWN} fullest are"
    _show(arguments, head, findings, {"client": slug, "ready": ready, "is_more": is_more}, notes)
    return 0


def _counted(messages: int) -> str:
    return f"{plural(messages, 'message')}{' or more' if messages >= COUNTED else ''}"


async def _with_reason(session: Session, finding: Finding) -> Finding:
    """Add rotord's own words on an address or a domain that it rests."""
    from rotord.db import explain  # noqa: PLC0415

    reason = await explain.health_reason(session.conn, finding.scope, finding.name)
    return finding if reason is None else replace(finding, sentence=f"{finding.sentence}: {reason}")


async def explain_message(session: Session, row: Record) -> Finding:
    """Find what holds a message, or how it ended; `row` is that of `rotord.db.explain.message`."""
    from rotord.core.explain import Finding  # noqa: PLC0415
    from rotord.core.senders import Gate  # noqa: PLC0415

    name = str(row["id"])
    match row["state"]:
        case None:
            gate = {"suppressed": Gate.SUPPRESSED, "expired": Gate.EXPIRED}.get(row["status"], Gate.SETTLED)
            return Finding(gate, "message", name, _settled(row))
        case "sending":
            return await _on_the_wire(session, row)
        case "uncertain":
            return await explain_uncertain(session, row, _called_back(row))
        case _:
            return await _waiting(session, row)


async def _waiting(session: Session, row: Record) -> Finding:
    from rotord.core.explain import Finding, explain  # noqa: PLC0415
    from rotord.core.model import Kind  # noqa: PLC0415
    from rotord.core.pool import Lane  # noqa: PLC0415
    from rotord.core.senders import Gate  # noqa: PLC0415

    name, now = str(row["id"]), row["now"]
    if row["expires_at"] is not None and row["expires_at"] <= now:
        return Finding(Gate.EXPIRED, "message", name, f"it expired at {when(row['expires_at'])}, and is never sent")
    if row["suppression"] is not None:
        covering = json.loads(row["suppression"])
        scope = "everybody" if covering["client"] is None else f"client {covering['client']}"
        sentence = f"its recipient is suppressed for {scope} ({covering['reason']}); it ends as suppressed when its turn comes"
        return Finding(Gate.SUPPRESSED, "message", name, sentence)
    if row["state"] == "waiting":
        return Finding(Gate.THREAD, "message", name, f"it waits behind message {row['behind']} of its thread {row['thread_key']}")
    if row["state"] == "scheduled" and row["due_at"] > now:
        again = (
            f"it was refused for now ({row['last_error']}); attempt {row['attempts'] + 1} is at" if row["attempts"] else "its send_after is"
        )
        return Finding(Gate.SCHEDULED, "message", name, f"{again} {when(row['due_at'])}", row["due_at"].timestamp())
    lease = await _lease_finding(session)
    if lease is not None:
        return lease
    pool, news, moment = await _rebuild(session, client=row["client"])
    lane = Lane(row["client"], row["stream"], Kind(row["kind"]), row["campaign"], row["pin"], row["pin_kind"])
    return await _with_reason(session, explain(pool, lane, moment, news))


async def _on_the_wire(session: Session, row: Record) -> Finding:
    from rotord.core.explain import Finding  # noqa: PLC0415
    from rotord.core.senders import Gate  # noqa: PLC0415
    from rotord.db import explain  # noqa: PLC0415

    attempt = await explain.attempt(session.conn, row["attempt"])
    if attempt is None:
        raise CommandError(f"message {row['id']} is sending, but attempt {row['attempt']} is not in the ledger")
    sentence = (
        f"attempt {attempt['number']} from {attempt['address']} by {attempt['provider']} is on the wire since {when(attempt['began_at'])}, "
        f"until {when(attempt['deadline_at'])} at the latest{_called_back(row)}"
    )
    return Finding(Gate.SENDING, "message", str(row["id"]), sentence, attempt["deadline_at"].timestamp())


async def _lease_finding(session: Session) -> Finding | None:
    from rotord.core.explain import Finding  # noqa: PLC0415
    from rotord.core.senders import Gate  # noqa: PLC0415
    from rotord.db import explain  # noqa: PLC0415

    lease = await explain.leader(session.conn)
    if lease is not None and lease["is_leading"]:
        return None
    if lease is None:
        sentence = "no daemon has ever led, so nothing is sent"
    else:
        sentence = f"no daemon leads, so nothing is sent ({lease['node']} led until {when(lease['expires_at'])})"
    return Finding(Gate.LEASE, "lease", "main", f"{sentence}: start one with rotord run")


async def _rebuild(session: Session, *, client: str = "", email: str = "") -> tuple[SenderPool, dict[str, ProviderNews], float]:
    """The pool as the leader has it, for one client or address: from the fleet, the ledger and what it last said of its providers."""
    from rotord.core.breaker import Breaker, Errors  # noqa: PLC0415
    from rotord.core.explain import ProviderNews, is_limited, restore  # noqa: PLC0415
    from rotord.core.limits import MonthUse  # noqa: PLC0415
    from rotord.core.pool import SenderPool  # noqa: PLC0415
    from rotord.db import explain, ledger, senders  # noqa: PLC0415
    from rotord.engine.maintenance import apply_fleet  # noqa: PLC0415

    settings, conn = session.settings, session.conn
    now = float(await conn.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))
    pool = SenderPool(
        [config.limits(name, prefer=settings.routing.prefer) for name, config in settings.providers.items()],
        settings.engine.thread_wait_seconds,
    )
    if email:
        client = await senders.client_of(conn, email) or ""
    fleet = await senders.load_of(conn, client)
    # Who asks for a name that is not there is told of names like it.
    apply_fleet(pool, fleet if fleet.clients else await senders.load(conn))
    capped = [name for name, gate in pool.providers.items() if (gate.limits.per_hour, gate.limits.per_day) != (None, None)]
    if client in pool.clients:
        # A day of a big client is a million attempts: they are not read where nothing counts them.
        rows = await ledger.recent_of(conn, now, client) if capped or email or is_limited(pool, client) else []
        restore(pool, rows, await ledger.requests_of_others(conn, now, client, capped) if capped else [])
    is_monthly = any(gate.month is not None for gate in pool.providers.values())
    month = await ledger.month_use(conn, now) if is_monthly else {}
    news: dict[str, ProviderNews] = {}
    for report in await explain.providers(conn):
        gate = pool.providers.get(report["provider"])
        if gate is None or not report["is_fresh"]:
            continue
        down = report["up"] is False
        next_try_at = report["next_try_at"].timestamp() if report["next_try_at"] else None
        news[report["provider"]] = ProviderNews(down, report["reason"], next_try_at)
        gate.slots = 0 if down else report["capacity"] - report["in_flight"]
        failing = json.loads(report["limits"]).get("breaker")
        if failing is not None:
            gate.breaker = Breaker.tripped(Errors(failing["errors"], failing["answers"]), failing["next_probe_at"])
    for name, gate in pool.providers.items():
        if name not in news:
            gate.slots = gate.limits.max_in_flight
        if gate.month is not None:
            gate.month.restore(now, month.get(name, MonthUse()))
    return pool, news, now


def _called_back(row: Record) -> str:
    return "" if row["cancelled_at"] is None else "; it was called back too late, and is cancelled if it turns out not to be sent"


def _settled(row: Record) -> str:
    return _outcome(row) + _blanked(row)


def _blanked(row: Record) -> str:
    if row["blanked_at"] is None:
        return ""
    at = when(row["blanked_at"])
    return f"; its recipient was forgotten, on {at}" if row["recipient"].endswith(FORGOTTEN) else f"; body blanked by retention on {at}"


def _outcome(row: Record) -> str:
    match row["status"]:
        case "sent":
            return f"{row['provider']} accepted it at {when(row['sent_at'])}, from {row['sender']}"
        case "failed":
            return f"it failed at {when(row['settled_at'])}: {row['last_error'] or 'the reason was erased'}"
        case "suppressed":
            return f"its recipient was suppressed when its turn came, at {when(row['settled_at'])}"
        case "expired":
            return f"it expired before it could be sent (settled at {when(row['settled_at'])})"
        case _:
            return f"it was called back in time, at {when(row['settled_at'])}"


def _of(limit: int | None) -> str:
    return "" if limit is None else f" of {limit:,}"


def _show(arguments: Namespace, head: str, findings: list[Finding], document: dict[str, Any], notes: list[str] | None = None) -> None:
    if arguments.json:
        entries = [_entry(finding) for finding in findings]
        for entry, note in zip(entries, notes or [], strict=False):
            entry["messages"] = note
        print_json(document | (entries[0] if len(entries) == 1 and notes is None else {"lanes": entries}))
        return
    print(head)
    said = {"scheduled", "sending", "uncertain"}  # their sentences hold the time
    for index, finding in enumerate(findings):
        note = notes[index] if notes and index < len(notes) else ""
        if note:
            print(f"  {note}:")
        indent = "    " if note else "  "
        until = "" if finding.until is None or finding.gate in said else f"; opens {when(datetime.fromtimestamp(finding.until, UTC))}"
        print(f"{indent}{finding.gate.value}: {finding.sentence}{until}")


def _entry(finding: Finding) -> dict[str, Any]:
    entry = asdict(finding)
    entry["until"] = None if finding.until is None else datetime.fromtimestamp(finding.until, UTC)
    return entry
