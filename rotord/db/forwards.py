"""A person's reply is passed on: found out whom to, and made a message of the client's, once whatever is told twice.

Its key names the message that was replied to and the event, so that neither a replay nor a second folder makes a second one. An event that
is in `events` was folded before, with the word on forwarding that held then: it is not passed on later.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

from rotord.core.forwarding import HEADERS, forward

if TYPE_CHECKING:
    from rotord.core.events import Event
    from rotord.db.executor import Executor

#: whose messages they are: a person can pause it, and give it limits
CAMPAIGN: Final = "forwarded replies"
#: in all of one message: a person writes a few replies, a program that answers without end is not always known for one
OF_A_MESSAGE: Final = 20
#: of one client: whoever has a mail of ours can write replies to it
AN_HOUR: Final = 200
#: what stands before the key, and cannot be meant by an app's own
KEY: Final = "rotord reply "

# Of the address that sent it last, its domain, its client the first that says where. What was sent stays with the message when its attempts
# are too old to be kept. COLLATE "C": a prefix is a range of the key's index.
# The campaign's newest rows by a comparison of all three: with equations a planner may walk the whole outbox by its primary key.
TARGET: Final = """
SELECT o.client, o.stream, t.address, f.target,
       EXISTS (SELECT
                 FROM rotord.events e
                WHERE e.occurred_at = to_timestamp($2) AND e.provider = $3 AND e.key = $4) AS is_known,
       (SELECT count(*)
          FROM rotord.outbox n
         WHERE n.client = o.client AND n.idempotency_key >= $5 AND n.idempotency_key < $5 || '~') AS of_the_message,
       coalesce((SELECT n.client = o.client AND n.campaign = $6 AND n.created_at > clock_timestamp() - interval '1 hour'
                   FROM rotord.outbox n
                  WHERE (n.client, n.campaign, n.id) <= (o.client, $6, 9223372036854775807) AND n.campaign IS NOT NULL
                  ORDER BY n.client DESC, n.campaign DESC, n.id DESC
                 OFFSET $7
                  LIMIT 1), false) AS is_busy
  FROM rotord.outbox o
 CROSS JOIN LATERAL (
   SELECT coalesce((SELECT address
                      FROM rotord.attempts
                     WHERE outbox_id = o.id
                     ORDER BY number DESC  -- not id: without statistics the primary key is walked for it
                     LIMIT 1),
                   (SELECT sender
                      FROM rotord.message_state
                     WHERE id = o.id)) AS address
   OFFSET 0) t
 CROSS JOIN LATERAL (
   SELECT coalesce(a.forward_replies_to, d.forward_replies_to, c.forward_replies_to) AS target
     FROM rotord.clients c
     LEFT JOIN rotord.domains d ON d.name = split_part(t.address, '@', 2) AND d.client = c.slug
     LEFT JOIN rotord.addresses a ON a.email = t.address AND a.domain = d.name
    WHERE c.slug = o.client) f
 WHERE o.id = $1 AND t.address IS NOT NULL AND f.target IS NOT NULL AND starts_with(coalesce(o.idempotency_key, ''), $8) IS FALSE
"""

INSERT: Final = """
INSERT INTO rotord.outbox (client, stream, campaign, kind, recipient, subject, body_text, reply_to, headers, attachments, metadata,
                           idempotency_key)
SELECT $1, $2, $3, 'transactional', $4, $5, $6, CASE WHEN rotord.is_address($7) THEN $7 END, $8::text::jsonb,
       CASE WHEN $9 = '' THEN '[]' ELSE jsonb_build_array(jsonb_build_object(
         'filename', 'reply.eml', 'content_type', 'application/octet-stream', 'content_base64', $9::text)) END,
       jsonb_build_object('reply_to_message', $10::bigint), $11
ON CONFLICT (client, idempotency_key) DO NOTHING
RETURNING id
"""


class Refused(NamedTuple):
    """Why a reply is not passed on, though somebody wants it."""

    reason: str


async def pass_on(db: Executor, provider: str, event: Event, outbox_id: int) -> int | Refused | None:
    """Make the message that passes a reply to `outbox_id` on, and give its id; None when there is nothing to do. Repeatable."""
    key = f"{KEY}{outbox_id} "
    row = await db.fetchrow(TARGET, outbox_id, event.occurred_at, provider, event.key, key, CAMPAIGN, AN_HOUR - 1, KEY)
    if row is None or row["is_known"] or row["target"].lower() == event.recipient or not event.mail:
        return None
    if row["of_the_message"] >= OF_A_MESSAGE:
        return Refused(f"it is more than the {OF_A_MESSAGE}th reply to one message")
    if row["is_busy"]:
        return Refused(f"{AN_HOUR} replies of this client were passed on within an hour")
    mail = forward(event.mail, event.recipient, row["address"])
    try:
        made: int | None = await db.fetchval(
            INSERT,
            *(row["client"], row["stream"], CAMPAIGN, row["target"]),
            *(mail.subject, mail.body, mail.reply_to, json.dumps(HEADERS), mail.original),
            outbox_id,
            key + event.key.hex(),
        )
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
        return Refused(str(error))
    return made
