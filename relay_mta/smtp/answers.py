"""The replies that are the server's own (RFC 5321 §4.2.2, RFC 3463): syntax, sequence, limits, farewells.

Trouble of ours is only ever 421, 451 or 452; those that other rooms need too are in `core.reply`.
"""

from __future__ import annotations

from relay_mta.core.reply import reply

OK = reply(250, "2.0.0 Ok")
BYE = reply(221, "2.0.0 Bye")
READY_FOR_TLS = reply(220, "2.0.0 Ready to start TLS")
NO_VRFY = reply(252, "2.5.0 Cannot verify, but send some mail and see")
HELP = reply(214, "2.0.0 See RFC 5321")
SHUTTING_DOWN = reply(421, "4.3.2 Shutting down, please try again later")
TOO_MANY_SESSIONS = reply(421, "4.3.2 Too many connections, please try again later")
TOO_SLOW = reply(421, "4.4.2 Timeout, closing the connection")
TOO_MANY_ERRORS = reply(421, "4.7.0 Too many errors, closing the connection")
TOO_MANY_COMMANDS = reply(421, "4.7.0 Too many commands without a mail, closing the connection")
TOO_MANY_FAILURES = reply(421, "4.7.0 Too many failed logins, closing the connection")
TOO_MANY_RECIPIENTS = reply(452, "4.5.3 Too many recipients, please send the others another time")
TOO_LONG = reply(500, "5.5.2 Command line too long")
UNKNOWN = reply(500, "5.5.2 Command not recognized")
BAD_BYTES = reply(501, "5.5.2 NUL or CR in command")
BAD_ARGUMENT = reply(501, "5.5.4 Syntax error in the command's argument")
BAD_REVERSE_PATH = reply(501, "5.1.7 Syntax error in MAIL FROM:<address> or its parameters")
BAD_FORWARD_PATH = reply(501, "5.1.3 Syntax error in RCPT TO:<address> or its parameters")
AUTH_CANCELLED = reply(501, "5.7.0 Authentication cancelled")
AUTH_MALFORMED = reply(501, "5.5.2 Malformed credentials")
AUTH_NOT_BASE64 = reply(501, "5.5.2 Not base64")
AUTH_TOO_LONG = reply(500, "5.5.6 Authentication exchange line too long")
NO_AUTH = reply(503, "5.5.1 Authentication is not offered here")
ENCRYPT_FIRST = reply(538, "5.7.11 Encryption is required to log in: send STARTTLS first")
UNKNOWN_MECHANISM = reply(504, "5.5.4 Authentication mechanism not offered here")
BARE_NEWLINE = reply(550, "5.5.2 The mail has a bare CR or LF; lines end in CR LF only")
NOT_IMPLEMENTED = reply(502, "5.5.1 Command not implemented")
HELLO_FIRST = reply(503, "5.5.1 Send HELO or EHLO first")
MAIL_FIRST = reply(503, "5.5.1 Send MAIL first")
RCPT_FIRST = reply(503, "5.5.1 Send RCPT first")
NESTED_MAIL = reply(503, "5.5.1 Nested MAIL command")
BAD_SEQUENCE = reply(503, "5.5.1 Not now")
TLS_ACTIVE = reply(503, "5.5.1 TLS is already active")
TOO_BIG = reply(552, "5.3.4 The mail is too big")
NO_RECIPIENTS = reply(554, "5.5.1 No valid recipients")
NO_SYNCHRONISATION = reply(554, "5.5.0 SMTP protocol synchronization error")
