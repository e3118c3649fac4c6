"""What `rotord check` says of the hosts that clients' unsubscribe links stand on: whether the world reaches rotord there by HTTPS."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aiohttp

from rotord.core.authentication import Level, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotord.cli.check_report import Report
    from rotord.db.check import Client

#: a recipient's mailbox provider waits no longer
ANSWER_S: Final = 10.0
#: no token; rotord answers 404, with a header that a proxy lets pass
PATH: Final = "/u/check"
OURS: Final = ("X-Robots-Tag", "noindex, nofollow")


async def check_hosts(report: Report, clients: Sequence[Client], connector: aiohttp.BaseConnector | None = None) -> None:
    """Ask each host once, all at once. `connector`: another way there than this machine's."""
    hosts = sorted({client.unsubscribe_host for client in clients if client.unsubscribe_host is not None})
    if not hosts:
        return
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as group:
        asked = [(host, group.create_task(_ask(session, host), name=f"unsubscribe host {host}")) for host in hosts]
    for host, task in asked:
        report.add("unsubscribe", host, task.result())


async def _ask(session: aiohttp.ClientSession, host: str) -> Verdict:
    remedy = f"lead https://{host}/u/ to http.listen by your proxy, or take unsubscribe_host away from the client"
    try:
        async with session.get(f"https://{host}{PATH}", allow_redirects=False) as answer:
            if (answer.status, answer.headers.get(OURS[0])) == (404, OURS[1]):
                return Verdict(Level.OK, f"https://{host}/u/ leads to a rotord")
            return Verdict(Level.WARN, f"https://{host}/u/ leads to something that is no rotord (HTTP {answer.status})", remedy)
    except aiohttp.ClientConnectorDNSError:
        return Verdict(
            Level.WARN, f"the DNS knows no {host}, so unsubscribe links on it lead nowhere", f"publish it (A, AAAA or CNAME); {remedy}"
        )
    except aiohttp.ClientConnectorCertificateError as error:
        return Verdict(Level.WARN, f"its certificate is not valid: {error.certificate_error}", f"get one for {host} at your proxy")
    except (aiohttp.ClientError, OSError) as error:
        return Verdict(Level.WARN, f"https://{host}/ cannot be reached from here: {str(error) or type(error).__name__}", remedy)
