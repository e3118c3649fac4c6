"""SMTP2GO's sender domains and webhooks: `Smtp2goDouble(..., extra=[Smtp2goAccount()])`."""

from __future__ import annotations

from aiohttp import web


class Smtp2goAccount:
    def __init__(self):
        self.domains = []
        self.webhooks = []
        self.changes = []

    def __call__(self, double):
        def guarded(handler):
            async def handle(request):
                if not double.lets_in(request):
                    data = {"error": "no such permission", "error_code": "E_ApiResponseCodes.ENDPOINT_PERMISSION_DENIED"}
                    return web.json_response({"request_id": "r", "data": data}, status=400)
                if request.path.endswith("/add"):
                    self.changes.append((request.method, request.path))
                return web.json_response({"request_id": "r", "data": handler(await request.json())})

            return handle

        return [
            web.post("/v3/domain/view", guarded(lambda _content: {"domains": self.domains})),
            web.post("/v3/domain/add", guarded(self._add_domain)),
            web.post("/v3/webhook/view", guarded(lambda _content: self.webhooks)),
            web.post("/v3/webhook/add", guarded(self._add_webhook)),
        ]

    def _add_domain(self, content):
        domain = {"fulldomain": content["domain"], "dkim_selector": "s1", "dkim_expected": "dkim.smtp2go.net", "dkim_value": ""}
        domain |= {"dkim_verified": False, "rpath_selector": "em1", "rpath_expected": "return.smtp2go.net", "rpath_verified": False}
        tracker = {"subdomain": "link", "cname_expected": "track.smtp2go.net", "cname_verified": False, "enabled": True}
        self.domains.append({"domain": domain, "trackers": [tracker]})
        return {"domains": self.domains}

    def _add_webhook(self, content):
        self.webhooks.append({"id": len(self.webhooks), **content})
        return self.webhooks[-1]
