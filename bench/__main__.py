"""Every row of the bench, in turn, each in a process of its own: a table for a person, JSON for a machine.

    python -m bench [--scale tiny|short|full] [--rows NAME,...] [--json FILE]

Exit 1 if a row could not be measured; a missed target is told in the table and is no failure: it depends on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from bench.figures import Figure, Scale, table

if TYPE_CHECKING:
    from collections.abc import Sequence

# Name of the module in this package, and what it measures.
ROWS = {
    "http": "drain through an HTTP API, 20 ms latency, 200 slots, beside a bare loop of the same SQL and aiohttp calls",
    "smtp": "drain through SMTP, 50 connections, beside aiosmtplib fed with ready bytes and no database",
    "idle": "from an INSERT to the provider's socket, one message at a time",
    "statements": "what the straight line costs in PostgreSQL, one connection",
    "decisions": "which address, which provider: one message's choice, and what is kept for it",
    "rendering": "from a row to a mail, beside the standard library and dkimpy",
    "events": "delivery events, signed batches of 100: stored, then folded (both sides in one process)",
    "claim": "a claim behind 10,000 rows and behind many more, after a history, while an old snapshot is held open",
    "fleet": "start to the first send with a day's ledger behind it, a changed row",
    "fleet_run": "100,000 addresses at 556 messages/s: processor time, memory, caps, insert to socket",
    "peers": "the queues that others use, with the same handler, beside rotord",
    "postfix": "a durable relay, beside the SMTP row",
    "history": "what commands and a start take after years",
    "retention": "blanking, deleting and dropping what is old, beside a drain at full speed",
}


def machine() -> dict[str, object]:
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load_before": os.getloadavg()[0],
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def measured(name: str, scale: Scale) -> list[Figure] | None:
    """Run one row in its own process; None if it failed. What it prints goes to stderr."""
    with tempfile.NamedTemporaryFile() as answer:
        command = [sys.executable, "-m", "bench", "--one", name, "--scale", scale, "--json", answer.name]
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
            return None
        return [Figure(**row) for row in json.loads(Path(answer.name).read_text())]


def one(name: str, scale: Scale, path: Path) -> None:
    found = import_module(f"bench.{name}").figures(scale)
    if inspect.isawaitable(found):

        async def waited() -> list[Figure]:
            return await found

        found = asyncio.run(waited())
    path.write_text(json.dumps([asdict(figure) for figure in found]))


def everything(names: Sequence[str], scale: Scale, path: Path | None) -> int:
    about, began = machine(), time.monotonic()
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    results: dict[str, list[dict[str, object]]] = {}
    failed = []
    for name in names:
        began_row = time.monotonic()
        figures = measured(name, scale)
        if figures is None:
            failed.append(name)
            print(f"\n{name}: could not be measured, see above")
            continue
        results[name] = [asdict(figure) for figure in figures]
        print(table(f"{name}: {ROWS[name]} ({time.monotonic() - began_row:.0f} s)", figures), flush=True)
    missed = [f"{name}: {row['name']}" for name, rows in results.items() for row in rows if Figure(**row).verdict == "MISS"]
    print(f"\n{len(results)} rows in {time.monotonic() - began:.0f} s; {len(missed) or 'no'} targets missed")
    for line in missed:
        print(f"  {line}")
    if path is not None:
        path.write_text(json.dumps({"machine": about, "scale": scale, "rows": results}, indent=1) + "\n")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=Scale, default=Scale.SHORT)
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.scale, options.json)
        return 0
    names = options.rows.split(",")
    if unknown := set(names) - ROWS.keys():
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    return everything(names, options.scale, options.json)


if __name__ == "__main__":
    sys.exit(main())
