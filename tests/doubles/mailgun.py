"""Mailgun on loopback: `POST /v3/{domain}/messages.mime`, Basic authentication, a form with the mail as a file; events and webhooks."""

from __future__ import annotations

import json
import re

import aiohttp

from tests.doubles import mailgun_events
from tests.doubles.http_api import Answer, ApiDouble
from tests.providers.shapes import facts


def message(status, text):
    return Answer(status, json.dumps({"message": text}).encode())


class MailgunDouble(ApiDouble):
    path = "/v3/{domain}/messages.mime"
    signing_key = "the-signing-key"
    webhook_kind = mailgun_events.MailgunWebhook

    def __init__(self, directory, *, domains=("acme-mail.example",), **options):
        super().__init__(directory, **options)
        self.domains = set(domains)
        self.forms = []

    def lets_in(self, request):
        return request.headers.get("Authorization") == aiohttp.encode_basic_auth("api", self.key)

    def forbidden(self):
        return Answer(401, b'"Forbidden"')

    async def mail(self, request):
        if request.content_type != "multipart/form-data":
            return message(400, "malformed multipart/form-data")
        form = _fields(request.headers["Content-Type"], await request.read())
        domain = request.match_info["domain"]
        if domain not in self.domains:
            return message(404, f"Domain not found: {domain}")
        for name in ("to", "message"):
            if name not in form:
                return message(400, f"{name} parameter is missing")
        if sum(len(value) for name, value in form.items() if name[:2] in {"o:", "v:", "h:"}) > 16_384:
            return message(400, "Send options (parameters starting with o:, h:, or v:) are limited to 16KB total")
        mail = form.pop("message")
        self.forms.append(form)
        echo = {name.removeprefix("v:"): value.decode() for name, value in form.items() if name.startswith("v:")}
        return facts(mail) | {"echo": echo}

    def routes(self):
        return mailgun_events.routes(self)

    def barred(self, mail):
        return message(400, f"Domain {mail['from'][1].rpartition('@')[2]} is not allowed to send: The domain is disabled.")

    def broke(self):
        return message(402, "Your account has no credit left")

    def provider_id(self, number):
        return f"<{number}.queued@acme-mail.example>"

    def success(self, provider_id):
        return Answer(200, json.dumps({"id": provider_id, "message": "Queued. Thank you."}).encode())


def _fields(content_type, body):
    # Not request.post(): when an upload breaks, it leaves a file open.
    boundary = b"--" + content_type.partition("boundary=")[2].encode()
    first, *parts, last = body.split(boundary)
    if first or last != b"--\r\n":
        raise ConnectionResetError("half a form")
    heads_and_contents = [part.removeprefix(b"\r\n").removesuffix(b"\r\n").partition(b"\r\n\r\n") for part in parts]
    return {re.search(rb'name="([^"]+)"', head).group(1).decode(): content for head, _, content in heads_and_contents}
