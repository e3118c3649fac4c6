"""Real replies of real servers, what they mean; and the two rules that hold for every reply there can be."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotord.core.model import Blame, Outcome
from rotord.core.replies import Phase, connection_lost, is_greylisting, is_too_many_connections, smtp_reply

DEF, REJ, NOT = Outcome.DEFERRED, Outcome.REJECTED, Outcome.NOT_SENT
RCPT, DOT, MAIL, DATA = Phase.RCPT, Phase.FINAL_DOT, Phase.MAIL, Phase.DATA
R, S, C, A, T, P = Blame.RECIPIENT, Blame.SENDER, Blame.CONTENT, Blame.ACCOUNT, Blame.RATE, Blame.PROVIDER

TABLE = [
    # Gmail
    (RCPT, 550, "5.1.1 The email account that you tried to reach does not exist.", REJ, R),
    (RCPT, 553, "5.1.2 We weren't able to find the recipient domain.", REJ, R),
    (RCPT, 553, "5.1.3 The recipient address is not a valid RFC 5321 address.", REJ, R),
    (RCPT, 550, "5.2.1 The email account that you tried to reach is inactive.", REJ, R),
    (RCPT, 550, "5.2.1 The user you are trying to contact is receiving mail at a rate that prevents delivery", DEF, R),
    (RCPT, 450, "4.2.1 The user you are trying to contact is receiving mail too quickly.", DEF, R),
    (RCPT, 452, "4.2.2 The recipient's inbox is out of storage space.", DEF, R),
    (RCPT, 552, "5.2.2 The recipient's inbox is out of storage space and inactive.", DEF, R),
    (DOT, 421, "4.3.0 Temporary System Problem. Try again later.", DEF, P),
    (DOT, 451, "4.3.0 Multiple destination domains per transaction is unsupported.", DEF, P),
    (DOT, 421, "4.4.5 Server busy, try again later.", DEF, P),
    (DOT, 451, "4.4.2 Timeout - closing connection.", DEF, P),
    (DOT, 421, "4.7.0 Our system has detected that this message is suspicious", DEF, S),
    (DOT, 421, "4.7.0 due to the very low reputation of the sending IP address", DEF, P),
    (DOT, 421, "4.7.0 due to the very low reputation of the sending domain", DEF, S),
    (DOT, 421, "4.7.28 Gmail has detected an unusual rate of unsolicited mail", DEF, T),
    (DOT, 550, "5.7.28 Gmail has detected an unusual rate of unsolicited mail", REJ, T),
    (DOT, 451, "4.7.23 The sending IP has no PTR record", DEF, P),
    (DOT, 550, "5.7.25 The IP address sending this message does not have a PTR record setup", REJ, P),
    (DOT, 451, "4.7.24 The SPF record of the sending domain has one or more suspicious entries.", DEF, S),
    (DOT, 421, "4.7.26 Unauthenticated email from x.example is not accepted", DEF, S),
    (DOT, 550, "5.7.26 This mail has been blocked because the sender is unauthenticated.", REJ, S),
    (DOT, 550, "5.7.27 The sender's SPF did not pass", REJ, S),
    (DOT, 421, "4.7.29 This connection is not using TLS.", DEF, P),
    (DOT, 550, "5.7.30 DKIM did not pass", REJ, S),
    (DOT, 550, "5.7.40 The sending domain has no DMARC record", REJ, S),
    (DOT, 421, "5.7.32 From: header is not aligned", DEF, S),
    (DOT, 550, "5.7.1 Our system has detected that this message is likely unsolicited mail.", REJ, S),
    (DOT, 550, "5.7.1 This message is not RFC 5322 compliant, the issue is: missing From header.", REJ, C),
    (DOT, 550, "5.4.5 Daily user sending limit exceeded.", DEF, T),
    # Outlook.com and Microsoft 365
    (DOT, 550, "5.7.515 Access denied, sending domain x.example doesn't meet the required level.", REJ, S),
    (MAIL, 421, "RP-001 The mail server IP connecting to Outlook.com server has exceeded the rate limit", DEF, T),
    (DOT, 550, "SC-001 Mail rejected by Outlook.com for policy reasons.", REJ, C),
    (DOT, 550, "OU-002 (BAY004) Unfortunately, messages from x weren't sent.", REJ, S),
    (MAIL, 550, "SC-002 Mail rejected: namespace mining", REJ, S),
    (MAIL, 550, "DY-001 Mail rejected by Outlook.com: dynamic IP", REJ, P),
    (MAIL, 550, "OU-001 Mail rejected by Outlook.com", REJ, P),
    (MAIL, 451, "4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation", DEF, T),
    (MAIL, 451, "4.7.652 The mail server has exceeded the maximum number of connections.", DEF, T),
    (RCPT, 451, "4.7.500 Server busy. Please try again later", DEF, P),
    (RCPT, 451, "4.7.860 Access denied, please try again later", DEF, P),
    (MAIL, 550, "5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. part of their network is on our block list (S3150).", REJ, P),
    (DOT, 550, "5.7.501 Service unavailable. Spam abuse detected", REJ, S),
    (DOT, 550, "5.7.508 Access denied, IP has exceeded permitted limits within range", REJ, T),
    (DOT, 550, "5.7.705 Access denied, tenant has exceeded threshold", REJ, A),
    (DOT, 550, "5.7.509 Access denied, sending domain does not pass DMARC verification", REJ, S),
    (RCPT, 550, "5.7.606 Access denied, banned sending IP [192.0.2.1]", REJ, P),
    (RCPT, 550, "5.7.511 Access denied, banned sender[192.0.2.1].", REJ, P),
    (DOT, 550, "5.1.8 Access denied, bad outbound sender", REJ, S),
    (RCPT, 550, "5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", REJ, R),
    (RCPT, 550, "5.5.0 Requested action not taken: mailbox unavailable (S2017062302).", REJ, R),
    (RCPT, 550, "5.4.1 Recipient address rejected: Access denied. AS(201806281)", REJ, R),
    (RCPT, 550, "5.2.121 RESOLVER.ADR.RecipientLimitExceeded; hourly limit", DEF, R),
    (MAIL, 550, "5.1.90 Your message can't be sent: daily limit", DEF, T),
    (MAIL, 530, "5.7.57 Client not authenticated to send mail.", NOT, A),
    # Yahoo and AOL
    (MAIL, 421, "4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume", DEF, T),
    (MAIL, 421, "4.7.0 [TS03] All messages from 192.0.2.1 will be permanently deferred", DEF, T),
    (MAIL, 421, "[IPTS04] Messages temporarily deferred due to user complaints", DEF, T),
    (MAIL, 553, "5.7.1 [BL21] Connections will not be accepted, listed by Spamhaus", REJ, P),
    (DOT, 554, "Message not accepted for policy reasons. [PH01]", REJ, C),
    (MAIL, 421, "Max message per connection reached, closing transmission channel", NOT, P),
    (DOT, 554, "delivery error: dd This user doesn't have a yahoo.com account (a@yahoo.com) [0]", REJ, R),
    (MAIL, 451, "Unresolvable RFC.5321 from domain; see yahoo", DEF, S),
    # Apple, GMX
    (DOT, 451, "4.7.1 [BS02] Blocked", DEF, P),
    (MAIL, 421, "4.7.1 [HCM1] deferred", DEF, P),
    (RCPT, 550, "Requested action not taken: Reject due to policy restrictions.", REJ, S),
    (MAIL, 421, "Too many connections from your host", DEF, T),
    # Postfix, Exim, Sendmail, Cyrus
    (RCPT, 550, "5.1.1 <a@b.example>: Recipient address rejected: User unknown in virtual mailbox table", REJ, R),
    (RCPT, 450, "4.1.1 <a@b.example>: Recipient address rejected: User unknown in local recipient table", DEF, R),
    (RCPT, 450, "4.2.0 <a@b.example>: Recipient address rejected: Greylisted, see http://postgrey.example", DEF, R),
    (RCPT, 451, "4.7.1 Greylisting in action, please come back later", DEF, R),
    (RCPT, 554, "5.7.1 <a@b.example>: Relay access denied", DEF, A),
    (RCPT, 550, "relay not permitted", DEF, A),
    (RCPT, 550, "Unrouteable address", REJ, R),
    (RCPT, 550, "No such user here", REJ, R),
    (RCPT, 550, "5.1.1 unknown or illegal alias: a@b.example", REJ, R),
    (MAIL, 553, "5.7.1 <a@x.example>: Sender address rejected: not owned by user relay", REJ, S),
    (MAIL, 450, "4.1.8 <a@x.example>: Sender address rejected: Domain not found", DEF, S),
    (RCPT, 450, "4.1.2 <a@b.example>: Recipient address rejected: Domain not found", DEF, R),
    (RCPT, 556, "5.1.10 null MX", REJ, R),
    (MAIL, 452, "4.3.1 Insufficient system storage", DEF, P),
    (MAIL, 552, "5.3.4 Message size exceeds fixed limit", REJ, C),
    (DOT, 552, "message too large", REJ, C),
    (RCPT, 552, "", DEF, R),
    (DOT, 552, "", REJ, C),
    (DOT, 554, "5.7.1 Spam message rejected", REJ, C),
    (DOT, 550, "5.7.1 virus Eicar found", REJ, C),
    (RCPT, 554, "5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", REJ, P),
    (RCPT, 450, "4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]", DEF, P),
    (MAIL, 421, "4.4.2 relay.example Error: timeout exceeded", NOT, P),
    (DOT, 421, "4.4.2 relay.example Error: timeout exceeded", DEF, P),
    (MAIL, 421, "4.3.2 Service shutting down", NOT, P),
    (RCPT, 452, "4.5.3 Error: too many recipients", DEF, T),
    (RCPT, 450, "4.7.1 Error: too much mail from 192.0.2.1", DEF, S),
    (DOT, 451, "4.7.1 Rate limit exceeded for this sender", DEF, T),
    (MAIL, 535, "5.7.8 Error: authentication failed", NOT, A),
    (RCPT, 530, "5.7.0 Must issue a STARTTLS command first", NOT, A),
    (MAIL, 550, "5.7.8 credentials expired", NOT, A),
    (DOT, 535, "late", DEF, A),
    (MAIL, 454, "4.7.0 Temporary authentication failure", DEF, S),
    (MAIL, 550, "Your account has been suspended", DEF, A),
    (RCPT, 550, "5.7.17 mailbox owner has changed", REJ, R),
    (RCPT, 501, "Syntax error in address", REJ, R),
    (MAIL, 501, "Syntax error in address", REJ, S),
    (MAIL, 501, "5.1.7 Invalid address", REJ, S),
    (RCPT, 551, "User not local", REJ, R),
    (RCPT, 550, "", REJ, S),
    (DOT, 550, "", REJ, C),
    (DATA, 503, "5.5.1 Bad sequence of commands", DEF, P),
    (RCPT, 555, "5.5.4 Unsupported option", REJ, P),
    (DOT, 550, "5.6.0 conversion failed", REJ, C),
    (DOT, 550, "5.4.4 Host not found", DEF, P),
    (DOT, 550, "5.4.7 Delivery expired", DEF, R),
    (RCPT, 450, "", DEF, R),
    (RCPT, 451, "", DEF, P),
    (RCPT, 550, "#5.1.0 Address rejected.", REJ, R),
    # handshakes concern no message
    (Phase.GREETING, 421, "4.7.0 Too many connections", NOT, T),
    (Phase.GREETING, 554, "5.7.1 No SMTP service here", NOT, P),
    (Phase.AUTH, 535, "5.7.8 Username and Password not accepted.", NOT, A),
    (Phase.AUTH, 454, "4.7.0 Temporary authentication failure", NOT, P),
    (Phase.AUTH, 550, "no", NOT, A),
    (Phase.STARTTLS, 454, "4.7.0 TLS not available due to temporary reason", NOT, P),
]


@pytest.mark.parametrize(("phase", "code", "text", "outcome", "blame"), TABLE)
def test_a_known_reply_means_what_its_sender_documents(phase, code, text, outcome, blame):
    reply = smtp_reply(phase, code, text)

    assert (outcome, blame) == (reply.outcome, reply.blame)


@pytest.mark.parametrize(
    ("text", "queue_id"),
    [
        ("2.0.0 Ok: queued as 4XyZ1a", "4XyZ1a"),
        ("OK id=1tABcd-0001-XY", "1tABcd-0001-XY"),
        ("2.6.0 message received", ""),
    ],
)
def test_an_accepted_message_carries_the_servers_queue_id(text, queue_id):
    reply = smtp_reply(DOT, 250, text)

    assert (Outcome.ACCEPTED, None, queue_id) == (reply.outcome, reply.blame, reply.provider_message_id)


def test_code_and_words_of_a_multi_line_reply_are_told_apart():
    reply = smtp_reply(DOT, 550, "5.7.26 This mail has been blocked\n5.7.26 because\x07 the sender\n5.7.26 is unauthenticated")

    assert reply.code == "550 5.7.26"
    assert reply.text == "This mail has been blocked because the sender is unauthenticated"


def test_an_ip_address_is_no_enhanced_code():
    reply = smtp_reply(RCPT, 550, "blocked 5.1.1.7 by policy")

    assert (reply.code, reply.blame) == ("550", Blame.SENDER)


def test_greylisting_is_told_from_other_deferrals():
    assert is_greylisting(smtp_reply(RCPT, 450, "4.2.0 Greylisted, try again in 300 seconds"))
    assert not is_greylisting(smtp_reply(RCPT, 450, "4.2.2 mailbox full"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4.2.0 Greylisted, try again in 300 seconds", 300.0),
        ("4.7.0 retry after 5 minutes", 300.0),
        ("4.7.0 wait", None),
        ("in 99999 hours", 86_400.0),
    ],
)
def test_a_servers_own_waiting_time_is_read(text, seconds):
    assert seconds == smtp_reply(RCPT, 450, text).retry_after_s


def test_too_many_connections_is_told_from_not_being_welcome():
    assert is_too_many_connections(smtp_reply(Phase.GREETING, 421, "4.7.0 too many connections"))
    assert is_too_many_connections(smtp_reply(Phase.GREETING, 421, "service not available"))
    assert not is_too_many_connections(smtp_reply(Phase.GREETING, 554, "no"))


@given(phase=st.sampled_from(Phase), code=st.integers(-50, 999), text=st.text(max_size=2000))
def test_every_reply_is_proven_or_uncertain_and_fit_to_store(phase, code, text):
    reply = smtp_reply(phase, code, text)

    assert len(reply.text) <= 500
    assert not any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in reply.text)
    assert (reply.outcome is Outcome.ACCEPTED) == (phase is DOT and 200 <= code < 300)
    assert (reply.outcome is Outcome.UNCERTAIN) == (phase is DOT and not (200 <= code < 300 or 400 <= code < 600))
    if phase.is_handshake:
        assert reply.outcome is NOT


@given(phase=st.sampled_from(Phase), text=st.text(max_size=2000))
def test_a_lost_connection_is_uncertain_after_the_final_dot_and_only_then(phase, text):
    assert (connection_lost(phase, text).outcome is Outcome.UNCERTAIN) == (phase is DOT)
