"""Mailgun: `POST /v3/{domain}/messages.mime`, the domain being the sender address's own.

The MIME endpoint, because then every route carries the same bytes: headers, nesting, encodings, Message-ID and our signature.
The other one would be given the parts and write a message of its own from them. Its options work on both. `v:rotord-attempt`
comes back in every event; recipients can see it (X-Mailgun-Variables), as they can see X-Rotord-Attempt on every route.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiohttp

from rotord.core.api_mail import address, tag
from rotord.core.http_replies import (
    ACCOUNT_FOR_NOW,
    NOT_LET_IN,
    PROVIDER_FOR_NOW,
    REFUSED,
    SENDER_FOR_NOW,
    TOO_MUCH_OF_ONE_DOMAIN,
    accepted,
    judge,
    row,
    unreadable,
)
from rotord.core.mime import ascii_domain
from rotord.providers.answers import json_of
from rotord.providers.http import HttpProvider
from rotord.providers.http_request import Request

if TYPE_CHECKING:
    from rotord.core.http_replies import Answer, Judgement, Row
    from rotord.providers.base import Envelope
    from rotord.providers.http import ApiConfig

TAG_LENGTH: Final = 128

ROWS: Final[tuple[Row, ...]] = (
    # 429: `Domain X is not allowed to send: <why> limit exceeded, try again after <when>`; why may be the account's own
    row([429], r"^domain (?!.*\baccount-)", TOO_MUCH_OF_ONE_DOMAIN),
    row(
        [400, 403], r"(account|plan|subscription|billing).{0,60}(disabled|inactive|suspended|closed|past due|not active|unpaid)", NOT_LET_IN
    ),
    row([400, 403], r"(activate|upgrade|business verification|verify) your (mailgun )?account|free accounts? (are|is)", NOT_LET_IN),
    row(
        [400, 403],
        r"^domain .*not allowed to send|sandbox (sub)?domains?|(domain|sender).{0,40}(unverified|not verified|disabled)",
        SENDER_FOR_NOW,
    ),
    row([403], r"not allowed to send large batches", SENDER_FOR_NOW),
    row([403], r"rejected: ip\b", ACCOUNT_FOR_NOW),
    row([404], r"domain .{0,260}not found|domain not found", ACCOUNT_FOR_NOW),  # or it lives in the other region
    row([402], r"", NOT_LET_IN),
    row([403], r"\S", NOT_LET_IN),
    row([403], r"", PROVIDER_FOR_NOW),
    row([400], r"", REFUSED),
)


class MailgunApi:
    """Requests and answers; `base_url` says the region."""

    kind = "mailgun"
    writes_mail = False

    def __init__(self, config: ApiConfig) -> None:
        authorization = aiohttp.encode_basic_auth("api", config.api_key)
        self.secrets: tuple[str, ...] = (config.api_key, authorization.removeprefix("Basic "))
        self._headers = {"Authorization": authorization}
        self._base_url = config.base_url
        self._tracking = config.tracking

    def request(self, envelope: Envelope) -> Request:
        """Write the form."""
        message = envelope.message
        domain = ascii_domain(envelope.sender.email.rpartition("@")[2], "sender").lower()
        fields = [("to", address(message.recipient, "recipient")), ("v:rotord-attempt", str(envelope.attempt_id))]
        if not self._tracking:
            fields += [("o:tracking", "no"), ("o:tracking-clicks", "no"), ("o:tracking-opens", "no")]
        if label := tag(message.campaign, TAG_LENGTH):
            fields.append(("o:tag", label))
        content_type, body = form(fields, envelope.mime, envelope.attempt_id)
        return Request(f"{self._base_url}/v3/{domain}/messages.mime", body, content_type, self._headers)

    def judge(self, answer: Answer, now: float) -> Judgement:
        """Success is 200 with an id; events show the id without its angle brackets, so it is kept so."""
        content = json_of(answer.body)
        words = words_of(content)
        if answer.status != 200:  # noqa: PLR2004 - HTTP's own number
            return judge(answer, words, ROWS, now)
        message_id = content.get("id") if isinstance(content, dict) else None
        if not isinstance(message_id, str) or not message_id or not answer.complete:
            return unreadable(answer)
        return accepted(answer, words, message_id.strip("<>"), now)


def words_of(content: object) -> str:
    """Find `{"message": ...}`, or a plain JSON string as for 401."""
    words = content.get("message") if isinstance(content, dict) else content
    return words if isinstance(words, str) else ""


def form(fields: list[tuple[str, str]], mime: bytes, attempt_id: int) -> tuple[str, bytes]:
    """Write multipart/form-data with the message as a file; returns its content type and its bytes. No value holds a line end."""
    boundary = f"rotord-{attempt_id:x}"
    while boundary.encode() in mime:
        boundary += "-"
    pieces = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields]
    pieces += [
        f'--{boundary}\r\nContent-Disposition: form-data; name="message"; filename="message.mime"\r\n'.encode(),
        b"Content-Type: application/octet-stream\r\n\r\n",
        mime,
        f"\r\n--{boundary}--\r\n".encode(),
    ]
    return f"multipart/form-data; boundary={boundary}", b"".join(pieces)


def mailgun(config: ApiConfig) -> HttpProvider:
    """Make the provider."""
    return HttpProvider(MailgunApi(config), config)
