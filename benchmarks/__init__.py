"""Benchmarks of the media engine: how many calls this machine holds, and which pacing suits it."""
