"""`python -m tests.daemon.loop_watch OUT ARGUMENTS...`: rotord with a watch on its loop.

Writes each callback that took more than 5 ms of the loop's own CPU time to OUT, a line of JSON each: seconds since the epoch, ms, and the
stack that a second thread saw in it. CPU time, not the clock: a busy machine makes nothing look slow. In asyncio's own loop, whose
callbacks Python can see.
"""

import asyncio
import json
import sys
import threading
import time
import traceback
from asyncio import events
from pathlib import Path
from typing import Any

import uvloop

from rotord.cli import main

SLOW_S = 0.005


def watch(out: Path) -> None:
    """From now on."""
    file = out.open("a", buffering=1)
    run: Any = events.Handle._run
    loop = threading.get_ident()
    running_since, stack = 0.0, ""

    def watched(handle: Any) -> None:
        nonlocal running_since, stack
        stack, running_since, began = "", time.monotonic(), time.thread_time()
        run(handle)
        took_s, running_since = time.thread_time() - began, 0.0
        if took_s > SLOW_S:
            file.write(json.dumps({"at": time.time(), "ms": round(1000 * took_s, 1), "where": stack or repr(handle)}) + "\n")

    def look() -> None:
        nonlocal stack
        while True:
            time.sleep(SLOW_S / 2)
            if not stack and running_since and time.monotonic() - running_since > SLOW_S:
                frames = traceback.extract_stack(sys._current_frames()[loop])
                stack = " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-8:])

    events.Handle._run = watched  # type: ignore[method-assign]
    threading.Thread(target=look, daemon=True).start()


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
    uvloop.new_event_loop = asyncio.new_event_loop  # type: ignore[assignment]
    sys.argv = ["rotord", *sys.argv[2:]]
    sys.exit(main())
