"""The shell around the core: clock, sockets, the nursery of a call, providers, the service."""
