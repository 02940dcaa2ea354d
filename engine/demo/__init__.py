"""The demonstration: a whole conversation, offline, in one command."""
