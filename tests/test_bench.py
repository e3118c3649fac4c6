"""Every row of the bench runs and gives figures. Their worth is for `make bench`: here a handful of messages is carried."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.figures import Figure, number, table

ROOT = Path(__file__).parent.parent
IN_THE_GATE = ("http", "decisions", "rendering")
LONGER = ("smtp", "idle", "statements", "events", "history", "retention")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [*IN_THE_GATE, *(pytest.param(name, marks=pytest.mark.chaos) for name in LONGER)])
def test_a_row_runs_and_gives_figures(name: str, tmp_path: Path) -> None:
    answer = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench", "--rows", name, "--scale", "tiny", "--json", str(answer)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-4000:]
    rows = json.loads(answer.read_text())["rows"]
    assert list(rows) == [name]
    assert len(rows[name]) >= 2
    assert all(Figure(**row).name in done.stdout for row in rows[name])


def test_a_row_that_does_not_exist_is_said() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "--rows", "no"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, "no such row: no" in done.stderr) == (2, True)


def test_a_target_is_a_bound_of_one_side() -> None:
    assert [Figure("a", value, at_most=3.0).verdict for value in (2.9, 3.0, 3.1)] == ["ok", "ok", "MISS"]
    assert [Figure("a", value, at_least=3.0).verdict for value in (2.9, 3.0, 3.1)] == ["MISS", "ok", "ok"]
    assert Figure("a", 1.0).verdict == ""
    assert [number(value) for value in (12_345.6, 12.34, 1.234, 0.1234)] == ["12,346", "12.3", "1.23", "0.123"]
    assert "a" in table("title", [Figure("a", 1.0, "us", at_most=3.0)]).splitlines()[-1]
