"""Many time-outs by one timer end what asyncio's own would end, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from rotord.providers.deadlines import Deadlines


def now():
    return asyncio.get_running_loop().time()


async def block(deadlines, after_s, work):
    try:
        with deadlines.until(now() + after_s):
            await work
    except TimeoutError:
        return "late"
    return "done"


async def test_each_block_has_its_own_end_whatever_their_order():
    deadlines = Deadlines()
    async with asyncio.TaskGroup() as group:
        late = [group.create_task(block(deadlines, after_s, asyncio.Event().wait())) for after_s in (0.06, 0.02, 0.04)]
        done = [group.create_task(block(deadlines, after_s, asyncio.sleep(0))) for after_s in (0.01, 30.0)]

    assert [task.result() for task in late] == ["late"] * 3
    assert [task.result() for task in done] == ["done"] * 2
    assert not deadlines._open


async def test_a_block_is_entered_again_and_ends_at_the_same_time():
    deadline = Deadlines().until(now() + 0.02)
    for _ in range(2):
        with pytest.raises(TimeoutError), deadline:
            await asyncio.Event().wait()
    assert asyncio.current_task().cancelling() == 0


async def test_a_cancel_from_outside_stays_a_cancel():
    deadlines = Deadlines()
    task = asyncio.create_task(block(deadlines, 30.0, asyncio.Event().wait()))  # noqa: TID251 - its end is awaited below
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not deadlines._open


async def test_what_fails_by_itself_fails_so():
    with pytest.raises(ZeroDivisionError), Deadlines().until(now() + 30.0):
        raise ZeroDivisionError
