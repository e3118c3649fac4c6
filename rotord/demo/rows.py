"""The demo's messages: every client and stream, bulk and transactional, threads, pins, attachments, and some that must not go.

Pure: the same fleet and count give the same rows. A client with a sending window or even pacing writes transactional mail
only, which neither holds, so the demo ends at any hour of any day.
"""

from __future__ import annotations

import math
from base64 import b64encode
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from rotord.core.model import Pacing, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotord.fleet import DeclaredClient, FleetFile


class Fate(StrEnum):
    """What must become of a message. One that may be sent may also be refused for good: that is the receiver's word."""

    SENT = "sent"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class DemoRow:
    """A row for the outbox: its columns, with times as seconds from now (`send_in_s`, `expires_in_s`)."""

    key: str
    fate: Fate
    columns: dict[str, Any]

    @property
    def is_bound(self) -> bool:
        """Only one address may send it: the one it is pinned to, or its thread's."""
        return "sender" in self.columns or self.columns["thread_key"] is not None


@dataclass(frozen=True, slots=True)
class DemoSuppression:
    """A recipient who gets nothing, or (transactional mail, some reasons) only what they asked for."""

    recipient: str
    client: str | None
    reason: str


@dataclass(slots=True)
class Script:
    """All that is inserted, in two waves.

    First the messages that are bound to an address, then those that rotate: rotation may fill any address to its limit, and a
    bound message would rightly wait there for an hour.
    """

    rows: list[DemoRow] = field(default_factory=list)
    suppressions: list[DemoSuppression] = field(default_factory=list)

    def waves(self) -> tuple[list[DemoRow], list[DemoRow]]:
        """The bound ones, and the others."""
        return [row for row in self.rows if row.is_bound], [row for row in self.rows if not row.is_bound]


@dataclass(frozen=True, slots=True)
class _Words:
    people: tuple[str, ...]
    news: str
    receipt: str
    body: str


# By the first part of the client's time zone's place: enough to see every script on its way.
_ENGLISH: Final = _Words(("Ada Byron", "Zoë O'Hara", "Tom Reed"), "What is new this month", "Your receipt", "Hello,\n\nthank you.")
_WORDS: Final = {
    "Europe/Berlin": _Words(
        ("Jürgen Groß", "Käthe Öhm", "Ida Voß"), "Grüße aus der Werkstatt", "Ihre Rechnung", "Guten Tag,\n\nschöne Grüße."
    ),
    "Europe/Paris": _Words(("Zoé Lefèvre", "Noël Garçon", "Maël Œuvrard"), "Nouveautés de l'été", "Votre reçu", "Bonjour,\n\nà bientôt."),
    "Europe/Oslo": _Words(
        ("Åse Bjørk", "Øyvind Sæther", "Kåre Nygård"), "Nytt fra fjorden", "Kvittering på kjøp", "Hei,\n\ntakk for sist."
    ),
    "Asia/Tokyo": _Words(
        ("佐藤 花子", "鈴木 一郎", "高橋 さくら"), "今月のお知らせ", "領収書のご送付", "こんにちは。\n\nありがとうございます。"
    ),
    "America/Sao_Paulo": _Words(("João Conceição", "Inês Araújo", "Luís Simões"), "Novidades do mês", "Seu recibo", "Olá,\n\naté já."),
}
_ATTACHMENT: Final = {
    "filename": "receipt.csv",
    "content_type": "text/csv",
    "content_base64": b64encode(b"item,price\r\n" + b"gasket,4.20\r\n" * 80).decode(),
}
# Of every so many messages one is this; which one, so that they fall upon different clients (125 and 12 have no common divisor).
_SPECIAL_EVERY: Final = 125
_SUPPRESSED_AT, _UNSUBSCRIBED_AT, _EXPIRED_AT, _CANCELLED_AT = 30, 47, 60, 90
_REASONS: Final = ("unsubscribe", "hard_bounce", "complaint", "manual")
_HARD_REASONS: Final = ("hard_bounce", "manual")
_CAMPAIGNS: Final = ("spring-news", "product-tour", "anniversary")
#: of a client's every 20 messages these three are one thread
_THREAD_OF_20: Final = (3, 4, 5)
_ROOMY_PER_HOUR: Final = 12
_PIN_EVERY, _ATTACHMENT_EVERY, _HTML_EVERY = 50, 75, 3


@dataclass(frozen=True, slots=True)
class _Writer:
    """A client, as far as its messages depend on it."""

    client: DeclaredClient
    only_transactional: bool
    other_stream: str | None
    senders: tuple[str, ...]
    words: _Words

    def kind(self, index: int, stream: str) -> str:
        # a stream beside main is small: the whole of its capacity, reserve included, is transactional mail's
        return "transactional" if self.only_transactional or stream != "main" or index % 6 == 0 else "bulk"


def script(fleet: FleetFile, count: int) -> Script:
    """Write `count` messages, the clients in turn."""
    writers = [_writer(fleet, client) for client in fleet.clients]
    done = Script()
    for number in range(count):
        writer, index = writers[number % len(writers)], number // len(writers)
        _write(done, writer, number, index)
    return done


def _writer(fleet: FleetFile, client: DeclaredClient) -> _Writer:
    streams = {domain.name: domain.stream for domain in fleet.domains if domain.client == client.slug}
    return _Writer(
        client=client,
        only_transactional=client.sending_window is not None or client.pacing is Pacing.EVEN,
        other_stream=next((stream for stream in streams.values() if stream != "main"), None),
        senders=_roomy_senders(fleet, [name for name, stream in streams.items() if stream == "main"]),
        words=_WORDS.get(client.timezone, _ENGLISH),
    )


def _roomy_senders(fleet: FleetFile, domains: Sequence[str]) -> tuple[str, ...]:
    """Active addresses that have room for a thread and a pinned message besides."""
    return tuple(
        address.email
        for address in fleet.addresses
        if address.domain in domains and address.status in {None, Status.ACTIVE} and (address.per_hour or math.inf) >= _ROOMY_PER_HOUR
    )


def _write(done: Script, writer: _Writer, number: int, index: int) -> None:
    slug = writer.client.slug
    key = f"demo-{number + 1:05d}"
    thread = f"thread-{index // 20 + 1}" if index % 20 in _THREAD_OF_20 else None
    # two in five: with what else is special a domain limit of 120 an hour is used by some 70 %
    stream = writer.other_stream if writer.other_stream and thread is None and index % 5 in {0, 2} else "main"
    kind = writer.kind(index, stream)
    words = writer.words
    columns: dict[str, Any] = {
        "client": slug,
        "stream": stream,
        "kind": kind,
        "campaign": _CAMPAIGNS[index % len(_CAMPAIGNS)] if kind == "bulk" else None,
        "recipient": f"reader{number + 1}@inbox{number % 7 + 1}.example",
        "recipient_name": words.people[index % len(words.people)],
        "subject": f"{words.news if kind == 'bulk' else words.receipt} ({number + 1})",
        "body_text": words.body,
        "body_html": f"<p>{words.body}</p>" if number % _HTML_EVERY == 0 else None,
        "thread_key": thread,
        "reply_to": f"office@{slug}.example" if index % 4 == 0 else None,
        "headers": {"X-Row": key},  # by which the SMTP server's log names the message
        "attachments": [_ATTACHMENT] if number % _ATTACHMENT_EVERY == _PIN_EVERY else [],
        "metadata": {"demo": number + 1},
        "priority": 1 if kind == "transactional" else 0,
        "idempotency_key": key,
    }
    if number % _PIN_EVERY == _PIN_EVERY // 2 and thread is None and stream == "main" and writer.senders:
        columns["sender"] = writer.senders[number // _PIN_EVERY % len(writer.senders)]
    done.rows.append(DemoRow(key, _decide(done, columns, number), columns))


def _decide(done: Script, columns: dict[str, Any], number: int) -> Fate:
    """Make some messages ones that must not go, and say which."""
    turn = number // _SPECIAL_EVERY
    match number % _SPECIAL_EVERY:
        case at if at == _SUPPRESSED_AT:
            reasons = _HARD_REASONS if columns["kind"] == "transactional" else _REASONS
            reason = reasons[turn % len(reasons)]
            # global ones are a person's, so manual
            done.suppressions.append(DemoSuppression(columns["recipient"], None if reason == "manual" else columns["client"], reason))
            return Fate.SUPPRESSED
        case at if at == _UNSUBSCRIBED_AT:
            # who unsubscribed still gets a receipt
            columns.update(kind="transactional", campaign=None)
            done.suppressions.append(DemoSuppression(columns["recipient"], columns["client"], "unsubscribe"))
        case at if at == _EXPIRED_AT:
            columns["expires_in_s"] = -60
            return Fate.EXPIRED
        case at if at == _CANCELLED_AT:
            columns["send_in_s"] = 3600
            return Fate.CANCELLED
    return Fate.SENT
