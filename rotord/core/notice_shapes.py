"""The words that mail servers write round an address, family by family: what `notices` looks for.

Only shapes, no reading. Each names a recipient where one family puts it; none means "any address in the text".
"""

from __future__ import annotations

import re
from typing import Final

_FLAGS: Final = re.IGNORECASE | re.MULTILINE
_A: Final = r"(?P<address>[^\s@<>()\[\]\",;:\\'`]{1,128}@[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63}){0,8})"
SYSTEM_SENDER: Final = re.compile(
    r"^(mailer[-_. ]?daemon|mail[-_. ]?daemon|postmaster|post[-_]?master|mdaemon|mail(er)?[-_.]?(delivery|system|admin\w*)|"
    r"mailadmin|bounces?|"
    r"microsoftexchange\w*|exchange|administrator|system[-_.]?administrator|non-?delivery|mailmaster|smtpd?|daemon|root|uucp|mmdf|"
    r"mail-?server|smtp-?server|complaints|noreply|no-reply|autoreply)[^@]{0,40}@|^(mailer-daemon|postmaster)$|^(<>)?$",
    re.IGNORECASE,
)
SYSTEM_PATH: Final = re.compile(r"<?(?:(?:mailer-daemon|postmaster)(?:@[^<>]{1,255})?)?>?", re.IGNORECASE)
ANSWERS: Final = re.compile(r"\W*(?:re|aw|sv|fwd?|antw|wg|tr|rv|res)\s?:", re.IGNORECASE)
SYSTEM_NAME: Final = re.compile(
    r"mail delivery (sub)?system|mail(er)?[- ]daemon|postmaster|system administrator|microsoft outlook|mail administrator|mail system|"
    r"internet mail delivery|delivery (service|agent)|inflex|mail server|message router|mailbox-?daemon|ndr administrator",
    re.IGNORECASE,
)
SUBJECT: Final = re.compile(
    r"undeliver(ed|able)|non[- ]?deliver|not delivered|unzustellbar|delivery[- ](status[- ]notification|fail|problem|"
    r"error|report|notif|incomplete|"
    r"unsuccessful|has failed|delayed?)|returned (mail|to sender|message|e-?mail|due)|mail (delivery )?(fail|error|"
    r"system error|could not|delay)|"
    r"failure notice|failed (mail|delivery|message)|(message|mail|e-?mail).{0,20}(status|rejected|undeliver|returned|"
    r"not delivered|bounce|blocked|"
    r"could not be delivered|you sent|delayed)|deliver(y|ing).{0,20}(fail|error|problem|impossible|attempt)|"
    r"bounced? (mail|message)|error (sending|"
    r"delivering)|unknown (user|recipient|address)|user unknown|mailbox (full|unavailable|unknown)|nondelivery|ndn:|"
    r"ndr:|permanent (delivery )?"
    r"(failure|error)|(problem|error|failure).{0,20}deliver|could not (send|deliver)|unable to deliver|"
    r"warning: (message|could not send)|"
    r"mailsystem|rejected|non remis|échec|echec|retourné|no se (pudo|ha podido) entregar|no entregado|devuelto|devolvid|não entregue|"
    r"nao entregue|mancata consegna|non recapitabile|impossibile recapitare|не ?доставлен|недоставлен|не удалось доставить|"
    r"nie ?dostarczon|onbestelbaar|退信|退回|未送达|无法送达|配信(不能|エラー|失敗)|送信(できません|エラー)|반송|iletilemedi|"
    r"kézbesíthetetlen|zustellung|unable to send|can't be delivered|message refused",
    re.IGNORECASE,
)
DELAYED: Final = re.compile(
    r"(?:delivery (?:status notification )?\(?delay|(?:message|mail|delivery).{0,30}\b(?:delayed|is delayed|still being|"
    r"has not yet been)|warning: could not send|"
    r"transient (?:non-?fatal )?error|this is a warning (?:message )?only|you do ?n[o']t need to (?:resend|retry)|"
    r"will (?:be retried|keep trying|continue to (?:try|attempt))|"
    r"no action is required on your part|temporarily delayed|not been delivered yet|has been delayed|delay(?:ed)? \d+ hours)",
    re.IGNORECASE,
)
GIVEN_UP: Final = re.compile(
    r"permanent(?:ly)?\b.{0,20}(?:fail|error|fatal)|(?<!non[- ])fatal error|giv(?:en|ing) up|gave up|"
    r"could not be delivered\b(?! (?:yet|for))|has failed|delivery failed",
    re.IGNORECASE,
)
#: where the message that comes back begins
RETURNED: Final = re.compile(
    r"^[ \t]*(?:[-=_*>+ ]{2,40}[ \t]*(?:below this line is|this is a copy of|the body of the|original message|"
    r"returned message|unsent message|message (?:header|text|follows)|"
    r"copy of|here is (?:a copy|your)|start of returned|the (?:header|original|attached)|begin of|undelivered message|"
    r"headers? (?:of|follow)|"
    r"return(?:ed)? (?:mail|header)|message contents|weitergeleitete|forwarded message|исходное).*|"
    r"(?:original message (?:headers?|follows)|message headers? follow|included is a copy|here is a copy|"
    r"the original message (?:was(?! received)|follows|headers?|is)|"
    r"a copy of (?:the|your) (?:original )?message|original (?:mail|headers)|header of (?:the )?original|"
    r"unsent message below|start of message|"
    r"(?:-----)?original message(?:-----)?|your message (?:is|was|follows) (?:attached|below|enclosed)).*|"
    r"(?:return-path|received|dkim-signature|x-rotord-attempt): .*)$",
    _FLAGS,
)
HEADER_LINE: Final = re.compile(
    r"^(?:return-path|received|from|to|message-id|date|subject|dkim-signature|mime-version|x-[a-z-]{2,40}):", _FLAGS
)

#: a family's words in front of its list of recipients
INTRODUCTIONS: Final = re.compile(
    r"(?:"
    r"the following addresse?s? (?:had|have|has|failed|was|were)[^\n]*|"  # sendmail, Courier, AOL, Exim's kin
    r"(?:for|to)[ \t\n]{1,10}the following (?:list of )?(?:recipients?|address(?:es)?)[^\n@]{0,40}|"  # OpenSMTPD
    r"-{2,}[ \t]*failure reasons?[ \t]*-{2,}|"  # Lotus Notes' SMTP MTA
    r"(?:could|can) ?not be delivered to(?: one or more of| the following| any of)?[^\n@]{0,80}[:.]?|"
    r"(?:did not|didn't) reach(?: some or all of)? (?:the )?(?:following|intended)? ?recipient[^\n@]*|"  # Exchange 5.5 to 2003
    r"(?:the )?following recipient\(?s?\)?[^\n@]{0,60}(?:could not|cannot|failed|was|were|has|have|did)[^\n@]*|"
    r"delivery (?:has )?failed to (?:these|the following) [^\n@]*|"  # Exchange 2007 and later
    r"delivery to (?:the )?following (?:recipients?|address(?:es)?)(?:\(s\))?[^\n@]*|"  # Gmail, Hotmail
    r"(?:delivery )?failed for the following [^\n@]*|"
    r"(?:unable|not able|failed|impossible|couldn't|could not|can ?not) (?:to )?deliver (?:your |the |this )?(?:message|"
    r"mail|e-?mail|letter)?[^\n@]{0,40}"
    r"to (?:the|these|this|all)?[^\n@]*(?:address|recipient|user)[^\n@]*|"  # Yahoo, qmail's kin
    r"(?:message|mail)[^\n@]{0,40}(?:undeliverable|not deliver(?:ed|able)) to(?: the following)?[^\n@]*|"  # GroupWise
    r"was not delivered to:?|"  # Domino
    r"rejected your message to the following [^\n@]*|"  # Office 365
    r"yet been delivered to the following [^\n@]*|your (?:message|e-?mail) to|"
    r"delivery of e-?mail to this address|an e-?mail you addressed to e-?mail address[ \t]*|"  # Sendmail's kin, Mimecast
    r"address[^\n@]{0,20} to which the message has not yet been delivered[^\n@]*|"  # Exim's warning
    r"(?:message|mail)[^\n@]{0,60}(?:rejected|refused|returned|bounced|undeliverable)[^\n@]{0,40}(?:recipients?|address(?:es)?)[^\n@]*|"
    r"failed recipients?(?:\(s\))?:?|undeliver(?:able|ed) (?:recipients?|address(?:es)?|to):?|"
    r"(?:list of )?(?:failed|rejected|bad|invalid|unknown) (?:recipients?|address(?:es)?|users?)(?: (?:is|are|follows?))?:?|"
    r"error[^\n@]{0,60}(?:deliver|send)[^\n@]{0,60}(?:recipients?|address(?:es)?)[^\n@]*|"  # Amazon SES
    r"(?:account|mailbox|user)[^\n@]{0,60}(?:disabled|full|unknown|not found|unavailable|does not exist)[^\n@]{0,20}[:.]|"
    r"(?:reached|delivered to)[^\n@]{0,20}following recipients?[^\n@]*|"
    r"n'a (?:pas )?pu [êe]tre (?:remis|d[ée]livr[ée])[^\n@]*|(?:konnte|kann) [^\n@]{0,60}nicht (?:zugestellt|ausgeliefert)[^\n@]*|"
    r"konnte[^\n@]{0,60}(?:empfänger|adresse)[^\n@]*|(?:folgende[nrs]?|an die) [^\n@]{0,30}(?:empfänger|adresse)[^\n@]*|"
    r"no (?:se )?(?:pudo|ha podido)[^\n@]{0,80}|não (?:pôde|foi)[^\n@]{0,80}|non (?:è stato|ha potuto)[^\n@]{0,80}|"
    r"не (?:может быть|было|был|удалось)[^\n@]{0,30} ?доставл[^\n@]*|не удалось доставить[^\n@]*|宛先[^\n@]{0,30}|"
    r"[^\n@]{0,30}送信に失敗しました。?|"
    r"收件人[^\n@]{0,30}|无法[^\n@]{0,40}"
    r")[:.]?[ \t]*$",
    _FLAGS,
)
#: an entry of such a list: an address at the start of its line, perhaps behind a name
ENTRY: Final = re.compile(
    r"^[ \t>*•-]*(?:to:[ \t]*)?(?:[\"']?[^<>()\n@]{0,80}[<(\[][ \t]*)?(?:mailto:|smtp:|rfc822;|"
    r"\[smtp:)?[ \t]*['\"]?" + _A,
    re.IGNORECASE,
)
#: whole shapes: what stands round the address is the family's own
#: a paragraph's heading (qmail, Postfix, Yahoo): the surest, since nothing else in a notice looks like it
HEADING: Final = re.compile(r"^<" + _A + r">(?:\s{1,20}\((?:expanded from|generated from)[^)]{0,400}\))?:", _FLAGS)
SENTENCES: Final = tuple(
    re.compile(pattern, _FLAGS)
    for pattern in (
        r"^" + _A + r"[ \t]*\n?(?:[ \t]*[a-z0-9.-]{4,200}[ \t]*\n?)?[ \t]*(?:remote server returned|#[<\d])",  # Exchange, in every language
        r"your message to[ \t]+[<\"']?"
        + _A
        + r"[>\"']?[ \t]*(?:\([^)\n]*\)[ \t]*)?(?:could ?n[o']t|couldn't|can ?not|was|has|wasn't|hasn't|failed|did)",  # Office 365
        r"message (?:wasn't|was not|could not be|couldn't be|cannot be|can't be|hasn't been|"
        r"is not) (?:yet )?(?:been )?delivered to[ \t]+[<\"']?" + _A,  # Gmail
        r"(?:failed|unable|error|problem|impossible|couldn't|could not|cannot|can't)[^\n@]{0,40}(?:deliver|"
        r"send)\w*[^\n@]{0,40} to:?[ \t]*[<\"'\[]?(?:smtp:)?" + _A,
        r"(?:message|mail)[^\n@]{0,60}to[ \t]+[<\"']?"
        + _A
        + r"[>\"']?[^\n]{0,20}(?:could not|couldn't|cannot|was not|has been (?:rejected|returned|refused|blocked)|"
        r"was (?:rejected|returned|refused|blocked|undeliverable)|is undeliverable|bounced|failed|has not been)",
        r"^[ \t]*(?:final |original |intended |failed |recipient |rejected |bounced |e-?mail |to )?(?:recipient|address|"
        r"failed to|undeliverable to|user unknown)"
        r"(?: address| name)?[ \t]*[:=][ \t]*(?:rfc822;|smtp:|\[smtp:)?[ \t]*[<\"'\[]?" + _A,  # iPlanet, KDDI, MailEnable
        r"(?:invalid final delivery userid|user mailbox exceeds allowed size|undeliverable[ \t]{1,4}to|unknown user|"
        r"unknown local user|user not known)[ \t]*:?[ \t]*[<\"']?" + _A,
        r"^[ \t]*(?:<<<|>>>)?[ \t]*[45]\d\d[- ](?:#?[45]\.\d+\.\d+[ \t]+)?[<\"']?"
        + _A
        + r"[>\"']?[ \t]*(?:\.\.\.|:|,|is|not|user|mailbox|recipient|does|[a-z])",  # sendmail
        r"^[<\"']?" + _A + r"[>\"']?[ \t]*(?:\.\.\.|,[ \t]*error code|:[ \t]*(?:[45]\d\d|user|mailbox|unknown|host|address|recipient|"
        r"unrout|smtp error)|\((?:user|mailbox|unknown))",
        r"[<\"']?" + _A + r"[>\"']?[ \t]+(?:wasn't found at|isn't (?:a|in)|couldn't be found|(?:was )?not found|is unknown|user unknown|"
        r"does not exist|on [0-9a-z, /.]{6,24} [0-9:]{4,8})",
        r"\[status:[^\n\]]{0,40}address:[ \t]*<?" + _A,  # Zoho
        r"delivery failed(?: \d{1,4} attempts)?:[ \t]*<?" + _A,  # IMail
        r"following recipients? returned permanent errors?:[ \t]*<?" + _A,
        r"rejected recipient[ \t]*<" + _A,
        r"message details:[ \t]*(?:\n[^\n]{0,300}){1,8}?\n[ \t]*rcpt to:[ \t]*<?" + _A,  # Apache James
        r"deliver the following message\b(?:[^\n]{0,300}\n){1,8}?to:[ \t]*<?" + _A,  # Yahoo in HTML
        r"you sent (?:mail|a message|an? e-?mail) to[ \t]*<?" + _A,
        r"rcpt to:[ \t]*<" + _A + r">[^\n]{0,200}\n[^\n]{0,40}?\b5\d\d\b",  # a transcript whose next line refuses it
        r"(?:the user|user|the recipient|recipient|the address|the mailbox|mailbox|the e-?mail address|account|sorry,) [<\"'(]?"
        + _A
        + r"[>\"')]?[^\n@]{0,30}(?:unknown|not|does|doesn't|is (?:full|invalid|disabled|inactive)|over|rejected|"
        r"has exceeded|no longer|isn't)",
    )
)
#: a line of advice may stand under an introduction: whom it names is who helps, not who failed
ADVICE: Final = re.compile(
    r"\b(?:contact|assist\w*|help|questions?|please|support|inquir\w*|enquir\w*|write to|forward (?:it|this)|complain\w*)\b", _FLAGS
)
#: they answer for a server; they fail only if we wrote to them
KEEPERS: Final = re.compile(r"^(?:postmaster|mailer-daemon|hostmaster|abuse)@", re.IGNORECASE)
EXPANDED: Final = re.compile(
    r"\((?:expanded from|generated from|ultimately generated from|reason: expanded from|alias of)[: \t]*<?" + _A, re.IGNORECASE
)
