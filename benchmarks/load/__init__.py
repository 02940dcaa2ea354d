"""A load generator that shares nothing with the engine or its simulator.

It owns both far ends of every call, the telephone carrier and the voice provider, on plain sockets, one `epoll` and
hand-made WebSocket frames, so that one monotonic clock times a byte from one end to the other. It imports nothing of
`engine`: a mistake in the engine's own reading of a protocol cannot hide here. Only loopback addresses are meant.
"""
