"""What applying a fleet file would do, as values: the difference between what is declared and what the database has.

What the file does not name is taken away: addresses and domains are deleted (the ledger keeps their history as text), a client
that the outbox, a campaign or a suppression still names is disabled instead. No I/O here.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

from rotord.core.model import Status
from rotord.fleet.model import DeclaredAddress, DeclaredClient, DeclaredDomain, FleetFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Row = TypeVar("Row", DeclaredClient, DeclaredDomain, DeclaredAddress)

#: Of each kind so many steps are written out, the rest counted: a plan is read on a screen.
SHOWN_STEPS: Final = 20


class Kind(StrEnum):
    """What a step is about."""

    CLIENT = "client"
    DOMAIN = "domain"
    ADDRESS = "address"


class Action(StrEnum):
    """What a step does."""

    ADD = "add"
    CHANGE = "change"
    DELETE = "delete"
    DISABLE = "disable"


@dataclass(frozen=True, slots=True)
class Step:
    """One row that is not yet as declared; `changes` holds (field, before, after) of a change."""

    action: Action
    kind: Kind
    name: str
    changes: tuple[tuple[str, object, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Present:
    """The fleet as the database has it. `in_use` are the clients that cannot be deleted."""

    fleet: FleetFile
    in_use: frozenset[str]


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """All steps, in the order in which they are shown: clients, domains, addresses; in each what is added first."""

    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """True when the database is as declared."""
        return not self.steps

    def names(self, kind: Kind, action: Action) -> frozenset[str]:
        """List what a kind of step is about."""
        return frozenset(step.name for step in self.steps if (step.kind, step.action) == (kind, action))


_CLIENT_FIELDS: Final = (
    "name",
    "timezone",
    "per_hour",
    "per_day",
    "weight",
    "transactional_reserve",
    "sending_window",
    "pacing",
    "status",
    "unsubscribe_host",
    "forward_replies_to",
)
_DOMAIN_FIELDS: Final = (
    "client",
    "stream",
    "providers",
    "per_hour",
    "per_day",
    "warmup",
    "warmup_started_on",
    "status",
    "forward_replies_to",
)
_ADDRESS_FIELDS: Final = ("display_name", "per_hour", "per_day", "status", "used_day", "forward_replies_to")
_LEFT_ALONE: Final = frozenset({"status", "used_day"})


def difference(declared: FleetFile, present: Present) -> FleetPlan:
    """Compare. A declared None of `status` or `used_day` leaves what is there, and a plan that was applied leaves none."""
    clients = _by_name(present.fleet.clients, "slug")
    wanted = _by_name(declared.clients, "slug")
    domains = _by_name(declared.domains, "name"), _by_name(present.fleet.domains, "name")
    addresses = _by_name(declared.addresses, "email"), _by_name(present.fleet.addresses, "email")
    steps = [
        *_kept(Kind.CLIENT, wanted, clients, _CLIENT_FIELDS),
        *_absent_clients(wanted, clients, present.in_use),
        *_steps(Kind.DOMAIN, *domains, _DOMAIN_FIELDS),
        *_steps(Kind.ADDRESS, *addresses, _ADDRESS_FIELDS),
    ]
    notes = [
        f'client {slug} stays disabled: give it status = "active" in the file to enable it'
        for slug, client in wanted.items()
        if client.status is None and slug in clients and clients[slug].status is Status.DISABLED
    ]
    return FleetPlan(tuple(steps), tuple(notes))


def _by_name(rows: Iterable[Row], key: str) -> dict[str, Row]:
    return {getattr(row, key): row for row in rows}


def _steps(kind: Kind, wanted: Mapping[str, Row], there: Mapping[str, Row], fields: tuple[str, ...]) -> Iterator[Step]:
    yield from _kept(kind, wanted, there, fields)
    yield from (Step(Action.DELETE, kind, name) for name in there if name not in wanted)


def _kept(kind: Kind, wanted: Mapping[str, Row], there: Mapping[str, Row], fields: tuple[str, ...]) -> Iterator[Step]:
    yield from (Step(Action.ADD, kind, name) for name in wanted if name not in there)
    for name, row in wanted.items():
        if name in there and (changes := tuple(_changes(there[name], row, fields))):
            yield Step(Action.CHANGE, kind, name, changes)


def _changes(before: Row, after: Row, fields: tuple[str, ...]) -> Iterator[tuple[str, object, object]]:
    for field in fields:
        old, new = getattr(before, field), getattr(after, field)
        if old != new and not (new is None and field in _LEFT_ALONE) and _stored(old) != _stored(new):
            yield field, old, new


def _stored(value: object) -> object:
    """Round as a `real` column does, so that 0.1 is found again as 0.1."""
    return struct.pack("f", value) if isinstance(value, float) else value


def _absent_clients(wanted: Mapping[str, DeclaredClient], there: Mapping[str, DeclaredClient], in_use: frozenset[str]) -> Iterator[Step]:
    for slug, client in there.items():
        if slug in wanted:
            continue
        if slug not in in_use:
            yield Step(Action.DELETE, Kind.CLIENT, slug)
        elif client.status is not Status.DISABLED:
            yield Step(Action.DISABLE, Kind.CLIENT, slug)


def lines(plan: FleetPlan) -> list[str]:
    """Write a plan for a person: every step, or of a kind with many steps the first and how many more."""
    written = []
    for kind in Kind:
        for action in Action:
            steps = [step for step in plan.steps if (step.kind, step.action) == (kind, action)]
            written += [_line(step) for step in steps[:SHOWN_STEPS]]
            if len(steps) > SHOWN_STEPS:
                written.append(f"{action.value:8}{kind.value}: {len(steps) - SHOWN_STEPS} more")
    written += [f"note    {note}" for note in plan.notes]
    return [*written, _summary(plan)]


def _line(step: Step) -> str:
    changes = ", ".join(f"{field} {_word(old)} -> {_word(new)}" for field, old, new in step.changes)
    why = {
        Action.DELETE: " (not in the file)",
        Action.DISABLE: " (not in the file; its messages stay)",
    }.get(step.action, "")
    return f"{step.action.value:8}{step.kind.value} {step.name}{why}" + (f": {changes}" if changes else "")


def _word(value: object) -> str:
    if value is None:
        return "none"
    return ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value) or "''"


def _summary(plan: FleetPlan) -> str:
    if plan.is_empty:
        return "nothing to change: the database is as declared"
    counts = Counter((step.action, step.kind) for step in plan.steps)
    return "; ".join(
        f"{action.value} " + ", ".join(_count(counts[action, kind], kind) for kind in Kind if counts[action, kind])
        for action in Action
        if any(counts[action, kind] for kind in Kind)
    )


def _count(number: int, kind: Kind) -> str:
    plural = {Kind.CLIENT: "clients", Kind.DOMAIN: "domains", Kind.ADDRESS: "addresses"}
    return f"{number} {kind.value if number == 1 else plural[kind]}"


def as_json(plan: FleetPlan) -> dict[str, object]:
    """Give the whole plan as what JSON can hold; a change is {field: [before, after]}."""
    return {
        "empty": plan.is_empty,
        "steps": [
            {
                "action": step.action.value,
                "kind": step.kind.value,
                "name": step.name,
                "changes": {field: [_plain(old), _plain(new)] for field, old, new in step.changes},
            }
            for step in plan.steps
        ],
        "notes": list(plan.notes),
    }


def _plain(value: object) -> object:
    match value:
        case tuple():
            return list(value)
        case date():
            return value.isoformat()
        case _:
            return value
