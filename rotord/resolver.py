"""TXT records, asked of the DNS: many at once, within a time each, and an answer for a person when there is none."""

from __future__ import annotations

import asyncio
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.resolver

#: questions on the way at once; a resolver on the same network answers thousands a second
AT_ONCE: Final = 20
#: for one question, whatever is tried again within it
TIMEOUT_S: Final = 5.0


class ResolverError(Exception):
    """The DNS did not answer, so nothing is known; the text says whom that is about and why."""


class Resolver:
    """The system's resolver, or the one at (IP address, port). ResolverError at once when the system has none.

    Nobody waits TIMEOUT_S for each of a thousand names: after AT_ONCE questions in a row without an answer no more are asked.
    """

    def __init__(self, server: tuple[str, int] | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=server is None)
        except dns.resolver.NoResolverConfiguration:
            raise ResolverError("this machine has no resolver (/etc/resolv.conf)") from None
        if server is not None:
            self._resolver.nameservers = [server[0]]
            self._resolver.port = server[1]
        self._resolver.lifetime = timeout_s
        self._places = asyncio.Semaphore(AT_ONCE)
        self._unanswered = 0

    async def texts(self, name: str) -> list[str]:
        """Ask for the TXT records of `name`; none when it has none or does not exist."""
        async with self._places:
            if self._unanswered >= AT_ONCE:
                raise ResolverError(f"{name}: not asked, for {self._unanswered} questions before had no answer")
            try:
                answer = await self._resolver.resolve(f"{name}.", "TXT", raise_on_no_answer=False)
            except dns.exception.Timeout:
                self._unanswered += 1
                raise ResolverError(f"{name}: no answer within {self._resolver.lifetime:g} s") from None
            except dns.resolver.NXDOMAIN:
                self._unanswered = 0
                return []
            except dns.exception.DNSException:
                raise ResolverError(f"{name}: the servers refuse or fail") from None
        self._unanswered = 0
        return [b"".join(record.strings).decode("utf-8", "replace") for record in answer.rrset or ()]
