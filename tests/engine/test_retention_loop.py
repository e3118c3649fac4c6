"""The housekeeping loop in virtual time: it comes again soon while there is more, and rests nine times as long as it worked."""

import asyncio

from rotord.engine.retention import IDLE_S, REST, Retention
from tests.sim.simloop import SimLoop

STEP_S = 0.5


def rounds(answers, for_s):
    """When the rounds of a loop began whose two steps take half a second each and answer so."""
    began = []

    async def first():
        began.append(asyncio.get_running_loop().time())
        await asyncio.sleep(STEP_S)
        return False

    async def second():
        await asyncio.sleep(STEP_S)
        return next(answers)

    async def work():
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(Retention({"first": first, "second": second}).run(stop))
            await asyncio.sleep(for_s)
            stop.set()

    with asyncio.Runner(loop_factory=SimLoop) as runner:
        runner.run(work())
    return [at - began[0] for at in began]


def test_it_works_a_tenth_of_the_time_until_nothing_is_left():
    busy, idle = 2 * STEP_S * (1 + REST), 2 * STEP_S + IDLE_S

    assert rounds(iter([True, True, False, False, False]), 34.0) == [0.0, busy, 2 * busy, 2 * busy + idle, 2 * busy + 2 * idle]
