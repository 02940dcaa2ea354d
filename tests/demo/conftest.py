"""The staged call, for every test of what is made of a call."""

from __future__ import annotations

import pytest
from staged_call import stage_call

from engine.demo.account import Account


@pytest.fixture(scope="session")
def account() -> Account:
    """A call that went as scripted; nobody changes it."""
    return stage_call()
