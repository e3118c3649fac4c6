"""The resolver against real DNS servers on loopback: one that answers, one that is silent."""

import asyncio
import socket

import dns.rcode
import pytest

from rotord.resolver import AT_ONCE, Resolver, ResolverError
from tests.doubles.dns_server import DnsServer


async def test_the_strings_of_a_record_are_one_text_and_a_name_without_records_has_none():
    long = "v=DKIM1; p=" + "A" * 300
    async with DnsServer({"a.example": [long, "other"], "empty.example": []}) as server:
        resolver = Resolver(("127.0.0.1", server.port))

        assert sorted(await resolver.texts("a.example")) == sorted([long, "other"])
        assert await resolver.texts("empty.example") == []
        assert await resolver.texts("none.example") == []


async def test_a_server_that_fails_tells_nothing():
    async with DnsServer({"a.example": dns.rcode.SERVFAIL}) as server:
        with pytest.raises(ResolverError, match=r"^a\.example: the servers refuse or fail$"):
            await Resolver(("127.0.0.1", server.port)).texts("a.example")


async def test_a_silent_server_is_not_waited_for_a_hundred_times():
    asked = []
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.setblocking(False)
        loop.add_reader(silent, lambda: asked.append(silent.recv(512)[12:30]))
        resolver = Resolver(silent.getsockname(), timeout_s=0.3)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_why(resolver, f"name{number:03}.example")) for number in range(100)]
        loop.remove_reader(silent)
    reasons = [task.result().partition(": ")[2] for task in tasks]

    assert reasons.count("no answer within 0.3 s") >= AT_ONCE
    assert reasons.count("not asked, for 20 questions before had no answer") >= 100 - 2 * AT_ONCE
    assert len(set(asked)) <= 2 * AT_ONCE


async def _why(resolver, name):
    with pytest.raises(ResolverError) as caught:
        await resolver.texts(name)
    return str(caught.value)
