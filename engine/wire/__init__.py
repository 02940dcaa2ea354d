"""Messages: bytes in, events out; a method call in, bytes out. No audio maths, no clock, no I/O."""
