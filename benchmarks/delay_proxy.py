"""A network with a given round trip, and a server with a wake-up time, as a process of its own.

    python -m benchmarks.delay_proxy 6432 10:0 10:500

forwards to 127.0.0.1:6432 from a port for each `round trip:wake-up` in milliseconds, and prints the
ports. A new connection costs a round trip before anything is forwarded, as a TCP handshake does, and
the wake-up on top.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class _Side(asyncio.Protocol):
    """One end of a connection; received bytes are written to the other end half a round trip later."""

    def __init__(self, delay_seconds: float) -> None:
        self._delay_seconds = delay_seconds
        self._open_from = 0.0
        self._early: deque[bytes] = deque()
        self._transport: asyncio.Transport | None = None
        self.other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        else:
            asyncio.get_running_loop().call_later(self._delay_seconds, self.other.write, data)

    def connection_lost(self, _error: Exception | None) -> None:
        if self.other is not None:
            self.other.close()

    def join(self, other: _Side) -> None:
        """Forward received bytes to `other` from now on, beginning with those that came earlier."""
        self.other = other
        while self._early:
            self.data_received(self._early.popleft())

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _ClientEnd(_Side):
    """The client's end. It forwards nothing until the server would have accepted and woken up."""

    def __init__(self, upstream_port: int, round_trip_seconds: float, wake_up_seconds: float) -> None:
        super().__init__(round_trip_seconds / 2)
        self._upstream_port = upstream_port
        self._shut_seconds = round_trip_seconds + wake_up_seconds
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        await asyncio.sleep(self._shut_seconds)
        loop = asyncio.get_running_loop()
        far = _Side(self._delay_seconds)
        await loop.create_connection(lambda: far, "127.0.0.1", self._upstream_port)
        far.join(self)
        self.join(far)


@contextmanager
def delayed(port: int, networks: list[tuple[int, int]]) -> Iterator[list[int]]:
    """Open a port for each network (round trip and wake-up in milliseconds) in front of `port`."""
    told = [f"{round_trip}:{wake_up}" for round_trip, wake_up in networks]
    command = [sys.executable, "-m", "benchmarks.delay_proxy", str(port), *told]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield [int(part) for part in process.stdout.readline().split()]
        finally:
            process.terminate()


async def _serve(upstream_port: int, networks: list[str]) -> None:
    loop = asyncio.get_running_loop()
    ports = []
    for network in networks:
        round_trip, wake_up = (float(part) / 1000 for part in network.split(":"))

        def accept(round_trip: float = round_trip, wake_up: float = wake_up) -> _ClientEnd:
            return _ClientEnd(upstream_port, round_trip, wake_up)

        server = await loop.create_server(accept, "127.0.0.1", 0)
        ports.append(str(server.sockets[0].getsockname()[1]))
    print(*ports, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2:]))
