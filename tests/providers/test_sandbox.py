import asyncio
import json
from collections import Counter

from rotord.core.model import Outcome
from rotord.providers.sandbox import SandboxConfig, SandboxProvider, fate
from tests.providers.support import MIME, envelope, running, send_by, until


async def send_all(provider, ids):
    woken = asyncio.Event()
    provider.on_ready(woken.set)
    replies = {}

    async def one(slot, number):
        replies[number] = await send_by(slot, envelope(number))

    async with asyncio.TaskGroup() as group:
        for number in ids:
            while (slot := provider.take()) is None:
                woken.clear()
                await woken.wait()
            group.create_task(one(slot, number))
    return replies


async def test_what_is_accepted_or_uncertain_is_in_the_maildir_once_and_nothing_else(tmp_path):
    config = SandboxConfig("sandbox", tmp_path, max_in_flight=5, latency_ms=(0, 2), deferred=0.2, rejected=0.1, not_sent=0.1, uncertain=0.1)
    async with running(SandboxProvider(config)) as provider:
        replies = await send_all(provider, range(300))

        assert (provider.ready(), provider.status().in_flight, provider.status().up) == (5, 0, True)

    kept = {number for number, reply in replies.items() if not reply.outcome.proves_not_accepted}
    files = list((tmp_path / "new").iterdir())
    assert {int(file.name.split(".")[0]) for file in files} == kept
    assert all(file.read_bytes() == MIME for file in files)
    assert list((tmp_path / "tmp").iterdir()) == []
    truth = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert sorted(line["attempt"] for line in truth) == sorted(kept)
    assert truth[0].keys() == {"attempt", "outbox", "rcpt", "from", "at"}


def test_the_fate_of_an_attempt_is_fixed_and_shares_are_kept(tmp_path):
    config = SandboxConfig("sandbox", tmp_path, latency_ms=(10, 30), deferred=0.3, uncertain=0.2)
    fates = [fate(config, number) for number in range(10_000)]

    assert fates == [fate(config, number) for number in range(10_000)]
    counts = Counter(outcome for outcome, _ in fates)
    assert abs(counts[Outcome.DEFERRED] - 3000) < 200
    assert abs(counts[Outcome.UNCERTAIN] - 2000) < 200
    assert counts.keys() == {Outcome.DEFERRED, Outcome.UNCERTAIN, Outcome.ACCEPTED}
    assert all(0.010 <= latency <= 0.030 for _, latency in fates)


async def test_there_are_never_more_in_flight_than_allowed(tmp_path):
    async with running(SandboxProvider(SandboxConfig("sandbox", tmp_path, max_in_flight=2))) as provider:
        await until(lambda: provider.ready() == 2)
        first, second = provider.take(), provider.take()

        assert provider.take() is None
        first.give_back()
        assert provider.ready() == 1
        second.give_back()


async def test_a_directory_that_goes_away_makes_the_fate_uncertain_not_the_daemon_fall(tmp_path):
    async with running(SandboxProvider(SandboxConfig("sandbox", tmp_path / "box"))) as provider:
        await until(lambda: provider.ready() > 0)
        (tmp_path / "box" / "tmp").rmdir()
        slot = provider.take()

        assert (await send_by(slot, envelope())).outcome is Outcome.UNCERTAIN
        assert slot.body_left


async def test_a_large_message_does_not_keep_the_loop(tmp_path):
    async with running(SandboxProvider(SandboxConfig("sandbox", tmp_path))) as provider:
        await until(lambda: provider.ready() > 0)
        turns = 0
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(send_by(provider.take(), envelope(mime=b"x" * 30_000_000)))
            while not sending.done():
                turns += 1
                await asyncio.sleep(0)

    assert turns > 3
