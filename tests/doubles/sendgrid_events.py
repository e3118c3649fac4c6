"""What SendGrid tells of a mail: Email Logs by `POST /v3/logs` and `GET /v3/logs/{id}`, and batches of events signed by ECDSA."""

from __future__ import annotations

import base64
import json
import re
import time
from datetime import UTC, datetime

from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.doubles.http_api import Answer
from tests.doubles.webhooks import HOUR, MINUTE, Post, Webhook, now_text

_LARGEST_BATCH = 768 * 1000
_CLAUSE = re.compile(r"""\s*(\w+)\s*(<=|>=|=|<|>)\s*(?:TIMESTAMP\s+)?(?:'([^']*)'|"([^"]*)")\s*""")
_LARGEST_PAGE = 1000
#: name of the webhook's event, then of the log's status; None: changes no status
NAMES = {
    "accepted": ("processed", "processed"),
    "delivered": ("delivered", "delivered"),
    "deferred": ("deferred", "deferred"),
    "bounced": ("bounce", "bounced"),
    "soft_bounced": ("bounce", "blocked"),
    "dropped": ("dropped", "dropped"),
    "complained": ("spamreport", None),
    "unsubscribed": ("unsubscribe", None),
    "opened": ("open", None),
    "clicked": ("click", None),
    "failed_later": ("bounce", "bounced"),
}
_FIELDS = {
    "delivered": {"response": "250 OK", "ip": "192.0.2.1", "tls": 1},
    "deferred": {"response": "451 4.3.0 Try later", "attempt": "1"},
    "bounced": {"type": "bounce", "reason": "550 5.1.1 No such user", "status": "5.1.1", "bounce_classification": "Invalid Address"},
    "soft_bounced": {"type": "blocked", "reason": "550 5.7.1 Rejected", "status": "5.7.1", "bounce_classification": "Reputation"},
    "dropped": {"reason": "Bounced Address", "status": "5.0.0"},
    "failed_later": {"type": "bounce", "reason": "550 5.1.1 No such user", "status": "5.1.1", "bounce_classification": "Invalid Address"},
    "opened": {"useragent": "Mozilla/5.0", "ip": "192.0.2.9"},
    "clicked": {"useragent": "Mozilla/5.0", "ip": "192.0.2.9", "url": "https://acme.example/", "url_offset": {"index": 0, "type": "html"}},
}


def message_id(taken):
    """The id of the one mail that a request made; the answer's header is its beginning."""
    return f"{taken.provider_id}.recvd-5f5d8c7b9-abcde-1-{taken.attempt:X}.0"


def event(happening):
    taken = happening.taken
    return {
        "email": taken.to,
        "timestamp": int(happening.at),
        "event": NAMES[happening.kind][0],
        "sg_event_id": f"ev-{happening.number}",
        "sg_message_id": message_id(taken),
        "smtp-id": taken.message_id,
        **taken.echo,
        **_FIELDS.get(happening.kind, {}),
        **happening.details,
    }


class SendgridWebhook(Webhook):
    """Batches of 30 s or 768 kB. Any 2xx ends one; the intervals that it rises by are not published, only that it ends after 24 h."""

    batch_s = 30.0
    retry_after_s = (1 * MINUTE, 2 * MINUTE, 4 * MINUTE, 8 * MINUTE, 16 * MINUTE, 32 * MINUTE, *[HOUR] * 22)

    def __init__(self, double, url, speed):
        super().__init__(double, url, speed)
        self.private_key = ec.derive_private_key(0x5347, ec.SECP256R1())

    @property
    def public_key(self):
        """As its settings show it: base64 of DER."""
        der = self.private_key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(der).decode()

    def posts(self, happenings):
        batch, size = [], 0
        for text in (json.dumps(event(one)) for one in happenings):
            if batch and size + len(text) > _LARGEST_BATCH:
                yield self.signed(batch)
                batch, size = [], 0
            batch.append(text)
            size += len(text)
        yield self.signed(batch)

    def signed(self, texts, *, key=None, timestamp=None):
        """A line for each event, and a line's end after the last, as it really comes."""
        body = ("[" + ",\r\n".join(texts) + "]\r\n").encode()
        moment = str(int(timestamp or time.time()))
        signature = (key or self.private_key).sign(moment.encode() + body, ec.ECDSA(hashes.SHA256()))
        headers = {
            "Content-Type": "application/json",
            "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
            "X-Twilio-Email-Event-Webhook-Timestamp": moment,
        }
        return Post(body, headers)


def routes(double):
    async def search(request):
        return await double.looked_up(request, lambda one: _search(double, one))

    async def detail(request):
        return await double.looked_up(request, lambda one: _detail(double, one))

    return [web.post("/v3/logs", search), web.get("/v3/logs/{id}", detail)]


async def _search(double, request):
    content = json.loads(await request.read())
    limit = content.get("limit", 10)
    clauses = [_CLAUSE.fullmatch(part) for part in re.split(r"\sAND\s", content.get("query", ""))]
    if not isinstance(limit, int) or not 0 < limit <= _LARGEST_PAGE or not all(clauses):
        return _refused("invalid query")
    mails = {}
    by_recipient = next((one[3] or one[4] for one in clauses if one[1] == "to_email"), None)
    for one in double.happenings.visible(recipient=by_recipient):
        mails.setdefault(one.taken.attempt, []).append(one)
    summaries = [_summary(happenings) for happenings in mails.values()]
    found = [summary for summary in summaries if all(_fits(clause, summary) for clause in clauses)]
    return _answer(200, {"messages": found[:limit]})


def _fits(clause, summary):
    name, comparison = clause[1], clause[2]
    value = clause[3] or clause[4] or ""
    if name != "sg_message_id_created_at":
        return comparison == "=" and str(summary.get(name)).casefold() == value.casefold()
    made, limit = datetime.fromisoformat(summary[name]), datetime.fromisoformat(value)
    made, limit = (one.replace(tzinfo=UTC) if one.tzinfo is None else one for one in (made, limit))
    return {"<": made < limit, ">": made > limit, "<=": made <= limit, ">=": made >= limit}.get(comparison, False)


def _summary(happenings):
    taken = happenings[0].taken
    statuses = [NAMES[one.kind][1] for one in happenings if NAMES[one.kind][1]]
    return {
        "sg_message_id": message_id(taken),
        "from_email": taken.sender,
        "to_email": taken.to,
        "subject": taken.subject,
        "status": statuses[-1] if statuses else "processed",
        "sg_message_id_created_at": now_text(taken.at),
    }


async def _detail(double, request):
    wanted = request.match_info["id"]
    happenings = double.happenings.visible(provider_id=wanted.partition(".")[0])
    if not happenings or message_id(happenings[0].taken) != wanted:
        return _answer(404, {"errors": [{"message": "Message not found", "field": None, "help": None}]})
    echo = happenings[0].taken.echo
    events = [{name: value for name, value in event(one).items() if name not in echo} | {"custom_args": echo} for one in happenings]
    extra = {"custom_args": echo, "category": [], "api_key_id": "key", "outbound_ip": "192.0.2.1", "outbound_ip_type": "dedicated"}
    extra |= {"client_ip": "192.0.2.2", "events": events}
    return _answer(200, _summary(happenings) | extra)


def _refused(text):
    return _answer(400, {"errors": [{"message": text, "field": "query", "help": None}]})


def _answer(status, content):
    return Answer(status, json.dumps(content).encode())
