"""Twilio played from the other side: it calls a server, as strictly as the real one.

`place_call` and `open_call` place simulated calls; `CallConfig`, `Faults` and the steps of a script say what happens
in them; the `CallRecord` (`engine.simulator.record`) says what did. The kinds of its events:

* the call: `dial`, `webhook`, `webhook_retry`, `answered`, `say`, `play`, `pause`, `redirect`, `reject`, `hangup`,
  `dial_out`, `callback_failed`, `error`, `ended`
* the stream: `connected`, `start`, `stop`, `drop`, `closed`, `warning`, `violation`
* the caller: `speech_began`, `speech_ended`, `dtmf`, `raw_sent`, `cue_missed`
* the server: `first_media`, `mark_received`, `mark_returned` (everything before it was heard), `mark_flushed`
  (returned by a clear), `clear`, `underrun`, `gap` (playout paused right after a mark)

Independent of the engine on purpose: it shares only the G.711 codec and the errors with it, and every message is
written and read by code of its own.
"""

from __future__ import annotations

from engine.simulator.record import CallEvent, CallRecord, Chunk
from engine.simulator.twilio.call import SimulatedCall, open_call, place_call
from engine.simulator.twilio.config import CallConfig, new_sid
from engine.simulator.twilio.faults import Faults
from engine.simulator.twilio.playout import PlayoutBuffer
from engine.simulator.twilio.script import (
    After,
    AgentSilent,
    AgentSpeaking,
    At,
    Drop,
    Dtmf,
    HangUp,
    Say,
    Script,
    SendRaw,
    Wait,
)
from engine.simulator.twilio.sound import (
    CallerAudio,
    RecordedAudio,
    RepeatedAudio,
    silence,
    sound_from_pcm,
    sound_from_wav,
    tone,
)

__all__ = [
    "After",
    "AgentSilent",
    "AgentSpeaking",
    "At",
    "CallConfig",
    "CallEvent",
    "CallRecord",
    "CallerAudio",
    "Chunk",
    "Drop",
    "Dtmf",
    "Faults",
    "HangUp",
    "PlayoutBuffer",
    "RecordedAudio",
    "RepeatedAudio",
    "Say",
    "Script",
    "SendRaw",
    "SimulatedCall",
    "Wait",
    "new_sid",
    "open_call",
    "place_call",
    "silence",
    "sound_from_pcm",
    "sound_from_wav",
    "tone",
]
