"""What a row of the bench gives: figures with their targets, and how they are shown.

A row is a module of this package with `async def figures(scale: Scale) -> list[Figure]` (a plain function will do). It is run in a process
of its own, alone by `python -m bench --rows NAME` or with the others by `python -m bench`; `ROWS` in bench/__main__.py names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Scale(StrEnum):
    """How much to measure. `tiny` only proves that a row runs; `short` fits five minutes in all; `full` takes its time."""

    TINY = "tiny"
    SHORT = "short"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. A target is a bound of one side; `beside` says what it is to be seen with."""

    name: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    beside: str = ""

    @property
    def verdict(self) -> str:
        """`ok`, `MISS`, or nothing without a target."""
        if self.at_most is None and self.at_least is None:
            return ""
        missed = (self.at_most is not None and self.value > self.at_most) or (self.at_least is not None and self.value < self.at_least)
        return "MISS" if missed else "ok"

    @property
    def target(self) -> str:
        if self.at_most is not None:
            return f"<= {number(self.at_most)}"
        return f">= {number(self.at_least)}" if self.at_least is not None else ""


def number(value: float) -> str:
    """Three digits that mean something, thousands apart."""
    for least, digits in ((100, 0), (10, 1), (1, 2)):
        if abs(value) >= least:
            return f"{value:,.{digits}f}"
    return f"{value:.3f}"


def table(title: str, rows: Iterable[Figure]) -> str:
    """One row of the bench, for a person."""
    lines = [f"\n{title}"]
    for row in rows:
        line = f"  {row.name:<58}{number(row.value):>10} {row.unit:<14}{row.target:>10} {row.verdict:<5}{row.beside}"
        lines.append(line.rstrip())
    return "\n".join(lines)
