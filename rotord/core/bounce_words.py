"""The words in which mail servers, everywhere and in several languages, say why they did not deliver.

A table, read from the top: the first row that fits counts, so a row stands before those that its words would also fit.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class BounceClass(StrEnum):
    """HARD suppresses; the others do not."""

    HARD = "hard"  # no such mailbox or domain, or it is closed
    FULL = "full"  # over quota
    BLOCKED = "blocked"  # what we are or what we wrote was refused
    SOFT = "soft"  # given up after trying, or a fault on the way
    DELAYED = "delayed"  # still being tried
    UNKNOWN = "unknown"  # came back, and nobody says why


_ROWS: Final[tuple[tuple[re.Pattern[str], BounceClass], ...]] = tuple(
    (re.compile("|".join(patterns), re.IGNORECASE), found)
    for found, patterns in (
        # what looks like a refused recipient and is our haste, or a name server's fault
        (
            BounceClass.SOFT,
            (
                r"frequency limit|sent to too many|too many recipients|sending rate|unusual (rate|volume)|receiving mail at a rate",
                r"host (or domain name )?not found,? try again|name service error.{0,80}try again|lookup.{0,40}try again",
            ),
        ),
        (
            BounceClass.HARD,
            (r"account or domain may not exist|null mx|indicated no smtp|does(n't| not) (receive|accept) e?-?mail",),
        ),
        (
            BounceClass.FULL,
            (
                r"(mail ?box|inbox|account|storage|folder|recipient).{0,40}\b(full|over ?(its )?(quota|limit)|exceed\w*)",
                r"quota.{0,30}(exceed|full|over)|over ?quota|exceed\w*.{0,40}(quota|storage|mailbox)",
                r"out of (disk )?(space|storage)|insufficient (system )?storage|not enough (disk )?space|mailbox size limit",
                r"postfach.{0,20}voll|bo[iî]te.{0,30}pleine|ящик.{0,20}(переполнен|заполнен)|buz[oó]n.{0,20}lleno",
                r"caixa.{0,20}cheia|邮箱.{0,6}满|容量.{0,6}超|overdrawn|disk ?(space )?quota|quota violation|maildir over",
            ),
        ),
        (
            BounceClass.BLOCKED,
            (
                r"message (is )?too (large|big)|(size|length|line) (limit|exceed)|exceed\w*.{0,20}(message|size)",
                r"maximum message size|sender('s)? (address |domain )?(rejected|denied|refused|unknown|verif|is|was)",
                r"(bad|invalid|unknown|unroutable) sender|(domain of|unverified) sender|mail ?from domain|from: (domain|address)",
                r"from address|(open|insecure mail) relay|no access from|reverse dns|\br?dns (record|required|validation)|\bptr\b",
                r"no ptr|ip name lookup|mismatch\w* client|client host|invalid ip|(blocked|bad|listed|banned) (ip|host)",
                r"not allowed to connect|ip (address )?(is |was )?(blocked|listed|banned)",
                r"(?<!rejected: )(?<!rejected : )(?<!unavailable or )access denied|denied by|protocol violation|authenticat",
                r"delivery not authorized|(message|mail|e-?mail) (was |has been |is )?(rejected|refused|rejet|redundant|blocked)",
                r"messages? from \S+ weren't sent|line limit|spam|\brbl\b|dnsbl|block ?list|black ?list|spamhaus|virus|phish",
                r"malware|reputation|banned|unsolicited|junk mail|dmarc|dkim|\bspf\b|unauthenticated",
                r"policy (reason|violation|restrict|reject)|rejected (by|for|due to).{0,20}policy",
                r"not (permitted|authori[sz]ed|allowed) to (send|post|relay|submit)|permission|autoris|权限|權限|restricted",
                r"only accepts?|moderat|relay(ing)? (access )?(denied|not permitted|not allowed|prohibited)|unable to relay",
                r"content (rejected|filter)",
            ),
        ),
        (
            BounceClass.HARD,
            (
                r"(host|domain)( or domain)?( name)?[^.\n]{0,60}\b(not found|unknown|invalid|does not exist|doesn't exist|unrouteable)",
                r"unknown (host|domain)|no such (host|domain)|nxdomain|no (valid )?mx|mx records point to non-?exist",
                r"invalid final delivery|couldn't find any host|bad destination (host|mailbox)",
                (
                    r"(unknown|invalid|no such|non-?exist\w*|bad|unrecogni[sz]ed|inactive|incorrect) (local |virtual |"
                    r"e-?mail )?(user|recipient|mail ?box|address|account|person|alias|name|maildrop)"
                ),
                (
                    r"(user|recipient|mail ?box|account|address|addressee)\b.{0,60}\b(unknown|not (be )?(found|known|valid|"
                    r"active|listed|exist\w*)|do(es)? ?(n't| not) exist|no longer|invalid|disabled|inactive|unavailable|"
                    r"suspended|discontinued|closed|deactivated|expired|non-?exist\w*|terminated|not in (the )?(directory|"
                    r"address book)|didn't match|isn't in|not match)"
                ),
                r"no (such )?(mail ?box|user|recipient|account) (here|by that name|with that name|exists|found|named)",
                r"no mailbox here|(does not|doesn't|don't) have an? .{0,30}account|not a known user|not our customer",
                r"unrouteable address|user not known|not listed in .{0,40}(directory|address book)|wasn't found at",
                r"couldn't be found|no longer (valid|in use|employed|works|active)|address (was )?not found",
                r"recipient (address )?not recogni[sz]ed|can't create output|has moved to|couldn't find a mail exchanger",
                r"no mx (found|record)|illegal host|invalid domain|lookup failure|domain is not reachable",
                r"(account|mailbox|user|recipient).{0,20}(is |has been )?(locked|blocked)|disabled recipient|compte.{0,30}bloqu",
                r"not a valid (user|address|recipient|mailbox)|address is (correct|not correct)|no valid recipients|not a registered",
                r"dosn't exist",
                r"unbekannt|existiert nicht|nicht gefunden|inconnu|n'existe pas|introuvable|desconocid|no existe|sconosciut",
                r"non esist|n[aã]o existe|inexistente|не существует|не найден|нет такого|неизвестн",
                r"存在しません|不存在|見つかりません|nie istnieje",
                r"(リスト|ユーザー?|アドレス|宛先).{0,20}(ありません|存在し|見つかり)",
            ),
        ),
        (
            BounceClass.SOFT,
            (
                r"(time|tried|retr|trying|hours|days).{0,40}(expired|too long|exceeded|timed? ?out)|timed? ?out",
                r"delivery time expired|connection (refused|reset|lost|timed|dropped)|no route to host|unreachable|try again",
                r"temporar|deferred|could not connect|not (be )?(delivered|deliverable) (with)?in|g(iven?|iving|ave) up",
                r"multiple (retries|attempts)|\d attempts|failing for a long|(deliver|delivered) for \d|for the last \d",
                r"envelope expired|requests to connect|accepting connections|gateway|suspended|too many errors|lock failure",
                r"error (while )?writing|pipe to|not reachable|service (is )?(currently )?unavailable|command output|greylist",
                r"graylist|too many hops|loop|hop count|resources",
            ),
        ),
    )
)


def by_words(text: str) -> BounceClass | None:
    """The class whose words stand in the text; None for words that no row knows."""
    return next((found for pattern, found in _ROWS if pattern.search(text)), None)
