"""From an outbox row and its assignment to the bytes that will leave. What is wrong with a row fails it here, alone, before it began."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rotord.core.mime import RenderError
from rotord.core.model import Kind, Message, Sender
from rotord.core.rendering import attachments, headers, render
from rotord.providers.base import Envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rotord.core.dkim import Signer
    from rotord.core.pool import Assignment
    from rotord.core.records import Payload

# Above this size rendering would hold up the loop for more than about 5 ms, so a thread does it.
IN_THREAD_FROM = 256 * 1024
KINDS = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class Preparation:
    """How this installation renders. `unsubscribe_url` and `_mailto` make the links of a bulk message ('' = none).

    The first is told the client's own host for links too.
    """

    unsubscribe_url: Callable[[int, str], str]
    signers: Mapping[str, Signer]
    redirect_to: str = ""
    unsubscribe_mailto: Callable[[int], str] = lambda _: ""

    async def envelope(
        self, payload: Payload, size: int, assignment: Assignment, attempt_id: int, message_id: str, *, headers_only: bool = False
    ) -> Envelope:
        """Render and sign. Raises RenderError, with a sentence for the row's last_error."""
        signer = None if headers_only else self.signers.get(assignment.domain.value.name)
        call = partial(self._envelope, payload, assignment, attempt_id, message_id, signer, headers_only=headers_only)
        return await asyncio.to_thread(call) if size >= IN_THREAD_FROM or signer is not None else call()

    def _envelope(
        self, payload: Payload, assignment: Assignment, attempt_id: int, message_id: str, signer: Signer | None, *, headers_only: bool
    ) -> Envelope:
        message = _message(payload, message_id)
        sender, client = Sender(assignment.email, assignment.address.value.display_name), assignment.client.value
        mime = render(
            message,
            sender,
            attempt_id=attempt_id,
            date=assignment.began_at,
            unsubscribe_url=self.unsubscribe_url(message.id, client.unsubscribe_host) if message.kind is Kind.BULK else "",
            unsubscribe_mailto=self.unsubscribe_mailto(message.id) if message.kind is Kind.BULK else "",
            redirect_to=self.redirect_to,
            smtputf8=not all(_local_part_is_ascii(address) for address in (message.recipient, sender.email, message.reply_to)),
            headers_only=headers_only,
        )
        if signer is not None:
            mime = signer.sign(mime, assignment.began_at)
        if self.redirect_to:
            message = message._replace(recipient=self.redirect_to, recipient_name="")
        return Envelope(attempt_id, sender, message, mime)


def _local_part_is_ascii(address: str) -> bool:
    # A domain has an ASCII form, a local part has none: only that needs SMTPUTF8.
    return address.rpartition("@")[0].isascii()


def _message(payload: Payload, message_id: str) -> Message:
    if not isinstance(payload.metadata, dict):
        raise RenderError("metadata is not a JSON object")
    if payload.kind not in KINDS:
        raise RenderError(f"kind {payload.kind!r} is neither bulk nor transactional")
    return Message(
        id=payload.id,
        client=payload.client,
        recipient=payload.recipient,
        subject=payload.subject,
        message_id=message_id,
        recipient_name=payload.recipient_name or "",
        body_text=payload.body_text,
        body_html=payload.body_html,
        stream=payload.stream,
        campaign=payload.campaign or "",
        kind=Kind(payload.kind),
        reply_to=payload.reply_to or "",
        headers=headers(payload.headers),
        attachments=attachments(payload.attachments),
        metadata=payload.metadata,
        in_reply_to=payload.last_message_id,
        references=tuple(payload.references),
    )
