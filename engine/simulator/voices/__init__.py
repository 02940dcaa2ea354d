"""Speech of the simulators: short recordings of one caller and one agent, with their words."""

from engine.simulator.voices.recordings import RECORDINGS, Recording, load_pcm, load_ulaw, recording_path

__all__ = ["RECORDINGS", "Recording", "load_pcm", "load_ulaw", "recording_path"]
