"""Which providers post, by what keys they are known, and how their posts are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotord.web.webhooks import INBOUND_ROUTE, ROUTE, Source
from rotord.webhooks import mailgun, sendgrid, smtp2go
from rotord.webhooks.inbound import INBOUND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotord.webhooks.base import Parse, Webhook

WEBHOOKS: Final[Mapping[str, Webhook]] = {"mailgun": mailgun.WEBHOOK, "sendgrid": sendgrid.WEBHOOK, "smtp2go": smtp2go.WEBHOOK}


def sources(providers: Mapping[str, tuple[str, str]]) -> dict[str, Source]:
    """Give those of a kind that posts; by name: kind and keys, the present one first, then those before it, with spaces between."""
    return {name: Source(WEBHOOKS[kind], tuple(keys.split())) for name, (kind, keys) in providers.items() if kind in WEBHOOKS}


def inbound_sources(providers: Mapping[str, tuple[str, str]], key: bytes) -> dict[str, Source]:
    """Give those that hand mail over; `key` verifies return paths."""
    return {name: Source(INBOUND[kind].webhook(key), tuple(keys.split())) for name, (kind, keys) in providers.items() if kind in INBOUND}


def by_route(providers: Mapping[str, tuple[str, str]], key: bytes) -> dict[str, dict[str, Source]]:
    """All that post, for the HTTP side."""
    return {ROUTE: sources(providers), INBOUND_ROUTE: inbound_sources(providers, key)}


def parsers(kinds: Mapping[str, str], key: bytes) -> dict[tuple[str, str], Parse]:
    """How stored posts are read, by route and provider; `key` verifies return paths."""
    told = {(ROUTE, name): WEBHOOKS[kind].parse for name, kind in kinds.items() if kind in WEBHOOKS}
    return told | {(INBOUND_ROUTE, name): INBOUND[kind].webhook(key).parse for name, kind in kinds.items() if kind in INBOUND}
