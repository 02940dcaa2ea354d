"""Listening sockets: where they are bound and what is said when they cannot be."""

import socket

import pytest
import trio

from engine.errors import ConfigurationError
from engine.runtime.listeners import bind_sockets, open_listeners


async def test_a_listener_takes_connections_on_a_free_port() -> None:
    with trio.fail_after(5):
        (listener,) = await open_listeners("127.0.0.1", 0)
        address = listener.socket.getsockname()
        async with listener, await trio.open_tcp_stream(*address) as client, await listener.accept() as server:
            await server.send_all(b"x")
            assert await client.receive_some(1) == b"x"


async def test_every_address_of_a_name_gets_the_same_port() -> None:
    listeners = await open_listeners("localhost", 0)
    assert len({listener.socket.getsockname()[1] for listener in listeners}) == 1
    for listener in listeners:
        await listener.aclose()


async def test_a_port_that_is_taken_is_a_configuration_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port}: Address already in use"):
            await open_listeners("127.0.0.1", port)
        with pytest.raises(ConfigurationError, match="already in use"):
            await open_listeners("127.0.0.1", port, reuse_port=True)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
async def test_an_address_that_is_not_here_is_a_configuration_fault(host: str) -> None:
    with trio.fail_after(20), pytest.raises(ConfigurationError, match="HOST and PORT"):
        await open_listeners(host, 0)


async def test_a_shared_port_can_be_listened_on_twice() -> None:
    (first,) = await open_listeners("127.0.0.1", 0, reuse_port=True)
    port = first.socket.getsockname()[1]
    (second,) = await open_listeners("127.0.0.1", port, reuse_port=True)
    await first.aclose()
    await second.aclose()


async def test_a_port_held_without_listening_leaves_connections_to_those_who_listen() -> None:
    with trio.fail_after(5):
        (held,) = await bind_sockets("127.0.0.1", 0, reuse_port=True)
        port = held.getsockname()[1]
        (listener,) = await open_listeners("127.0.0.1", port, reuse_port=True)
        async with listener:
            for _ in range(20):
                async with await trio.open_tcp_stream("127.0.0.1", port), await listener.accept():
                    pass
        held.close()
