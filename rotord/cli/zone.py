"""DNS records as a snippet of a zone file, for a person to paste."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotord.providers.account import Record

#: of a string in a TXT record (RFC 1035 3.3)
_STRING: Final = 255


def zone(domain: str, wanted: Iterable[tuple[str, Record]]) -> list[str]:
    """Write what the providers want for a domain, by (provider, record), with a DMARC suggestion. One name has one SPF record."""
    lines, spf, mail = [f"; {domain}"], defaultdict[str, list[tuple[str, str]]](list), []
    for provider, record in wanted:
        if record.kind == "TXT" and record.value.lower().startswith("v=spf1"):
            spf[record.name].append((provider, record.value))
        elif record.kind == "MX":
            mail.append(f"; replies to rotord, only if no mailbox is there ({provider}): {record.name}. IN MX {record.value}")
        else:
            lines.append(_line(record.kind, record.name, record.value) + _note(provider, record))
    for name, values in spf.items():
        providers = ", ".join(dict.fromkeys(provider for provider, _ in values))
        lines.append(f"{_line('TXT', name, merged_spf([value for _, value in values]))} ; {providers}; merge it with one that is there")
    lines.append(f"{_line('TXT', f'_dmarc.{domain}', f'v=DMARC1; p=none; rua=mailto:postmaster@{domain}')} ; a beginning, if there is none")
    return lines + list(dict.fromkeys(mail))


def merged_spf(values: Iterable[str]) -> str:
    """Make one SPF record of several: all that they let send, once, and the softest end."""
    terms = dict.fromkeys(term for value in values for term in value.split()[1:] if not term.lower().endswith("all"))
    return " ".join(["v=spf1", *terms, "~all"])


def _line(kind: str, name: str, value: str) -> str:
    if kind == "TXT":
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        value = " ".join(f'"{escaped[at : at + _STRING]}"' for at in range(0, len(escaped), _STRING))
    elif kind == "CNAME":
        value = value.rstrip(".") + "."
    return f"{name.rstrip('.')}. 3600 IN {kind} {value}"


def _note(provider: str, record: Record) -> str:
    return f" ; {provider}" + (", seen" if record.valid else "")
