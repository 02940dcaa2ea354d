"""What a session may be configured to: the rules of `session.update` and the session that results.

Owns the table of allowed session fields (protocols.md B.2), the default session and the merge of an update into it. Refuses
unknown fields, the beta's flat shape, `rate` beside G.711, other PCM rates than 24000, two modalities at once, `temperature`,
and reasoning settings on models without it. A refused update changes nothing.
"""

from __future__ import annotations

import copy
from typing import Any, Final

from engine.simulator.openai.fields import (
    Check,
    EventRefused,
    anything,
    array,
    boolean,
    free_object,
    integer,
    nullable,
    number,
    one_of,
    record,
    tagged,
    text,
    unsupported,
)

VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")
REASONING_MODELS = ("gpt-realtime-2",)
DEFAULT_INSTRUCTIONS = "You are a helpful voice assistant. Answer briefly."
_TOOL_NAME = r"[a-zA-Z0-9_-]{1,64}"

AUDIO_FORMAT = tagged(
    "type",
    {
        "audio/pcm": record({"type": anything, "rate": anything}, required=("rate",)),
        "audio/pcmu": record({"type": anything}),
        "audio/pcma": record({"type": anything}),
    },
)


def check_format(value: Any, path: str) -> None:
    """Check an audio format: only `audio/pcm` has a rate, and that rate is 24000 (protocols.md B.2)."""
    AUDIO_FORMAT(value, path)
    if value["type"] == "audio/pcm":
        integer()(value["rate"], f"{path}.rate")
        if value["rate"] != 24000:
            raise unsupported(value["rate"], f"{path}.rate", (24000,))


def check_voice(value: Any, path: str) -> None:
    """Check a voice: a built-in name or `{"id": ...}`."""
    if isinstance(value, dict):
        record({"id": text(shortest=1)}, required=("id",))(value, path)
    else:
        one_of(*VOICES)(value, path)


def check_modalities(value: Any, path: str) -> None:
    """Check output modalities: `["audio"]` or `["text"]`, never both (protocols.md B.2)."""
    array(one_of("text", "audio"))(value, path)
    if len(value) != 1:
        message = f"Invalid modalities: {value}. Supported combinations are: ['text'] and ['audio']."
        raise EventRefused(message, code="invalid_value", param=path)


def check_token_limit(value: Any, path: str) -> None:
    """Check `max_output_tokens`: 1 to 4096, or "inf"."""
    if value != "inf":
        integer(least=1, most=4096)(value, path)


def check_tool_choice(value: Any, path: str) -> None:
    """Check a tool choice: none, auto, required, or one function by name."""
    if isinstance(value, dict):
        tagged("type", {"function": record({"type": anything, "name": text()}, required=("name",))})(value, path)
    else:
        one_of("none", "auto", "required")(value, path)


def _check_truncation(value: Any, path: str) -> None:
    if not isinstance(value, dict):
        one_of("auto", "disabled")(value, path)
        return
    limits = record({"post_instructions": integer(least=0)})
    ratio = {"type": anything, "retention_ratio": number(least=0, most=1), "token_limits": limits}
    tagged("type", {"retention_ratio": record(ratio, required=("retention_ratio",))})(value, path)


def _check_tracing(value: Any, path: str) -> None:
    if isinstance(value, dict):
        record({"workflow_name": text(), "group_id": text(), "metadata": free_object})(value, path)
    else:
        one_of("auto")(value, path)


_TURN: Final = {"type": anything, "create_response": boolean, "interrupt_response": boolean}
TURN_DETECTION = tagged(
    "type",
    {
        "server_vad": record(
            {
                **_TURN,
                "threshold": number(least=0, most=1),
                "prefix_padding_ms": integer(least=0),
                "silence_duration_ms": integer(least=0),
                "idle_timeout_ms": nullable(integer(least=5000, most=30000)),
            }
        ),
        "semantic_vad": record({**_TURN, "eagerness": one_of("low", "medium", "high", "auto")}),
    },
)
TRANSCRIPTION = record(
    {
        "model": text(shortest=1),
        "language": text(),
        "languages": array(text()),
        "prompt": text(),
        "keywords": array(text()),
        "delay": one_of("minimal", "low", "medium", "high", "xhigh"),
    }
)
TOOLS = array(
    tagged(
        "type",
        {
            "function": record(
                {"type": anything, "name": text(pattern=_TOOL_NAME), "description": text(), "parameters": free_object},
                required=("name",),
            )
        },
    )
)
REASONING = record({"effort": one_of("minimal", "low", "medium", "high", "xhigh")})
PROMPT = record({"id": text(), "version": nullable(text()), "variables": nullable(free_object)}, required=("id",))
_AUDIO = record(
    {
        "input": record(
            {
                "format": check_format,
                "noise_reduction": nullable(record({"type": one_of("near_field", "far_field"), "strength": number()})),
                "transcription": nullable(TRANSCRIPTION),
                "turn_detection": nullable(TURN_DETECTION),
            }
        ),
        "output": record({"format": check_format, "voice": check_voice, "speed": number(least=0.25, most=1.5)}),
    }
)
_FIELDS: Final[dict[str, Check]] = {
    "type": anything,
    "output_modalities": check_modalities,
    "model": text(),
    "instructions": text(),
    "audio": _AUDIO,
    "include": nullable(array(one_of("item.input_audio_transcription.logprobs"))),
    "tracing": nullable(_check_tracing),
    "tools": TOOLS,
    "tool_choice": check_tool_choice,
    "parallel_tool_calls": boolean,
    "reasoning": REASONING,
    "max_output_tokens": check_token_limit,
    "truncation": _check_truncation,
    "prompt": nullable(PROMPT),
}
_SESSION = record(_FIELDS, required=("type",))
_TURN_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "server_vad": {
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 200,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    },
    "semantic_vad": {"eagerness": "auto", "create_response": True, "interrupt_response": True},
}


def default_session(session_id: str, model: str, expires_at_unix_s: int) -> dict[str, Any]:
    """Make the session of `session.created`, with the values of the service's own example.

    Args:
        session_id: Its id.
        model: Its model.
        expires_at_unix_s: When it ends.
    """
    pcm = {"type": "audio/pcm", "rate": 24000}
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": model,
        "output_modalities": ["audio"],
        "instructions": DEFAULT_INSTRUCTIONS,
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "expires_at": expires_at_unix_s,
        "audio": {
            "input": {
                "format": dict(pcm),
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": {"type": "server_vad", **_TURN_DEFAULTS["server_vad"]},
            },
            "output": {"format": dict(pcm), "voice": "marin", "speed": 1.0},
        },
        "include": None,
    }


def updated_session(session: dict[str, Any], update: Any, *, has_spoken: bool, responding: bool) -> dict[str, Any]:
    """Apply the `session` of a `session.update`.

    Args:
        session: The session so far; not changed.
        update: What the client sent.
        has_spoken: The model's audio is in the conversation: its voice is fixed.
        responding: A response is in progress: the speed is fixed.

    Returns:
        The whole effective session.

    Raises:
        EventRefused: The update breaks a rule.
    """
    _check_update(session, update)
    changed = copy.deepcopy(session)
    for name, value in update.items():
        if name != "audio":
            changed[name] = copy.deepcopy(value)
    for side, fields in update.get("audio", {}).items():
        changed["audio"][side].update(copy.deepcopy(fields))
    _fill_turn_detection(changed, session, update)
    _check_transition(session, changed, has_spoken=has_spoken, responding=responding)
    return changed


def _check_update(session: dict[str, Any], update: Any) -> None:
    free_object(update, "session")
    if update.get("type") == "transcription":
        message = "Passing a transcription session update event to a realtime session is not allowed."
        raise EventRefused(message, code="invalid_session_type", param="session.type")
    _SESSION(update, "session")
    one_of("realtime")(update["type"], "session.type")
    if update.get("model", session["model"]) != session["model"]:
        raise EventRefused("Cannot update the model of a session.", code="invalid_value", param="session.model")
    for name in ("reasoning", "parallel_tool_calls"):
        if name in update and not session["model"].startswith(REASONING_MODELS):
            message = f"Unsupported parameter: '{name}' is not supported with this model."
            raise EventRefused(message, code="unsupported_parameter", param=f"session.{name}")


def _fill_turn_detection(changed: dict[str, Any], session: dict[str, Any], update: dict[str, Any]) -> None:
    given = update.get("audio", {}).get("input", {}).get("turn_detection")
    if given is None:
        return
    before = session["audio"]["input"]["turn_detection"]
    kept = before if before is not None and before["type"] == given["type"] else {}
    changed["audio"]["input"]["turn_detection"] = {**_TURN_DEFAULTS[given["type"]], **kept, **given}


def _check_transition(before: dict[str, Any], after: dict[str, Any], *, has_spoken: bool, responding: bool) -> None:
    old, new = before["audio"]["output"], after["audio"]["output"]
    if has_spoken and old["voice"] != new["voice"]:
        message = "Cannot update a conversation's voice if assistant audio is present."
        raise EventRefused(message, code="cannot_update_voice", param="session.audio.output.voice")
    if responding and old["speed"] != new["speed"]:
        message = "The speed can only be changed in between model turns."
        raise EventRefused(message, code="invalid_value", param="session.audio.output.speed")
    choice = after["tool_choice"]
    if isinstance(choice, dict) and choice["name"] not in {tool["name"] for tool in after["tools"]}:
        message = f"Tool choice '{choice['name']}' not found in 'tools' parameter."
        raise EventRefused(message, code="invalid_value", param="session.tool_choice")
