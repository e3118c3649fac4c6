"""The promises hold through hours of trouble, the same seed is the same run, and each planted bug is found."""

from __future__ import annotations

import asyncio

import pytest

from .planted import PLANTS
from .scenario import make_scenario
from .simloop import FREEZER, Freezer, SimLoop, StuckError
from .world import simulate

HOURS = 3.0
SEEDS = (1, 2, 3, 4, 7, 15)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_holds(seed):
    result = simulate(make_scenario(seed, HOURS))

    assert result.violations == []
    assert result.counts.kills > 0
    assert result.counts.lost_answers > 0
    assert result.counts.found > 0


@pytest.mark.timeout(240)  # a few runs, not one
@pytest.mark.parametrize(
    ("plant", "promise"),
    [
        ("refund-on-lost-commit", "P2"),
        ("requeue-at-recovery", "P3"),
        ("rebuild-from-accepted", "P1"),
        ("forget-campaigns", "P1: acme/"),
        ("book-the-begin", "P1"),
        ("no-fence", "P6"),
    ],
)
def test_a_planted_bug_is_found_within_the_seeds_that_are_clean_without_it(plant, promise):
    broken = (simulate(make_scenario(seed, HOURS), PLANTS[plant]()).violations for seed in SEEDS)

    assert any(violation.startswith(promise) for violations in broken for violation in violations)


def test_the_same_seed_is_the_same_run():
    first, second, other = (simulate(make_scenario(seed, 0.5)) for seed in (7, 7, 9))

    assert first.digest == second.digest
    assert first.digest != other.digest


def test_a_day_of_a_seed_has_what_it_promises():
    scenario = make_scenario(1)
    happens = [event.what for event in scenario.events]

    assert happens.count("insert") >= 2000
    assert happens.count("kill") >= 10
    assert happens.count("outage") >= 5


# -- the loop itself -------------------------------------------------------------------------------------------------------------


def run(main):
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        return runner.run(main)


def test_the_loop_jumps_and_says_when_nothing_can_happen_any_more():
    async def main():
        await asyncio.sleep(86_400.0)
        return asyncio.get_running_loop().time()

    assert run(main()) == 86_400.0
    with pytest.raises(StuckError):
        run(asyncio.Event().wait())


def test_a_frozen_node_takes_no_step_and_finds_everything_that_arrived_meanwhile():
    async def main():
        loop, freezer, steps = asyncio.get_running_loop(), Freezer(), []

        async def tick(name, pause_s):
            for _ in range(3):
                await asyncio.sleep(pause_s)
                steps.append((name, loop.time()))

        async def cut():
            try:
                await asyncio.sleep(100.0)
            except asyncio.CancelledError:
                steps.append(("cut", loop.time()))
                raise

        async with asyncio.TaskGroup() as group:
            group.create_task(tick("free", 2.0))
            token = FREEZER.set(freezer)
            group.create_task(tick("node", 1.0))
            victim = group.create_task(cut())
            FREEZER.reset(token)
            loop.call_at(1.5, freezer.freeze)
            loop.call_at(2.5, victim.cancel)
            loop.call_at(5.0, freezer.thaw)
        return steps

    expected = [("node", 1.0), ("free", 2.0), ("free", 4.0), ("node", 5.0), ("cut", 5.0), ("free", 6.0), ("node", 6.0)]
    assert sorted(run(main())) == sorted(expected)
