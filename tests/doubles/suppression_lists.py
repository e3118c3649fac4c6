"""The three providers' own suppression lists, as published: `MailgunDouble(..., extra=[MailgunLists()])` and so on.

`requests` has (method, path) of each; nothing here takes an address off a list, so a test that compares before and after sees all.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from aiohttp import web

from tests.doubles.http_api import Answer


def answer(status, content):
    return Answer(status, json.dumps(content).encode())


class _Lists:
    def __init__(self):
        self.requests = []

    def guarded(self, double, handler):
        async def handle(request):
            self.requests.append((request.method, request.path))
            return await double.looked_up(request, lambda one: handler(double, one))

        return handle


class MailgunLists(_Lists):
    """`lists[domain][name]`: items by address."""

    names = ("bounces", "complaints", "unsubscribes")

    def __init__(self):
        super().__init__()
        self.lists = defaultdict(lambda: {name: {} for name in self.names})

    def __call__(self, double):
        paths = [f"/v3/{{domain}}/{{list:{'|'.join(self.names)}}}"]
        return [web.get(path, self.guarded(double, self._list)) for path in paths] + [
            web.post(path, self.guarded(double, self._add)) for path in paths
        ]

    def put(self, domain, name, address, **fields):
        defaults = {"bounces": {"code": "550", "error": "No such mailbox"}, "unsubscribes": {"tags": ["*"]}}.get(name, {})
        self.lists[domain][name][address] = {"address": address, "created_at": "Thu, 11 Dec 2025 01:49:40 UTC", **defaults, **fields}

    async def _list(self, double, request):
        domain, name = request.match_info["domain"], request.match_info["list"]
        if domain not in double.domains:
            return answer(404, {"message": f"Domain not found: {domain}"})
        limit = int(request.query.get("limit", 100))
        if not 0 < limit <= 1000:
            return answer(400, {"message": "limit must be between 1 and 1000"})
        items = sorted(self.lists[domain][name].values(), key=lambda item: item["address"])
        after = request.query.get("address", "") if request.query.get("page") == "next" else ""
        items = [item for item in items if item["address"] > after][:limit]
        last = quote(items[-1]["address"] if items else after, safe="")
        # another host than the one that was asked: no key goes there
        url = f"https://api.mailgun.example/v3/{domain}/{name}?limit={limit}"
        paging = {"first": url, "last": f"{url}&page=last", "next": f"{url}&page=next&address={last}", "previous": f"{url}&page=previous"}
        return answer(200, {"items": items, "paging": paging})

    async def _add(self, double, request):
        domain, name = request.match_info["domain"], request.match_info["list"]
        if domain not in double.domains:
            return answer(404, {"message": f"Domain not found: {domain}"})
        items = json.loads(await request.read())
        if len(items) >= 1000:
            return answer(400, {"message": "Batch size should be less than 1000"})
        for item in items:
            parsedate_to_datetime(item["created_at"])
            if "refused" in item["address"]:
                return answer(400, {"message": f"{item['address']} is not a valid address"})
        for item in items:
            self.put(domain, name, **item)
        return answer(200, {"message": f"{len(items)} addresses have been added to the {name} table"})


class SendgridLists(_Lists):
    """`lists[name]`: items in the order in which they came."""

    names = ("bounces", "blocks", "invalid_emails", "spam_reports", "unsubscribes")

    def __init__(self):
        super().__init__()
        self.lists = {name: [] for name in self.names}

    def __call__(self, double):
        return [
            web.get(f"/v3/suppression/{{list:{'|'.join(self.names)}}}", self.guarded(double, self._list)),
            web.post("/v3/asm/suppressions/global", self.guarded(double, self._add)),
        ]

    def put(self, name, address, at=None):
        fields = {"bounces": {"reason": "550 5.1.1 unknown", "status": "5.1.1"}, "spam_reports": {"ip": "192.0.2.1"}}.get(name, {})
        self.lists[name].append({"created": int(at or time.time() - 60), "email": address, **fields})

    async def _list(self, double, request):
        query = request.query
        limit, offset = int(query.get("limit", 500)), int(query.get("offset", 0))
        if not 0 < limit <= 500:
            return answer(400, {"errors": [{"message": "limit is too large", "field": "limit"}]})
        since, until = float(query.get("start_time", 0)), float(query.get("end_time", "inf"))
        items = [item for item in self.lists[request.match_info["list"]] if since <= item["created"] <= until]
        return answer(200, items[::-1][offset : offset + limit])

    async def _add(self, double, request):
        emails = json.loads(await request.read())["recipient_emails"]
        if any("refused" in email for email in emails):
            return answer(400, {"errors": [{"message": "email is invalid", "field": "recipient_emails"}]})
        there = {item["email"] for item in self.lists["unsubscribes"]}
        for email in emails:
            if email not in there:
                self.put("unsubscribes", email)
        return answer(201, {"recipient_emails": emails})


class Smtp2goLists(_Lists):
    """`entries` in the order in which they came; two a page."""

    page = 2

    def __init__(self):
        super().__init__()
        self.entries = []

    def __call__(self, double):
        return [
            web.post("/v3/suppression/view", self.guarded(double, self._view)),
            web.post("/v3/suppression/add", self.guarded(double, self._add)),
        ]

    def put(self, address, reason, description="", at=None):
        stamp = datetime.fromtimestamp(at or time.time(), UTC).strftime("%Y-%m-%d %H:%M:%S")
        entry = {"email_address": address, "reason": reason, "block_description": description, "complaint": "", "subject": None}
        self.entries.append(entry | {"timestamp": stamp})

    async def _view(self, double, request):
        wanted = json.loads(await request.read())
        # by default the last 30 days, as published
        since, until = (datetime.fromisoformat(wanted[name]).timestamp() for name in ("start_date", "end_date"))
        found = [one for one in self.entries if since <= datetime.fromisoformat(one["timestamp"] + "+00:00").timestamp() <= until]
        at = int(wanted.get("continue_token") or 0)
        token = str(at + self.page) if at + self.page < len(found) else None
        data = {"results": found[at : at + self.page], "continue_token": token, "total_results": len(found)}
        return answer(200, {"request_id": "r", "data": data})

    async def _add(self, double, request):
        wanted = json.loads(await request.read())
        address, description = wanted["email_address"], wanted.get("block_description", "")
        if "refused" in address:
            data = {"error": "not an address", "error_code": "E_ApiResponseCodes.NON_VALIDATING_IN_PAYLOAD"}
            return answer(400, {"request_id": "r", "data": data})
        if not any(one["email_address"] == address for one in self.entries):
            self.put(address, "manual", description)
        return answer(200, {"request_id": "r", "data": {"added": True, "block_description": description, "email_address": address}})
