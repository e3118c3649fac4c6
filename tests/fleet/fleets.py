"""Fleets of every shape, for Hypothesis; names come from small sets, so that two of them have rows in common."""

from __future__ import annotations

import struct
from datetime import date

from hypothesis import strategies as st

from rotord.core.model import Pacing, Status
from rotord.fleet import DeclaredAddress, DeclaredClient, DeclaredDomain, FleetFile

LIMITS = st.none() | st.integers(0, 2**31 - 1)
STATUSES = st.none() | st.sampled_from(Status)
FORWARDS = st.sampled_from([None, "inbox@elsewhere.example", "O'Neil+x@elsewhere.example"])
# what the schema's constraints let pass; \x1f < ' ' and no surrogates, which UTF-8 cannot write
LINES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | st.sampled_from("\"',;\\ é😀"), max_size=12).filter(
    lambda text: "=?" not in text
)


def _single(number: float) -> float:
    return struct.unpack("f", struct.pack("f", number))[0]


@st.composite
def fleets(draw: st.DrawFn) -> FleetFile:
    slugs = draw(st.lists(st.sampled_from(["a", "b", "c-1", "-"]), unique=True))
    clients = [
        DeclaredClient(
            slug=slug,
            name=draw(LINES),
            timezone=draw(st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"])),
            per_hour=draw(LIMITS),
            per_day=draw(LIMITS),
            weight=draw(st.floats(0.001, 1000) | st.just(0.1)),
            transactional_reserve=draw(st.floats(0, 0.9).map(_single).filter(lambda share: share <= 0.9)),
            sending_window=draw(st.sampled_from([None, "mon-fri 08:00-19:00", "daily 00:00-24:00"])),
            pacing=draw(st.sampled_from(Pacing)),
            status=draw(STATUSES),
            unsubscribe_host=draw(st.sampled_from([None, "mail.acme.example"])),
            forward_replies_to=draw(FORWARDS),
        )
        for slug in slugs
    ]
    names = draw(st.lists(st.sampled_from(["x.example", "y.example", "a-b.z.example"]), unique=True)) if slugs else []
    domains = [
        DeclaredDomain(
            name=name,
            client=draw(st.sampled_from(slugs)),
            stream=draw(st.sampled_from(["main", "cold"])),
            providers=tuple(draw(st.lists(st.sampled_from(["relay", "sandbox", "p_2"]), unique=True))),
            per_hour=draw(LIMITS),
            per_day=draw(LIMITS),
            warmup=draw(st.sampled_from(["none", "standard", "gentle"])),
            warmup_started_on=draw(st.none() | st.dates(date(1, 1, 1), date(9999, 12, 31))),
            status=draw(STATUSES),
            forward_replies_to=draw(FORWARDS),
        )
        for name in names
    ]
    keys = st.tuples(st.sampled_from(["info", "o'neil+x", "a.b"]), st.sampled_from(names)) if names else st.nothing()
    addresses = [
        DeclaredAddress(
            email=f"{local}@{domain}",
            domain=domain,
            display_name=draw(LINES),
            per_hour=draw(LIMITS),
            per_day=draw(LIMITS),
            status=draw(STATUSES),
            used_day=draw(LIMITS),
            forward_replies_to=draw(FORWARDS),
        )
        for local, domain in (draw(st.lists(keys, unique=True)) if names else [])
    ]
    return FleetFile(tuple(clients), tuple(domains), tuple(addresses))
