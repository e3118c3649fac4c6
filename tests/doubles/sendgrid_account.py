"""SendGrid's scopes, authenticated domains, event webhooks and inbound parse: `SendgridDouble(..., extra=[SendgridAccount()])`."""

from __future__ import annotations

from aiohttp import web


class SendgridAccount:
    def __init__(self, scopes=("mail.send",)):
        self.scopes = list(scopes)
        self.domains = []
        self.webhooks = []
        self.parse = []
        self.changes = []

    def __call__(self, double):
        def guarded(handler):
            async def handle(request):
                if not double.lets_in(request):
                    return web.json_response({"errors": [{"field": None, "message": "authorization required"}]}, status=401)
                content = await request.json() if request.can_read_body else None
                if content is not None:
                    self.changes.append((request.method, request.path))
                return web.json_response(handler(request, content), status=201 if request.method == "POST" else 200)

            return handle

        settings = "/v3/user/webhooks/event/settings"
        return [
            web.get("/v3/scopes", guarded(lambda _request, _content: {"scopes": self.scopes})),
            web.get("/v3/whitelabel/domains", guarded(lambda _request, _content: self.domains)),
            web.post("/v3/whitelabel/domains", guarded(self._add_domain)),
            web.get(f"{settings}/all", guarded(lambda _request, _content: {"max_allowed": 5, "webhooks": self.webhooks})),
            web.post(settings, guarded(self._add_webhook)),
            web.patch(f"{settings}/{{id}}", guarded(self._change_webhook)),
            web.get("/v3/user/webhooks/parse/settings", guarded(lambda _request, _content: {"result": self.parse})),
            web.post("/v3/user/webhooks/parse/settings", guarded(self._add_parse)),
        ]

    def _add_domain(self, _request, content):
        domain = content["domain"]
        names = {"mail_cname": f"em1.{domain}", "dkim1": f"s1._domainkey.{domain}", "dkim2": f"s2._domainkey.{domain}"}
        dns = {key: {"valid": False, "type": "cname", "host": host, "data": f"{key}.wl.sendgrid.net"} for key, host in names.items()}
        self.domains.append({"id": len(self.domains), "domain": domain, "subdomain": "em1", "valid": False, "dns": dns})
        return self.domains[-1]

    def _add_webhook(self, _request, content):
        self.webhooks.append({"id": f"w{len(self.webhooks)}", **content})
        return self.webhooks[-1]

    def _change_webhook(self, request, content):
        (webhook,) = (hook for hook in self.webhooks if hook["id"] == request.match_info["id"])
        webhook.update(content)
        return webhook

    def _add_parse(self, _request, content):
        self.parse.append(content)
        return content
