"""Reads the address file: CSV with a head line, one sender address a line, every fault with its line."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rotord.core.model import Status
from rotord.fleet.model import A_LINE, DeclaredAddress, is_line
from rotord.handwritten import is_address, nearest, read_text, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

_REQUIRED: Final = ("address", "display_name", "per_hour", "per_day", "status")
_OPTIONAL: Final = ("used_day", "forward_replies_to")
COLUMNS: Final = _REQUIRED + _OPTIONAL
# Twice the largest fleet that is promised; 64 MiB holds it with names of 200 characters.
MAX_ADDRESSES: Final = 200_000
MAX_BYTES: Final = 67_108_864
MAX_DISPLAY_NAME: Final = 320
#: What the column holds.
MAX_LIMIT: Final = 2**31 - 1

_HEAD: Final = f"the first line must be {','.join(_REQUIRED)} (and {' and '.join(f',{column}' for column in _OPTIONAL)} where wanted)"
_STATUSES: Final = {status.value: status for status in Status}
# "Did you mean" compares with every domain; a file whose every line is wrong needs the offer only a few times.
_MOST_OFFERS: Final = 20


@dataclass(slots=True)
class AddressReader:
    """Reads one file against the domains that the fleet declares; `faults` is what was wrong."""

    path: Path
    domains: Collection[str]
    faults: list[str] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)
    _offers: dict[str, str] = field(default_factory=dict)

    def read(self) -> list[DeclaredAddress]:
        """Read the whole file; FaultsError when it is no text, else what is right of it, with the rest in faults."""
        addresses: list[DeclaredAddress] = []
        for line, row in self._rows(read_text(self.path, MAX_BYTES)):
            if len(addresses) == MAX_ADDRESSES:
                self._fault(line, f"there are more than {MAX_ADDRESSES} addresses, which is the most that is read")
                break
            before = len(self.faults)
            address = self._address(line, row)
            if len(self.faults) == before:
                addresses.append(address)
        return addresses

    def _rows(self, text: str) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield each record under its column names, with the line it begins on (a quoted name may hold line ends)."""
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        columns: tuple[str, ...] = ()
        begins = 1
        try:
            for cells in reader:
                line, begins = begins, reader.line_num + 1
                if not columns:
                    columns = tuple(cell.strip().lower() for cell in cells)
                    if columns not in {_REQUIRED, *((*_REQUIRED, column) for column in _OPTIONAL), COLUMNS}:
                        self._fault(line, _HEAD)
                        return
                elif cells and len(cells) != len(columns):
                    self._fault(line, f"wanted {len(columns)} columns ({','.join(columns)}), got {len(cells)}")
                elif cells:
                    yield line, dict(zip(columns, cells, strict=True))
        except csv.Error as error:
            self._fault(begins, f"is not CSV: {error}")
            return
        if not columns:
            self._fault(1, _HEAD)

    def _address(self, line: int, row: dict[str, str]) -> DeclaredAddress:
        email = row["address"].strip().lower()
        self._check_email(line, email)
        display_name = row["display_name"]
        if len(display_name) > MAX_DISPLAY_NAME or not is_line(display_name):
            self._fault(line, f"display_name: wanted {A_LINE}, of at most {MAX_DISPLAY_NAME} characters")
        status = row["status"].strip().lower()
        if status and status not in _STATUSES:
            self._fault(line, f"status: wanted active, paused, disabled or nothing, got {shown(status)}")
        forward = row.get("forward_replies_to", "").strip()
        if forward and not is_address(forward):
            self._fault(line, f"forward_replies_to: is no e-mail address: {shown(forward)}")
        return DeclaredAddress(
            email=email,
            domain=email.rpartition("@")[2],
            display_name=display_name,
            per_hour=self._number(line, row, "per_hour"),
            per_day=self._number(line, row, "per_day"),
            status=_STATUSES.get(status),
            used_day=self._number(line, row, "used_day"),
            forward_replies_to=forward or None,
        )

    def _check_email(self, line: int, email: str) -> None:
        if not is_address(email):
            self._fault(line, f"address: is no e-mail address: {shown(email)}")
            return
        if (first := self._seen.setdefault(email, line)) != line:
            self._fault(line, f"address: {email} is already on line {first}")
        domain = email.rpartition("@")[2]
        if domain not in self.domains:
            self._fault(line, f"address: domain {domain} is not in the fleet file{self._offer(domain)}")

    def _offer(self, domain: str) -> str:
        if domain not in self._offers and len(self._offers) < _MOST_OFFERS:
            self._offers[domain] = nearest(domain, self.domains, cutoff=0.8)  # many end alike
        return self._offers.get(domain, "")

    def _number(self, line: int, row: dict[str, str], column: str) -> int | None:
        text = row.get(column, "").strip()
        if not text:
            return None
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal()):
            self._fault(line, f"{column}: wanted a whole number or nothing, got {shown(text)}")
        elif text.startswith("-"):
            self._fault(line, f"{column}: must be at least 0, got {text[:20]}")
        # eleven digits are too many whatever they are, and int() of a million digits takes its time
        elif len(digits.lstrip("0")) > len(str(MAX_LIMIT)) or int(digits) > MAX_LIMIT:
            self._fault(line, f"{column}: must be at most {MAX_LIMIT}, got {text[:20]}")
        else:
            return int(digits)
        return None

    def _fault(self, line: int, what: str) -> None:
        self.faults.append(f"{self.path}:{line}: {what}")
