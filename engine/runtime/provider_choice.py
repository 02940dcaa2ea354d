"""Which voice a call gets."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from engine.runtime.echo_provider import EchoProvider
from engine.runtime.openai_provider import OpenAIProvider
from engine.runtime.provider import CallPort, MakeProvider, Provider
from engine.settings import Settings
from engine.tools import Tool


def choose_provider(settings: Settings, tools: Sequence[Tool]) -> MakeProvider:
    """Makes what makes a provider for each call.

    Args:
        settings: ``provider`` names it.
        tools: What a model may call.
    """
    context = ssl.create_default_context() if settings.openai_realtime_url.startswith("wss:") else None
    by_name = {tool.name: tool for tool in tools}

    def make_openai(port: CallPort) -> Provider:
        return OpenAIProvider(port, settings, by_name, context)

    return make_openai if settings.provider == "openai" else EchoProvider
