"""The scene: what the caller and the model say, and what makes each of them say it.

Owns both scripts and the words of the caller's lines; knows nothing of how they are carried. The model answers the
caller's voice, the caller answers what is really heard: nothing is on a timetable, so a fault in between shows.
"""

from __future__ import annotations

from engine.simulator.openai import CallTool, Speak
from engine.simulator.openai import Script as ModelScript
from engine.simulator.twilio import AgentSilent, AgentSpeaking, HangUp, RecordedAudio, Say
from engine.simulator.twilio import Script as CallerScript
from engine.simulator.voices import RECORDINGS, load_ulaw

GREETING = "Greet the caller of the parcel desk and ask how you can help."

# Longer than any pause within a sentence, shorter than impatience.
_TURN_MS = 700
# The reply to the question begins with 2.4 s of "one moment"; this lies well inside the long answer behind it.
_BARGE_IN_AFTER_MS = 7800
_CUE_LIMIT_MS = 15_000

CALLER_LINES = ("caller_question", "caller_bargein", "caller_goodbye")
AGENT_LINES = ("agent_greeting", "agent_tool_wait", "agent_order", "agent_sorry", "agent_goodbye")


def caller_script() -> CallerScript:
    """Asks after the greeting, interrupts the long answer, says goodbye, hangs up after the agent's goodbye."""
    question, interruption, goodbye = (RecordedAudio(load_ulaw(name)) for name in CALLER_LINES)
    return (
        Say(question, when=AgentSilent(ms=_TURN_MS, within_ms=_CUE_LIMIT_MS)),
        Say(interruption, when=AgentSpeaking(ms=_BARGE_IN_AFTER_MS, within_ms=_CUE_LIMIT_MS)),
        Say(goodbye, when=AgentSilent(ms=_TURN_MS, within_ms=_CUE_LIMIT_MS)),
        HangUp(when=AgentSilent(ms=_TURN_MS, within_ms=_CUE_LIMIT_MS)),
    )


def caller_words() -> tuple[str, ...]:
    """The words of the caller's lines, in order."""
    return tuple(RECORDINGS[name].transcript for name in CALLER_LINES)


def model_script() -> ModelScript:
    """Greets, looks the order up while saying so, answers at length, apologises, says goodbye."""
    greeting, tool_wait, order, sorry, goodbye = map(Speak, AGENT_LINES)
    return ModelScript(
        replies=(greeting, (tool_wait, CallTool("lookup_order", {"order_number": "4711"})), order, sorry),
        afterwards=goodbye,
        heard=caller_words(),
    )
