"""Whole conversions of a transcoded call: mu-law at 8 kHz to a provider's PCM, and back, by each way there is."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.codec.contenders import Contender, decoders, encoders, maybe_module, resamplers
from benchmarks.codec.measure import Convert

TELEPHONE_HZ = 8000

# Which resampler a user would join to which G.711.
_PAIRS = {
    "engine, sinc_fastest": "engine (C)",
    "samplerate, sinc_fastest": "numpy lookup table",
    "soxr, HQ": "numpy lookup table",
    "audioop.ratecv (linear)": "audioop",
}


def upward(provider_hz: int) -> list[Contender]:
    """Mu-law at 8000 Hz to int16 at the provider's rate."""
    polyphase = maybe_module("engine.audio.polyphase")
    fused = [Contender(name="engine, fused (C)", make=lambda: _process(polyphase.UlawUpsampler(provider_hz)))]
    joined = [
        Contender(name=_joined_name(rate, law), make=partial(_in_turn, law, rate))
        for rate, law in _pairs(resamplers(TELEPHONE_HZ, provider_hz), decoders())
    ]
    return (fused if polyphase is not None else []) + joined


def downward(provider_hz: int) -> list[Contender]:
    """Int16 at the provider's rate to mu-law at 8000 Hz."""
    polyphase = maybe_module("engine.audio.polyphase")
    fused = [Contender(name="engine, fused (C)", make=lambda: _process(polyphase.UlawDownsampler(provider_hz)))]
    joined = [
        Contender(name=_joined_name(rate, law), make=partial(_in_turn, rate, law))
        for rate, law in _pairs(resamplers(provider_hz, TELEPHONE_HZ), encoders())
    ]
    return (fused if polyphase is not None else []) + joined


def _process(stream: Any) -> Convert:
    convert: Convert = stream.process
    return convert


def _pairs(rates: list[Contender], laws: list[Contender]) -> list[tuple[Contender, Contender]]:
    by_name = {law.name: law for law in laws}
    return [(rate, by_name[_PAIRS[rate.name]]) for rate in rates if _PAIRS.get(rate.name) in by_name]


def _joined_name(rate: Contender, law: Contender) -> str:
    return rate.name if law.name.split(",")[0] in rate.name else f"{law.name} + {rate.name}"


def _in_turn(first: Contender, second: Contender) -> Convert:
    convert_first, convert_second = first.make(), second.make()
    return lambda frame: convert_second(convert_first(frame))
