"""Mailgun's domains, webhooks and routes as its description has them: `MailgunDouble(..., extra=[MailgunAccount(...)])`."""

from __future__ import annotations

from aiohttp import web

EVENTS = {"accepted", "delivered", "permanent_fail", "temporary_fail", "complained", "unsubscribed", "opened", "clicked"}


class MailgunAccount:
    def __init__(self, **states):
        self.states = {domain.replace("__", "."): state for domain, state in states.items()}
        self.webhooks = {}
        self.routes = []
        self.changes = []

    def __call__(self, double):
        def guarded(handler):
            async def handle(request):
                if request.headers.get("Authorization") is None or not double.lets_in(request):
                    return web.json_response("Forbidden", status=401)
                if request.method != "GET":
                    self.changes.append((request.method, request.path))
                return await handler(request)

            return handle

        return [
            web.get("/v4/domains", guarded(self._domains)),
            web.post("/v4/domains", guarded(self._add_domain)),
            web.get("/v4/domains/{domain}", guarded(self._domain)),
            web.get("/v3/domains/{domain}/webhooks", guarded(self._hooks)),
            web.post("/v4/domains/{domain}/webhooks", guarded(self._add_hooks)),
            web.get("/v3/routes", guarded(self._list_routes)),
            web.post("/v3/routes", guarded(self._add_route)),
        ]

    def _shown(self, domain):
        valid = "valid" if self.states[domain] == "active" else "unknown"
        records = [("TXT", domain, "v=spf1 include:mailgun.org ~all"), ("TXT", f"mx._domainkey.{domain}", "k=rsa; p=M" + "i" * 400)]
        records.append(("CNAME", f"email.{domain}", "mailgun.org"))
        sending = [{"record_type": kind, "name": name, "value": value, "valid": valid, "cached": []} for kind, name, value in records]
        receiving = [{"record_type": "MX", "priority": "10", "value": "mxa.mailgun.org", "valid": valid, "cached": []}]
        shown = {"name": domain, "state": self.states[domain]}
        return {"domain": shown, "sending_dns_records": sending, "receiving_dns_records": receiving}

    async def _domains(self, request):
        return web.json_response({"total_count": len(self.states), "items": [{"name": name} for name in self.states]})

    async def _domain(self, request):
        domain = request.match_info["domain"]
        if domain not in self.states:
            return web.json_response({"message": "Domain not found"}, status=404)
        return web.json_response(self._shown(domain))

    async def _add_domain(self, request):
        domain = (await request.post())["name"]
        if domain in self.states:
            return web.json_response({"message": "This domain name is already taken"}, status=400)
        self.states[domain] = "unverified"
        return web.json_response({"message": "Domain DNS records have been created", **self._shown(domain)})

    async def _hooks(self, request):
        domain = request.match_info["domain"]
        if domain not in self.states:
            return web.json_response({"message": "Domain not found"}, status=404)
        return web.json_response({"webhooks": {event: {"urls": urls} for event, urls in self.webhooks.get(domain, {}).items()}})

    async def _add_hooks(self, request):
        domain, form = request.match_info["domain"], await request.post()
        if domain not in self.states:
            return web.json_response({"message": "Domain not found"}, status=404)
        events, hooks = form.getall("event_types"), self.webhooks.setdefault(domain, {})
        for event in events:
            if event not in EVENTS or form["url"] in hooks.get(event, []):
                return web.json_response({"Reason": f"Webhook for event type '{event}' with URL already exists"}, status=400)
        for event in events:
            hooks.setdefault(event, []).append(form["url"])
        return await self._hooks(request)

    async def _list_routes(self, request):
        return web.json_response({"total_count": len(self.routes), "items": self.routes})

    async def _add_route(self, request):
        form = await request.post()
        self.routes.append({"expression": form["expression"], "actions": form.getall("action"), "id": str(len(self.routes))})
        return web.json_response({"message": "Route has been created", "route": self.routes[-1]})
