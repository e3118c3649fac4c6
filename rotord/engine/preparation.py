"""From an outbox row and its reservation to the bytes that will leave. What is wrong with a row fails it here, alone, before it began."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotord.core.mime import RenderError
from rotord.core.model import Kind, Message, Sender
from rotord.core.rendering import Stamp, attachments, head, headers, render
from rotord.providers.base import Envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rotord.core.dkim import Signer
    from rotord.core.pool import Assignment
    from rotord.core.records import Payload
    from rotord.engine.planned import Planned

# Above this size rendering would hold up the loop for more than about 5 ms, so a thread does it.
IN_THREAD_FROM = 256 * 1024
KINDS = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Preparation:
    """How this installation renders. `unsubscribe_url` and `_mailto` make the links of a bulk message ('' = none).

    The first is told the client's own host for links too.
    """

    unsubscribe_url: Callable[[int, str], str]
    signers: Mapping[str, Signer]
    redirect_to: str = ""
    unsubscribe_mailto: Callable[[int], str] = lambda _: ""

    async def prepare(self, plan: Planned, payload: Payload, *, writes_mail: bool = False) -> None:
        """Render and sign, and let the slot write it. Raises RenderError, with a sentence for the row's last_error.

        `writes_mail`: see the provider's.
        """
        signer = None if writes_mail else self.signers.get(plan.assignment.domain.value.name)
        if plan.candidate.bytes < IN_THREAD_FROM and signer is None:
            self._prepare(plan, payload, signer, writes_mail=writes_mail)
        else:
            await asyncio.to_thread(self._prepare, plan, payload, signer, writes_mail=writes_mail)

    def _prepare(self, plan: Planned, payload: Payload, signer: Signer | None, *, writes_mail: bool) -> None:
        _, assignment, slot, attempt_id, message_id = plan
        message = _message(payload, message_id)
        sender = Sender(assignment.email, assignment.address.value.display_name)
        stamp = Stamp(
            attempt_id,
            assignment.began_at,
            *self._unsubscribe_links(message, assignment),
            self.redirect_to,
            smtputf8=not (message.recipient + sender.email + message.reply_to).isascii() and _needs_smtputf8(message, sender),
        )
        if writes_mail:
            mime, top = b"", head(message, sender, stamp)
        else:
            mime, top = render(message, sender, stamp), []
        if signer is not None:
            mime = signer.sign(mime, assignment.began_at)
        if self.redirect_to:
            message = message._replace(recipient=self.redirect_to, recipient_name="")
        slot.prepare(Envelope(attempt_id, sender, message, mime, top))

    def _unsubscribe_links(self, message: Message, assignment: Assignment) -> tuple[str, str]:
        if message.kind is not Kind.BULK:
            return "", ""
        return self.unsubscribe_url(message.id, assignment.client.value.unsubscribe_host), self.unsubscribe_mailto(message.id)


def _needs_smtputf8(message: Message, sender: Sender) -> bool:
    # A domain has an ASCII form, a local part has none: only that needs SMTPUTF8.
    return not all(address.rpartition("@")[0].isascii() for address in (message.recipient, sender.email, message.reply_to))


def _message(payload: Payload, message_id: str) -> Message:
    if not isinstance(payload.metadata, dict):
        raise RenderError("metadata is not a JSON object")
    kind = KINDS.get(payload.kind)
    if kind is None:
        raise RenderError(f"kind {payload.kind!r} is neither bulk nor transactional")
    return Message(
        payload.id,
        payload.client,
        payload.recipient,
        payload.subject,
        message_id,
        payload.recipient_name or "",
        payload.body_text,
        payload.body_html,
        payload.stream,
        payload.campaign or "",
        kind,
        payload.reply_to or "",
        headers(payload.headers),
        attachments(payload.attachments),
        payload.metadata,
        payload.last_message_id,
        tuple(payload.references),
    )
