"""The exceptions of the engine: one small tree.

::

    EngineError
    ├── ConfigurationError      settings are missing or wrong; names every fault at once
    ├── AudioFileError          a sound file cannot be used; says which file and why
    ├── LocalProtocolError      we broke a protocol's rules (a bug of ours or of the caller of our API)
    ├── RemoteProtocolError     the peer broke a protocol's rules; malformed input raises nothing else
    ├── ConnectionFailed        a connection could not be made, or ended without the peer's goodbye
    └── ProviderError           the voice provider refused or gave up
        └── ProviderFatalError  trying again with the same settings cannot help
"""

from __future__ import annotations

from collections.abc import Sequence


class EngineError(Exception):
    """Root of every error that the engine raises on purpose."""


class ConfigurationError(EngineError):
    """Settings are missing or wrong.

    Attributes:
        faults: One sentence per fault, each naming the setting and how to mend it.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class AudioFileError(EngineError):
    """A sound file is missing, damaged, or of a format that is not supported."""


class LocalProtocolError(EngineError):
    """We tried something that the protocol does not allow."""


class RemoteProtocolError(EngineError):
    """The peer sent something that the protocol does not allow.

    Attributes:
        close_code: The WebSocket close code that tells the peer so (RFC 6455 7.4.1), if the connection must end.
    """

    def __init__(self, message: str, close_code: int | None = None) -> None:
        self.close_code = close_code
        super().__init__(message)


class ConnectionFailed(EngineError):
    """A connection could not be made, or ended without the peer's goodbye."""


class ProviderError(EngineError):
    """The voice provider refused something or went away; another attempt may help."""


class ProviderFatalError(ProviderError):
    """The voice provider refused for good: a wrong key, model, or quota."""
