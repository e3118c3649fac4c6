"""What Mailgun tells of a mail: events by `GET /v3/{domain}/events`, and webhooks signed by HMAC over timestamp and token."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from tests.doubles.http_api import Answer
from tests.doubles.webhooks import HOUR, MINUTE, Post, Webhook

_LARGEST_PAGE = 300
NAMES = {"bounced": "failed", "soft_bounced": "failed", "dropped": "failed", "deferred": "failed", "failed_later": "failed"}
_STATUS = {
    "delivered": {"code": 250, "message": "OK", "description": "", "attempt-no": 1, "mx-host": "mx.example.net", "tls": True},
    "bounced": {"code": 550, "enhanced-code": "5.1.1", "message": "5.1.1 No such user", "description": ""},
    "soft_bounced": {"code": 552, "enhanced-code": "5.2.2", "message": "5.2.2 Mailbox full", "description": ""},
    "deferred": {"code": 451, "message": "4.3.0 Try later", "description": "", "retry-seconds": 600, "attempt-no": 1},
    "dropped": {"code": 605, "message": "", "description": "Not delivering to previously bounced address"},
    "failed_later": {"code": 550, "enhanced-code": "5.1.1", "message": "5.1.1 No such user", "description": ""},
}
_REASON = {"dropped": "suppress-bounce", "deferred": "generic"}


def event(happening):
    """`event-data` of a webhook, or an item of the events' list."""
    taken, kind = happening.taken, happening.kind
    headers = {"message-id": taken.message_id.strip("<>")}
    if kind not in {"opened", "clicked", "unsubscribed"}:
        headers |= {"from": taken.sender, "to": taken.to, "subject": taken.subject}
    data = {
        "event": NAMES.get(kind, kind),
        "id": f"ev-{happening.number}",
        "timestamp": happening.at,
        "log-level": "error" if NAMES.get(kind) else "info",
        "recipient": taken.to,
        "recipient-domain": taken.to.rpartition("@")[2],
        "tags": [],
        "user-variables": taken.echo,
        "message": {"headers": headers, "attachments": [], "size": 1000},
        "flags": {"is-routed": False, "is-authenticated": True, "is-system-test": False, "is-test-mode": False},
    }
    if kind in _STATUS:
        data["delivery-status"] = _STATUS[kind]
        data["envelope"] = {"sender": taken.sender, "targets": taken.to, "transport": "smtp", "sending-ip": "192.0.2.1"}
    if kind in NAMES:
        data |= {"severity": "temporary" if kind == "deferred" else "permanent", "reason": _REASON.get(kind, "bounce")}
    if kind == "failed_later":
        data["flags"]["is-delayed-bounce"] = True
    if kind in {"opened", "clicked", "unsubscribed"}:
        data |= {"ip": "192.0.2.9", "client-info": {"client-type": "browser", "bot": ""}, "geolocation": {"country": "US"}}
    return data | happening.details


class MailgunWebhook(Webhook):
    """One event a post. 200 and 406 end it; the page on retries excepts the delivery's."""

    retry_after_s = (5 * MINUTE, 10 * MINUTE, 15 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR)

    def posts(self, happenings):
        return [self.signed(event(one)) for one in happenings]

    def signed(self, data, *, key=None, timestamp=None, token=None):
        timestamp, token = str(int(timestamp or time.time())), token or secrets.token_hex(25)
        signature = hmac.digest((key or self.double.signing_key).encode(), (timestamp + token).encode(), hashlib.sha256).hex()
        body = {"signature": {"timestamp": timestamp, "token": token, "signature": signature}, "event-data": data}
        return Post(json.dumps(body).encode(), {"Content-Type": "application/json"})

    def is_final(self, status):
        return status in {200, 406}

    def retries(self, post):
        return () if b'"event": "delivered"' in post.body else self.retry_after_s


def routes(double):
    async def events(request):
        return await double.looked_up(request, lambda one: _page(double, one))

    return [web.get("/v3/{domain}/events", events), web.get("/v3/{domain}/events/{page}", events)]


async def _page(double, request):
    domain = request.match_info["domain"]
    if domain not in double.domains:
        return _said(404, f"Domain not found: {domain}")
    try:
        page = base64.urlsafe_b64decode(request.match_info.get("page", "")).decode()
    except (binascii.Error, ValueError):
        return _said(400, "Invalid page")
    wanted = dict(parse_qsl(page)) or dict(request.query)
    at, limit = int(wanted.pop("at", 0)), int(wanted.get("limit", 100))
    if not 0 < limit <= _LARGEST_PAGE:
        return _said(400, f"limit must be between 1 and {_LARGEST_PAGE}")
    if "begin" in wanted and not {"end", "ascending"} & wanted.keys():
        return _said(400, "ascending is required when end is not given")
    found = [event(one) for one in _matching(double, domain, wanted)]
    if wanted.get("ascending") != "yes":
        found.reverse()
    items = found[at : at + limit]

    def link(start):
        token = base64.urlsafe_b64encode(urlencode(wanted | {"at": start}).encode()).decode()
        return f"{double.url}/v3/{domain}/events/{token}"

    before, last = max(at - limit, 0), max(len(found) - limit, 0)
    paging = {
        "next": link(at + len(items)),
        "previous": link(before),
        "first": link(0),
        "last": link(last),
    }
    return _answer(200, {"items": items, "paging": paging})


def _matching(double, domain, wanted):
    message_id = wanted.get("message-id")
    # in angle brackets it finds events of others: a report against mailgun.js says so
    by_id = {"message_id": message_id} if message_id and "<" not in message_id else {}
    for one in double.happenings.visible(**by_id):
        if one.taken.sender.rpartition("@")[2] != domain:
            continue
        if not float(wanted.get("begin", 0)) <= one.at <= float(wanted.get("end", "inf")):
            continue
        if wanted.get("recipient", one.taken.to).casefold() != one.taken.to.casefold():
            continue
        if wanted.get("event", NAMES.get(one.kind, one.kind)) == NAMES.get(one.kind, one.kind):
            yield one


def _said(status, text):
    return _answer(status, {"message": text})


def _answer(status, content):
    return Answer(status, json.dumps(content).encode())
