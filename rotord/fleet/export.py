"""Writes the fleet out of the database as files that `read` takes, so that applying them changes nothing."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from typing import TYPE_CHECKING, Final

from rotord.core.model import Pacing, Status
from rotord.fleet.addresses import COLUMNS
from rotord.fleet.database import present

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from asyncpg import Connection

    from rotord.fleet.model import DeclaredAddress, DeclaredClient, DeclaredDomain, FleetFile

FLEET_NAME: Final = "fleet.toml"
ADDRESSES_NAME: Final = "addresses.csv"


async def export(conn: Connection, directory: Path) -> FleetFile:
    """Write fleet.toml and addresses.csv into a directory (made if need be) and give what they hold."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        fleet = (await present(conn)).fleet
    await asyncio.to_thread(write, fleet, directory)
    return fleet


def write(fleet: FleetFile, directory: Path) -> None:
    """Write both files; the one that names the other comes last."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / ADDRESSES_NAME).write_text(addresses_csv(fleet.addresses), encoding="utf-8", newline="")
    (directory / FLEET_NAME).write_text(fleet_toml(fleet), encoding="utf-8", newline="")


def addresses_csv(addresses: Iterable[DeclaredAddress]) -> str:
    """Write the address file. Active is what an empty status means for a new address; 0 used is what an empty one means.

    The last column is there only where it says something.
    """
    rows = list(addresses)
    columns = COLUMNS if any(address.forward_replies_to for address in rows) else COLUMNS[:-1]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for address in rows:
        status = "" if address.status in {None, Status.ACTIVE} else address.status
        row = (address.email, address.display_name, address.per_hour, address.per_day, status, address.used_day or None)
        writer.writerow((*row, address.forward_replies_to)[: len(columns)])
    return text.getvalue()


def fleet_toml(fleet: FleetFile) -> str:
    """Write the fleet file: of each client its domains behind it, and only what differs from its default."""
    domains: dict[str, list[DeclaredDomain]] = {}
    for domain in fleet.domains:
        domains.setdefault(domain.client, []).append(domain)
    tables = [f"addresses = {json.dumps(ADDRESSES_NAME)}\n"]
    for client in fleet.clients:
        tables.append("\n".join(_client(client)) + "\n")
        tables += ["\n".join(_domain(domain)) + "\n" for domain in domains.get(client.slug, [])]
    return "\n".join(tables)


def _client(client: DeclaredClient) -> Iterator[str]:
    yield "[[client]]"
    yield f"slug = {json.dumps(client.slug)}"
    if client.name:
        yield f"name = {_text(client.name)}"
    yield f"timezone = {_text(client.timezone)}"
    yield from _limits(client)
    if client.weight != 1:
        yield f"weight = {client.weight!r}"
    if client.transactional_reserve:
        yield f"transactional_reserve = {client.transactional_reserve!r}"
    if client.sending_window is not None:
        yield f"sending_window = {_text(client.sending_window)}"
    if client.pacing is not Pacing.NONE:
        yield f"pacing = {json.dumps(client.pacing.value)}"
    yield from _status(client)
    if client.unsubscribe_host is not None:
        yield f"unsubscribe_host = {json.dumps(client.unsubscribe_host)}"
    yield from _forward(client)


def _domain(domain: DeclaredDomain) -> Iterator[str]:
    yield "[[client.domain]]"
    yield f"name = {json.dumps(domain.name)}"
    if domain.stream != "main":
        yield f"stream = {json.dumps(domain.stream)}"
    yield f"providers = {json.dumps(list(domain.providers))}"
    yield from _limits(domain)
    if domain.warmup != "none":
        yield f"warmup = {json.dumps(domain.warmup)}"
    if domain.warmup_started_on is not None:
        yield f"warmup_started_on = {domain.warmup_started_on.isoformat()}"
    yield from _status(domain)
    yield from _forward(domain)


def _limits(table: DeclaredClient | DeclaredDomain) -> Iterator[str]:
    if table.per_hour is not None:
        yield f"per_hour = {table.per_hour}"
    if table.per_day is not None:
        yield f"per_day = {table.per_day}"


def _status(table: DeclaredClient | DeclaredDomain) -> Iterator[str]:
    if table.status not in {None, Status.ACTIVE}:
        yield f"status = {json.dumps(table.status)}"


def _forward(table: DeclaredClient | DeclaredDomain) -> Iterator[str]:
    if table.forward_replies_to is not None:
        yield f"forward_replies_to = {_text(table.forward_replies_to)}"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
