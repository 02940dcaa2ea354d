"""Samples: G.711, resampling and sound files. No clock, no sockets, no messages."""
