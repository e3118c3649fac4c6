"""Mailgun on loopback: `POST /v3/{domain}/messages.mime`, Basic authentication, a form with the mail as a file."""

from __future__ import annotations

import json

import aiohttp

from tests.doubles.http_api import Answer, ApiDouble
from tests.providers.shapes import facts


def message(status, text):
    return Answer(status, json.dumps({"message": text}).encode())


class MailgunDouble(ApiDouble):
    path = "/v3/{domain}/messages.mime"

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
        form = await request.post()
        domain = request.match_info["domain"]
        if domain not in self.domains:
            return message(404, f"Domain not found: {domain}")
        for name in ("to", "message"):
            if name not in form:
                return message(400, f"{name} parameter is missing")
        if sum(len(value) for name, value in form.items() if name[:2] in {"o:", "v:", "h:"}) > 16_384:
            return message(400, "Send options (parameters starting with o:, h:, or v:) are limited to 16KB total")
        self.forms.append({name: value for name, value in form.items() if name != "message"})
        return facts(form["message"].file.read())

    def success(self, number):
        return Answer(200, json.dumps({"id": f"<{number}.queued@acme-mail.example>", "message": "Queued. Thank you."}).encode())
