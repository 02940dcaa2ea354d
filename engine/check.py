"""The doctor behind `media-engine check`: what the settings amount to, and whether the installation can serve.

Shows every setting but no secret, and calls nobody. That the settings agree with each other has been checked by then:
`load_settings` raises otherwise.
"""

from __future__ import annotations

import importlib
import os
import textwrap

from engine.settings import Setting, Settings, describe_settings, settings_warnings

FAULT_STATUS = 2


def run_check(settings: Settings) -> int:
    """Print what is set and whether each part of the installation works.

    Returns:
        The exit status: 0 if everything works, else 2.
    """
    for setting in describe_settings():
        if not setting.internal:
            print(f"  {setting.name:<22} {_show(setting, settings)}")
    fault = _find_codec_fault()
    print(f"FAULT   codec: {fault}" if fault else "ok      codec")
    for warning in (*settings_warnings(settings), *([] if fault else _find_timer_warnings())):
        print(f"WARNING {warning}")
    return FAULT_STATUS if fault else 0


def _show(setting: Setting, settings: Settings) -> str:
    value = getattr(settings, setting.name.lower())
    if value is None:
        return "no limit" if setting.name == "MAX_CALLS" else "not set"
    if setting.secret:
        return "set"
    return textwrap.shorten(str(value), 80, placeholder=" ...") or "(empty)"


def _find_codec_fault() -> str:
    try:
        codec = importlib.import_module("engine.audio.g711")
    except ImportError as error:
        return f"{error}; build it with `python build_codec.py` or install the package again"
    # Zero is 0xFF in mu-law (ITU-T G.711).
    return "" if codec.ulaw_encode(b"\0\0") == b"\xff" else "the compiled codec gives wrong samples; build it again"


def _find_timer_warnings() -> list[str]:
    timer = importlib.import_module("engine._codec").lib.frame_timer_open()
    if timer < 0:
        return ["This system has no timerfd: frames leave by a coarser clock."]
    os.close(timer)
    print("ok      frame timer")
    return []
