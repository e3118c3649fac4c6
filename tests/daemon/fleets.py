"""Fleets for the daemon's tests: clients whose limits bite at one level each."""

from dataclasses import dataclass, field

import asyncpg


@dataclass(slots=True)
class Fleet:
    """What was put into the tables, by sender address."""

    client_of: dict[str, str] = field(default_factory=dict)
    stream_of: dict[str, str] = field(default_factory=dict)
    domain_of: dict[str, str] = field(default_factory=dict)
    limit_of: dict[str, int] = field(default_factory=dict)

    @property
    def itself(self) -> dict[str, str]:
        return {address: address for address in self.domain_of}

    async def add(
        self,
        db: asyncpg.Connection,
        client: str,
        *,
        domains: int = 4,
        addresses: int = 25,
        per_hour: tuple[int | None, int | None, int | None] = (None, None, None),
        streams: tuple[str, ...] = ("main",),
        providers: tuple[str, ...] = ("relay",),
        settings: str = "",
    ) -> None:
        """A client; `per_hour` = (client, domain, address). Domains take turns between the streams and the providers."""
        of_client, of_domain, of_address = per_hour
        await db.execute("INSERT INTO rotord.clients (slug, name, per_hour) VALUES ($1, $1, $2)", client, of_client)
        if settings:
            await db.execute(f"UPDATE rotord.clients SET {settings} WHERE slug = $1", client)
        if of_client is not None:
            self.limit_of[client] = of_client
        for number in range(domains):
            domain = f"d{number}.{client}.example"
            stream = streams[number % len(streams)]
            route = [providers[number % len(providers)]]
            await db.execute(
                "INSERT INTO rotord.domains (name, client, stream, providers, per_hour) VALUES ($1, $2, $3, $4, $5)",
                domain, client, stream, route, of_domain,
            )  # fmt: skip
            if of_domain is not None:
                self.limit_of[domain] = of_domain
            rows = [(f"a{index}@{domain}", domain, of_address) for index in range(addresses)]
            await db.executemany("INSERT INTO rotord.addresses (email, domain, per_hour) VALUES ($1, $2, $3)", rows)
            for email, _, limit in rows:
                self.client_of[email], self.stream_of[email], self.domain_of[email] = client, stream, domain
                if limit is not None:
                    self.limit_of[email] = limit


ROWS = """
INSERT INTO rotord.outbox (client, stream, recipient, subject, body_text, body_html, headers, kind, campaign)
SELECT $1, $2, 'r' || i || '@recipients.example', 'Message ' || i, 'Hello ' || i, '<p>Hello ' || i || '</p>',
       jsonb_build_object('X-Row', $1 || '/' || $2 || '/' || coalesce($5 || '.', '') || i), $4, $5
  FROM generate_series(1, $3::int) AS i
"""


async def insert_rows(
    db: asyncpg.Connection, client: str, count: int, *, stream: str = "main", kind: str = "bulk", campaign: str | None = None
) -> None:
    """Rows numbered from 1, each with its name `client/stream/[campaign.]number` in X-Row."""
    await db.execute(ROWS, client, stream, count, kind, campaign)
