"""What `rotord check` found, and how it is shown: a line each, of what there may be thousands only the wrong ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from rotord.cli.output import plural, print_json
from rotord.core.authentication import Level, Verdict

#: kinds of which there may be thousands: only what is wrong has a line of its own
MANY: Final = {
    "client": "can send",
    "domain": "have a provider",
    "spf": "have SPF",
    "dmarc": "have DMARC",
    "dkim": "publish our key",
    "sender": "are ready at their provider",
    "inbound": "bring their replies",
}


class Line(NamedTuple):
    """One thing that was checked."""

    kind: str
    name: str
    verdict: Verdict


@dataclass(slots=True)
class Report:
    """What was found, in the order it is shown."""

    lines: list[Line] = field(default_factory=list)

    def add(self, kind: str, name: str, verdict: Verdict) -> None:
        """Add a line."""
        self.lines.append(Line(kind, name, verdict))

    @property
    def failed(self) -> bool:
        """True when something must be mended."""
        return any(line.verdict.level is Level.FAIL for line in self.lines)

    def show(self, *, as_json: bool) -> None:
        """Print it."""
        levels = Counter(line.verdict.level for line in self.lines)
        if as_json:
            checks = [{"kind": kind, "name": name, **verdict._asdict()} for kind, name, verdict in self.lines]
            print_json({"failed": self.failed, "counts": {level.value: levels[level] for level in Level}, "checks": checks})
            return
        kinds, good = Counter(line.kind for line in self.lines), Counter(line.kind for line in self.lines if line.verdict.level is Level.OK)
        summed: set[str] = set()
        for kind, name, (level, says, remedy) in self.lines:
            if kind in MANY and kind not in summed:
                summed.add(kind)
                if good[kind]:
                    print(f"ok    {kind}: {good[kind]:,} of {kinds[kind]:,} {MANY[kind]}")
            if kind not in MANY or level is not Level.OK:
                print(f"{level:<5} {' '.join(filter(None, (kind, name)))}: {says}" + (f"; {remedy}" if remedy else ""))
        print(f"{plural(levels[Level.FAIL], 'failure')}, {plural(levels[Level.WARN], 'warning')}, {levels[Level.OK]:,} ok")
