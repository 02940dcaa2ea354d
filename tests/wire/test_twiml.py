"""TwiML: read back with an XML parser, and compared with what Twilio's classes make of the same wish."""

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st
from twilio.twiml.messaging_response import MessagingResponse
from twilio.twiml.voice_response import Connect, Parameter, Stream, VoiceResponse

from engine.wire import twiml

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=[]))


def connect(fallback_message: str = "Goodbye", **parameters: str) -> str:
    return twiml.connect_stream(
        "wss://voice.example.com/media-stream",
        status_callback_url="https://voice.example.com/stream-status",
        parameters=parameters,
        fallback_message=fallback_message,
    )


def messages_of(document: str) -> list[str]:
    return [message.text or "" for message in ElementTree.fromstring(document).iter("Message")]


def test_a_call_is_connected_both_ways_and_told_something_afterwards() -> None:
    response = ElementTree.fromstring(connect(caller="<+15550100> & co"))
    assert [verb.tag for verb in response] == ["Connect", "Say", "Hangup"]
    (stream,) = response[0]
    assert stream.attrib == {
        "url": "wss://voice.example.com/media-stream",
        "statusCallback": "https://voice.example.com/stream-status",
        "statusCallbackMethod": "POST",
    }
    (parameter,) = stream
    assert (parameter.tag, parameter.attrib) == ("Parameter", {"name": "caller", "value": "<+15550100> & co"})
    assert response[1].text == "Goodbye"


def test_the_answer_is_what_twilios_classes_make() -> None:
    expected = VoiceResponse()
    stream = Stream(
        url="wss://voice.example.com/media-stream",
        status_callback="https://voice.example.com/stream-status",
        status_callback_method="POST",
    )
    stream.append(Parameter(name="caller", value="+15550100"))
    wrapped = Connect()
    wrapped.append(stream)
    expected.append(wrapped)
    expected.say("Goodbye")
    expected.hangup()
    assert connect(caller="+15550100") == str(expected)


def test_an_empty_fallback_message_hangs_up_in_silence() -> None:
    assert [verb.tag for verb in ElementTree.fromstring(connect(fallback_message=""))] == ["Connect", "Hangup"]


def test_a_refused_call_hears_the_message() -> None:
    response = ElementTree.fromstring(twiml.refuse_call("All busy"))
    assert [(verb.tag, verb.text) for verb in response] == [("Say", "All busy"), ("Hangup", None)]


def test_a_call_refused_without_a_message_hears_the_busy_tone() -> None:
    response = ElementTree.fromstring(twiml.refuse_call(""))
    assert [(verb.tag, verb.attrib) for verb in response] == [("Reject", {"reason": "busy"})]


def test_a_parameter_fits_below_five_hundred_characters() -> None:
    kept, dropped = twiml.fit_parameters({"from": "x" * 495, "to": "x" * 498, "direction": "", "name": "n"})
    assert (set(kept), dropped) == ({"from", "name"}, ("to",))


def test_a_reply_is_escaped_once() -> None:
    document = twiml.reply_message("<b> & \"'")
    assert messages_of(document) == ["<b> & \"'"]
    expected = MessagingResponse()
    expected.message("<b> & \"'")
    assert document == str(expected)


def test_an_empty_reply_answers_nothing() -> None:
    for text in ("", " \n", "\x00\x1f\ufffe"):
        assert len(ElementTree.fromstring(twiml.reply_message(text))) == 0


def test_a_long_reply_becomes_several_messages_cut_at_spaces() -> None:
    words = ("word " * 500).strip()
    parts = messages_of(twiml.reply_message(words))
    assert len(parts) == 2
    assert "".join(parts) == words
    assert parts[0].endswith("word ")


def test_an_endless_reply_is_cut_off() -> None:
    parts = messages_of(twiml.reply_message("x" * 1_000_000))
    assert [len(part) for part in parts] == [1600] * twiml.MESSAGE_LIMIT_PARTS


@given(ANY_TEXT)
def test_any_text_makes_a_document_that_a_parser_reads(text: str) -> None:
    for document in (twiml.reply_message(text), twiml.refuse_call(text), connect(fallback_message=text, caller=text)):
        ElementTree.fromstring(document.encode("utf-8"))


@given(st.text(st.sampled_from("ab \n\U0001f600"), max_size=5000))
def test_the_parts_of_a_message_join_to_the_whole_and_each_fits(text: str) -> None:
    parts = list(twiml.split_message(text))
    assert "".join(parts) == text
    assert all(0 < len(part.encode("utf-16-le")) <= 2 * twiml.MESSAGE_LIMIT_CHARACTERS for part in parts)


def test_parts_of_wide_characters_fit_too() -> None:
    parts = list(twiml.split_message("\U0001f600" * 1601))
    assert [len(part) for part in parts] == [800, 800, 1]
