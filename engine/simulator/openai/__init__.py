"""The OpenAI Realtime service (GA), played from the other side: strict, scripted, and able to fail on purpose."""

from engine.simulator.openai.config import PeerConfig
from engine.simulator.openai.log import SessionLog
from engine.simulator.openai.outlet import Abort, Close, Outgoing
from engine.simulator.openai.peer import RealtimePeer, open_realtime_peer
from engine.simulator.openai.script import (
    NOT_JSON,
    UNKNOWN_EVENT,
    CallTool,
    Die,
    RefuseHandshake,
    ReportError,
    Script,
    SendText,
    Speak,
    Stall,
    expire_session,
)
from engine.simulator.openai.session import RealtimeSession

__all__ = [
    "NOT_JSON",
    "UNKNOWN_EVENT",
    "Abort",
    "CallTool",
    "Close",
    "Die",
    "Outgoing",
    "PeerConfig",
    "RealtimePeer",
    "RealtimeSession",
    "RefuseHandshake",
    "ReportError",
    "Script",
    "SendText",
    "SessionLog",
    "Speak",
    "Stall",
    "expire_session",
    "open_realtime_peer",
]
