"""The TwiML that answers Twilio's webhooks: to take a call, to refuse one, to reply to a text message.

Owns the limits that TwiML sets and the characters that XML 1.0 cannot carry: those are removed, for one of them in a
caller's text would make the whole answer unreadable. Every function gives a complete document, to be sent as
`text/xml`. Nothing here decides who is answered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from twilio.twiml.messaging_response import MessagingResponse
from twilio.twiml.voice_response import Connect, VoiceResponse

# "name+value together < 500 characters, per parameter" (protocols.md A.1).
PARAMETER_LIMIT_CHARACTERS = 500
# One text message holds at most 1600 characters (protocols.md A.6).
MESSAGE_LIMIT_CHARACTERS = 1600
# Each part is sent and charged as a message of its own, so a reply that runs away must end somewhere.
MESSAGE_LIMIT_PARTS = 8

_ILLEGAL_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def connect_stream(
    media_url: str, *, status_callback_url: str, parameters: Mapping[str, str], fallback_message: str
) -> str:
    """Answer a call by connecting it to our media socket, both ways.

    Twilio goes on to the verbs behind `<Connect>` only if we close the socket while the caller is still there
    (protocols.md A.1), so they are what a caller hears when the conversation could not go on.

    Args:
        media_url: The `wss://` address of the media socket, without a query.
        status_callback_url: Where Twilio reports that the stream started, stopped, or failed.
        parameters: What `start.customParameters` will hold. All must fit; see `fit_parameters`.
        fallback_message: What is said after the stream ended; empty says nothing.

    Returns:
        The TwiML document.
    """
    response = VoiceResponse()
    connect = Connect()
    stream = connect.stream(url=media_url, status_callback=status_callback_url, status_callback_method="POST")
    for name, value in parameters.items():
        stream.parameter(name=remove_illegal(name), value=remove_illegal(value))
    response.append(connect)
    if fallback_message:
        response.say(remove_illegal(fallback_message))
    response.hangup()
    return str(response)


def refuse_call(message: str) -> str:
    """Refuse a call with `message` and a hang-up; if it is empty, with the busy tone and without answering."""
    response = VoiceResponse()
    if message:
        response.say(remove_illegal(message))
        response.hangup()
    else:
        response.reject(reason="busy")
    return str(response)


def reply_message(text: str) -> str:
    """Reply to a text message; a long `text` becomes several messages, a blank one none.

    Args:
        text: Any text. Beyond `MESSAGE_LIMIT_PARTS` messages it is cut off.

    Returns:
        The TwiML document.
    """
    response = MessagingResponse()
    legal = remove_illegal(text).strip()
    for number, part in enumerate(split_message(legal)):
        if number == MESSAGE_LIMIT_PARTS:
            break
        response.message(part)
    return str(response)


def split_message(text: str) -> Iterator[str]:
    """Cut `text` into parts of at most `MESSAGE_LIMIT_CHARACTERS`, behind a space where there is one.

    The parts joined are the text again. Characters outside the basic plane count twice, as in UTF-16, so that a part
    is short enough whichever way its length is taken.
    """
    start = 0
    while start < len(text):
        end = _part_end(text, start)
        yield text[start:end]
        start = end


def fit_parameters(parameters: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Keep the parameters that `<Parameter>` can carry and that say something.

    Returns:
        The parameters that fit, and the names of those that are too long and had to be dropped.
    """
    stated = {name: value for name, value in parameters.items() if value}
    dropped = tuple(name for name, value in stated.items() if len(name) + len(value) >= PARAMETER_LIMIT_CHARACTERS)
    return {name: value for name, value in stated.items() if name not in dropped}, dropped


def remove_illegal(text: str) -> str:
    """Remove the characters that XML 1.0 cannot hold: most control characters, lone surrogates, U+FFFE, U+FFFF."""
    return _ILLEGAL_IN_XML.sub("", text)


def _part_end(text: str, start: int) -> int:
    units, end = 0, start
    while end < len(text):
        units += 2 if text[end] > "\uffff" else 1
        if units > MESSAGE_LIMIT_CHARACTERS:
            break
        end += 1
    if end == len(text):
        return end
    space = max(text.rfind(" ", start, end), text.rfind("\n", start, end))
    return space + 1 if space > start else end
