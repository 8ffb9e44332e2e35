"""A network that does what it is told: counts flights, delays, goes silent, resets, hangs up.

The proxy stands between client and server and can speak TLS with the client itself, so that a
server built without TLS is reached over TLS all the same.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards connections from `port` on 127.0.0.1 to `upstream`; its public attributes may be set any time."""

    def __init__(self, upstream: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self.upstream = upstream
        self.port = 0
        self.mode: Literal["pass", "hole", "refuse"] = "pass"
        self.latency_seconds = 0.0
        self.connections = 0
        self.flights = 0
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def counting(self) -> Iterator[Callable[[], int]]:
        """Count the client's flights within the block: bursts that it sends before it hears anything."""
        before = self.flights
        yield lambda: self.flights - before

    def reset(self) -> None:
        """End every connection with RST."""
        self._on_each(_abort)

    def hang_up(self) -> None:
        """End every connection with FIN."""
        self._on_each(lambda writer: writer.close())

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Within the block everything is swallowed, on old connections and new ones; then hang up."""
        self.mode = "hole"
        try:
            yield
        finally:
            self.reset()
            self.mode = "pass"

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        """Forward for the block, in a thread of its own."""
        started = threading.Event()
        thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        thread.start()
        started.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    def _on_each(self, act: Callable[[asyncio.StreamWriter], None]) -> None:
        done = threading.Event()

        def each() -> None:
            for writer in list(self._writers):
                act(writer)
            done.set()

        self._loop.call_soon_threadsafe(each)
        done.wait()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        self.mode = "pass"
        for writer in self._writers:
            _abort(writer)
        self._loop.run_until_complete(asyncio.gather(*self._tasks))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._serve(reader, writer)
        self._tasks.discard(task)
        _abort(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "refuse":
            return
        self._writers.add(writer)
        try:
            await self._connect(reader, writer)
        finally:
            self._writers.discard(writer)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._tls:
            request = await reader.readexactly(len(SSL_REQUEST))
            assert request == SSL_REQUEST, "the client did not ask for TLS"
            await self._passable()
            writer.write(b"S")
            await writer.start_tls(self._tls)
        far_reader, far_writer = await asyncio.open_connection(*self.upstream)
        heard = [True]
        try:
            outward = asyncio.create_task(self._pump(reader, far_writer, heard, outward=True))
            inward = asyncio.create_task(self._pump(far_reader, writer, heard))
            await asyncio.wait([outward, inward], return_when="FIRST_COMPLETED")
        finally:
            _abort(far_writer)
            _abort(writer)
            await asyncio.gather(outward, inward)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        heard: list[bool],
        *,
        outward: bool = False,
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if outward and heard[0]:
                    self.flights += 1
                heard[0] = not outward
                await self._passable()
                await asyncio.sleep(self.latency_seconds)
                sink.write(data)
                await sink.drain()

    async def _passable(self) -> None:
        while self.mode == "hole":
            await asyncio.sleep(0.01)


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with RST rather than FIN, so that nothing lingers."""
    raw = writer.get_extra_info("socket")
    with suppress(OSError, AttributeError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
