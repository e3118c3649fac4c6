"""The garbage collector and a fleet that lives as long as a term.

A full collection looks at every object that lives: 60 ms with 1,200 addresses, a second with 100,000. Nothing else runs on the loop then,
again and again, though none of those objects is garbage. So while a term builds its pool nothing is collected, and what lives then is left
out of later collections until the next term.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# What is new is looked at every 700 objects by default, three messages' worth, though hardly anything here is a cycle: every hundred
# messages it costs a tenth less of the processor.
THRESHOLDS = (20_000, 20, 50)


@contextmanager
def long_lived() -> Iterator[None]:
    """What exists when the block ends is not looked at by collections; an earlier block's is again. References free it as ever."""
    gc.unfreeze()
    gc.disable()
    try:
        yield
    finally:
        gc.set_threshold(*THRESHOLDS)
        gc.enable()
        gc.freeze()
