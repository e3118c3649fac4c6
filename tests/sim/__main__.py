"""`python -m tests.sim --seeds N [--hours H] [--plant BUG] [--first SEED]`: a table, and a story for each violation."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time

from .node import Plant
from .planted import PLANTS
from .scenario import make_scenario
from .world import Result, simulate


def run(arguments: tuple[int, float, str]) -> tuple[Result, float]:
    seed, hours, plant = arguments
    gc.set_threshold(50_000, 20, 20)  # a tenth of the time
    started = time.perf_counter()
    result = simulate(make_scenario(seed, hours), PLANTS[plant]() if plant else Plant())
    return result, time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--plant", choices=sorted(PLANTS), default="")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    jobs = [(seed, options.hours, options.plant) for seed in range(options.first, options.first + options.seeds)]
    print("  seed  messages  kills  stops  freezes  outages  lost  uncertain  violations  seconds  digest")
    bad = 0
    with multiprocessing.Pool(options.processes) as pool:
        for result, seconds in pool.imap(run, jobs):
            counts = result.counts
            print(
                f"{result.seed:6} {result.messages:9} {counts.kills:6} {counts.stops:6} {counts.freezes:8} {counts.outages:8} "
                f"{counts.lost_answers:5} {result.uncertain:10} {len(result.violations):11} {seconds:8.1f}  {result.digest}",
                flush=True,
            )
            bad += bool(result.violations)
            for violation in result.violations[:3]:
                print(f"  seed {result.seed}: {violation}", flush=True)
    print(f"{len(jobs) - bad} of {len(jobs)} seeds hold every promise")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
