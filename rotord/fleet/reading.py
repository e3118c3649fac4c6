"""Reads a fleet file and its addresses: every fault of both with file and line, or a fleet in which every reference holds.

E-mail addresses and domain names are lower case from here on: a sender is the same however it is spelled.
"""

from __future__ import annotations

import re
from datetime import date  # noqa: TC003  pydantic reads annotations at run time
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from rotord.core.model import Pacing, Status
from rotord.core.window import parse_window
from rotord.fleet.addresses import MAX_LIMIT, AddressReader
from rotord.fleet.model import A_LINE, DeclaredAddress, DeclaredClient, DeclaredDomain, FleetFile, is_line
from rotord.handwritten import Document, FaultsError, Where, is_address, is_domain, nearest, read_toml, sentence

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from pydantic_core import ErrorDetails

# 8 MiB: about 40,000 domains
MAX_FLEET_BYTES: Final = 8_388_608
_SLUG: Final = re.compile(r"[a-z0-9-]{1,63}")


class FleetError(FaultsError):
    """A fleet file that changes nothing, because of every fault in its lines."""


def _slug(text: str) -> str:
    if not _SLUG.fullmatch(text):
        raise ValueError("wanted 1 to 63 of a-z, 0-9 and -")
    return text


def _domain(text: str) -> str:
    if not is_domain(text):
        raise ValueError("is no domain name; give one like acme-mail.example")
    return text.lower()


def _host(text: str) -> str:
    if not is_domain(text):
        raise ValueError("is no host name; give one like mail.acme.example, without https://")
    return text.lower()


def _mailbox(text: str) -> str:
    if not is_address(text):
        raise ValueError("is no e-mail address; give one like inbox@acme.example")
    return text


def _timezone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is no time zone; give one like Europe/Berlin or UTC") from None
    return text


def _window(text: str) -> str:
    parse_window(text)
    return text


def _name(text: str) -> str:
    if not is_line(text):
        raise ValueError(f"wanted {A_LINE}")
    return text


Limit = Annotated[int, Field(ge=0, le=MAX_LIMIT)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class _Domain(_Table):
    name: Annotated[str, AfterValidator(_domain)]
    stream: Annotated[str, AfterValidator(_slug)] = "main"
    providers: list[str]
    per_hour: Limit | None = None
    per_day: Limit | None = None
    warmup: Literal["none", "standard", "gentle"] = "none"
    warmup_started_on: date | None = None
    status: Literal["active", "paused", "disabled"] | None = None
    forward_replies_to: Annotated[str, AfterValidator(_mailbox)] | None = None


class _Client(_Table):
    slug: Annotated[str, AfterValidator(_slug)]
    name: Annotated[str, Field(max_length=200), AfterValidator(_name)] = ""
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    per_hour: Limit | None = None
    per_day: Limit | None = None
    weight: Annotated[float, Field(ge=0.001, le=1_000_000)] = 1.0
    transactional_reserve: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    sending_window: Annotated[str, AfterValidator(_window)] | None = None
    pacing: Literal["even", "none"] = "none"
    status: Literal["active", "paused", "disabled"] | None = None
    unsubscribe_host: Annotated[str, AfterValidator(_host)] | None = None
    forward_replies_to: Annotated[str, AfterValidator(_mailbox)] | None = None
    domain: list[_Domain] = []


class _Fleet(_Table):
    addresses: Annotated[str, Field(min_length=1)] | None = None
    client: list[_Client] = []


_KNOWN: Final = {
    0: frozenset(_Fleet.model_fields),
    2: frozenset(_Client.model_fields),  # client, its position, key
    4: frozenset(_Domain.model_fields),
}


def read(path: Path, providers: Collection[str] | None = None) -> FleetFile:
    """Read a fleet; FleetError lists every fault. `providers` are the configured names; None accepts any."""
    try:
        document = read_toml(path, MAX_FLEET_BYTES)
    except FaultsError as error:
        raise FleetError(error.lines) from None
    faults: list[str] = []
    fleet = _Fleet()
    try:
        fleet = _Fleet.model_validate(document.values)
    except ValidationError as error:
        faults += [_fault(document, detail) for detail in error.errors(include_url=False)]
    faults += _duplicates(document)
    if providers is not None:
        faults += _unknown_providers(document, providers)
    addresses = _addresses(document, faults)
    if faults:
        raise FleetError(faults) from None
    return FleetFile(
        clients=tuple(_client(table) for table in fleet.client),
        domains=tuple(_declared_domain(client.slug, table) for client in fleet.client for table in client.domain),
        addresses=tuple(addresses),
    )


def _client(table: _Client) -> DeclaredClient:
    values = table.model_dump(exclude={"domain", "pacing", "status"})
    return DeclaredClient(**values, pacing=Pacing(table.pacing), status=Status(table.status) if table.status else None)


def _declared_domain(client: str, table: _Domain) -> DeclaredDomain:
    values = table.model_dump(exclude={"providers", "status"})
    status = Status(table.status) if table.status else None
    return DeclaredDomain(**values, client=client, providers=tuple(table.providers), status=status)


def _addresses(document: Document, faults: list[str]) -> list[DeclaredAddress]:
    name = document.values.get("addresses")
    if not isinstance(name, str) or not name:
        return []
    domains = {table["name"].lower() for _, table in _domains(document) if isinstance(table.get("name"), str)}
    reader = AddressReader(document.path.parent / name, domains)
    try:
        return reader.read()
    except FaultsError as error:
        reader.faults += error.lines
        return []
    finally:
        faults += reader.faults


def _tables(value: object, where: Where) -> Iterator[tuple[Where, dict[str, Any]]]:
    for position, table in enumerate(value if isinstance(value, list) else []):
        if isinstance(table, dict):
            yield (*where, position), table


def _clients(document: Document) -> Iterator[tuple[Where, dict[str, Any]]]:
    """Walk the tables as written: what goes by several tables is checked whatever else is wrong with them."""
    return _tables(document.values.get("client"), ("client",))


def _domains(document: Document) -> Iterator[tuple[Where, dict[str, Any]]]:
    for where, client in _clients(document):
        yield from _tables(client.get("domain"), (*where, "domain"))


def _duplicates(document: Document) -> Iterator[str]:
    for tables, key in ((_clients(document), "slug"), (_domains(document), "name")):
        first: dict[str, Where] = {}
        for where, table in tables:
            name = table.get(key)
            if isinstance(name, str) and first.setdefault(name.lower(), where) != where:
                earlier = document.place((*first[name.lower()], key)).removeprefix(f"{document.path}:")
                yield f"{document.place((*where, key))}: {key}: {name} is already on line {earlier}"


def _unknown_providers(document: Document, known: Collection[str]) -> Iterator[str]:
    for where, table in _domains(document):
        providers = table.get("providers")
        seen = set()
        for name in providers if isinstance(providers, list) else []:
            if not isinstance(name, str):
                continue
            key = (*where, "providers")
            place = f"{document.place(key)}: {_label(document, key)}providers"
            if name in seen:
                yield f"{place}: {name} is there twice"
            elif name not in known:
                offer = nearest(name, known) or f"; known are {', '.join(sorted(known)) or 'none'}"
                yield f"{place}: {name} is not configured{offer}"
            seen.add(name)


def _fault(document: Document, error: ErrorDetails) -> str:
    where: Where = error["loc"]
    if error["type"] == "extra_forbidden":
        what = f"unknown key{nearest(str(where[-1]), _KNOWN.get(len(where) - 1, ()))}"
    else:
        what = sentence(error, secret=False)
    key = next((str(part) for part in reversed(where) if isinstance(part, str)), "")
    return f"{document.place(where)}: {_label(document, where)}{key}: {what}"


def _label(document: Document, where: Where) -> str:
    """Name the client or domain that a fault is in, where it has a name."""
    values: Any = document.values
    label = ""
    for depth, part in enumerate(where[:-1], start=1):
        values = values[part]
        name = values.get({2: "slug", 4: "name"}.get(depth)) if isinstance(values, dict) else None
        if isinstance(name, str) and name.isprintable():
            label = f"{where[depth - 2]} {name[:60]}: "
    return label
