"""A network under control: counts round trips, delays, slices, goes silent, resets, cuts, closes.

The proxy stands between client and server and can speak TLS with the client itself, so that a
server built without TLS is reached over TLS all the same.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
RESET = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Line:
    """One connection: the client's side of it, and what has become of it."""

    writer: asyncio.StreamWriter
    heard: bool = True
    mute: bool = False
    lost: bool = False


class Proxy:
    """Forwards connections from `port` on 127.0.0.1 to `upstream`; public attributes may be set any time."""

    def __init__(self, upstream: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self.upstream = upstream
        self.port = 0
        self.mode: Literal["pass", "hole", "refuse"] = "pass"
        self.latency_seconds = 0.0
        # So many bytes at once pass with each latency; all that there are if it is 0.
        self.slice_bytes = 0
        self.connections = 0
        self.flights = 0
        # In both directions together.
        self.bytes_passed = 0
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._unanswered: bytes | None = None
        self._allowance: int | None = None
        self._act = self._cut
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def counting(self) -> Iterator[Callable[[], int]]:
        """Count the client's round trips within the block: bursts that it sends before an answer."""
        before = self.flights
        yield lambda: self.flights - before

    @property
    def open_connections(self) -> int:
        """The number of connected clients."""
        return len(self._lines)

    def reset(self) -> None:
        """End every connection with RST."""
        self._on_each(lambda line: _abort(line.writer))

    def hang_up(self) -> None:
        """End every connection with FIN."""
        self._on_each(lambda line: line.writer.get_extra_info("socket").shutdown(socket.SHUT_WR))

    def forget(self) -> None:
        """Swallow whatever is said on the connections of now, for ever and without a word; new ones pass."""
        self._on_each(lambda line: setattr(line, "lost", True))

    def say(self, message: bytes) -> None:
        """Send `message` to every client, as if its server had."""
        self._on_each(lambda line: line.writer.write(message))

    @contextmanager
    def unanswered(self, request: bytes) -> Iterator[None]:
        """Within the block swallow the answer to whatever holds `request`, and all that follows it."""
        self._unanswered = request
        try:
            yield
        finally:
            self._unanswered = None

    @contextmanager
    def cut_after(self, size: int) -> Iterator[Callable[[], bool]]:
        """Within the block `size` more bytes pass, in both directions; then every connection ends with RST.

        It happens once: connections that are made afterwards pass. Told is whether it has happened.
        """
        with self.interrupted_after(size, self._cut) as happened:
            yield happened

    @contextmanager
    def silent_after(self, size: int) -> Iterator[Callable[[], bool]]:
        """`cut_after`, with connections that say nothing more in place of the reset."""
        with self.interrupted_after(size, self._lose) as happened:
            yield happened

    @contextmanager
    def interrupted_after(
        self, size: int, act: Callable[[], Coroutine[None, None, bool]]
    ) -> Iterator[Callable[[], bool]]:
        """Within the block `act` once after `size` more bytes; its result tells whether the rest passes."""
        self._allowance, self._act = size, act
        try:
            yield lambda: self._allowance is None
        finally:
            self._allowance = None

    @contextmanager
    def down(self) -> Iterator[None]:
        """Within the block the port is closed: connecting is refused by the operating system."""
        self._do(self._close_server())
        try:
            yield
        finally:
            self._do(self._listen(self.port))

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Within the block everything is swallowed, on old connections and new ones; then all are closed."""
        self.mode = "hole"
        try:
            yield
        finally:
            self.forget()
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

    def _on_each(self, act: Callable[[_Line], object]) -> None:
        async def each() -> None:
            for line in list(self._lines):
                with suppress(OSError):
                    act(line)
            # The loop does what was asked of a transport in its next round.
            await asyncio.sleep(0)

        self._do(each())

    def _do(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close_server(self) -> None:
        assert self._server is not None
        self._server.close()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._close_server())
        self.mode = "pass"
        for line in self._lines:
            _abort(line.writer)
        self._loop.run_until_complete(asyncio.gather(*self._tasks))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        with suppress(OSError, asyncio.IncompleteReadError, _EndedInHandshakeError):
            await self._serve(reader, writer)
        self._tasks.discard(task)
        _abort(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "refuse":
            return
        line = _Line(writer)
        self._lines.add(line)
        try:
            await self._connect(reader, writer, line)
        finally:
            self._lines.discard(line)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: _Line) -> None:
        if self._tls:
            request = await reader.readexactly(len(SSL_REQUEST))
            assert request == SSL_REQUEST, "the client did not ask for TLS"
            await self._passable()
            writer.write(b"S")
            await _start_tls(writer, self._tls)
        far_reader, far_writer = await asyncio.open_connection(*self.upstream)
        try:
            outward = asyncio.create_task(self._pump(reader, far_writer, line, outward=True))
            inward = asyncio.create_task(self._pump(far_reader, writer, line))
            await asyncio.wait([outward, inward], return_when="FIRST_COMPLETED")
            if line.lost or line.mute:
                # The server's last message is swallowed too.
                await outward
        finally:
            _abort(far_writer)
            _abort(writer)
            await asyncio.gather(outward, inward)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        line: _Line,
        *,
        outward: bool = False,
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if outward and line.heard:
                    self.flights += 1
                line.heard = not outward
                if outward and self._unanswered is not None and self._unanswered in data:
                    line.mute = True
                await self._passable()
                await asyncio.sleep(self.latency_seconds)
                if line.lost or (line.mute and not outward):
                    continue
                await self._pass_on(data, sink)

    async def _pass_on(self, data: bytes, sink: asyncio.StreamWriter) -> None:
        size = self.slice_bytes or len(data)
        allowed = len(data) if self._allowance is None else self._allowance
        for start in range(0, min(len(data), allowed), size):
            if start:
                await asyncio.sleep(self.latency_seconds)
            sink.write(data[start : min(start + size, allowed)])
            await sink.drain()
        self.bytes_passed += min(len(data), allowed)
        if self._allowance is None:
            return
        self._allowance -= min(len(data), allowed)
        if allowed < len(data):
            self._allowance = None
            if await self._act():
                sink.write(data[allowed:])
                await sink.drain()

    async def _cut(self) -> bool:
        for line in list(self._lines):
            _abort(line.writer)
        return False

    async def _lose(self) -> bool:
        for line in self._lines:
            line.lost = True
        return False

    async def _passable(self) -> None:
        while self.mode == "hole":  # noqa: ASYNC110  (any thread may set it)
            await asyncio.sleep(0.01)


class _EndedInHandshakeError(Exception):
    """The connection was reset while TLS began."""


async def _start_tls(writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
    transport = writer.transport
    try:
        await writer.start_tls(context)
    except AttributeError:
        # asyncio's, of the transport that it took away.
        writer._transport = transport  # type: ignore[attr-defined]  # noqa: SLF001
        raise _EndedInHandshakeError from None


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with RST rather than FIN, so that nothing lingers."""
    raw = writer.get_extra_info("socket")
    with suppress(OSError, AttributeError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
