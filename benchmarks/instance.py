"""A process that serves one design and takes requests over a pipe, so that no HTTP server is measured.

    python -m benchmarks.instance ours asgi

reads a JSON object from stdin for each batch of requests, and answers with one.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

from benchmarks.entrypoints import AsgiEntrypoint, Asked, invoke

EntrypointName = Literal["asgi", "lambda"]
PLATFORMS: dict[EntrypointName, dict[str, str]] = {
    "asgi": {"VERCEL": "1"},
    "lambda": {"AWS_LAMBDA_FUNCTION_NAME": "api", "AWS_REGION": "us-east-1"},
}
Variables = Mapping[str, str]
_NONE: Variables = MappingProxyType({})
READ: Asked = ("GET", "/items/1", None)


@dataclass(frozen=True)
class Batch:
    """The outcome of a batch of requests."""

    statuses: dict[str, int]
    milliseconds: list[float]
    seconds: float
    cpu_ms: float
    memory_mb: float

    @property
    def succeeded(self) -> bool:
        """True if every answer was a 2xx."""
        return bool(self.statuses) and all(status.startswith("2") for status in self.statuses)


class EndedError(Exception):
    """The process ended by itself; the text is its stderr."""


class Instance:
    """A process of a design, as a context manager."""

    def __init__(
        self,
        module: str,
        url: str,
        entrypoint: EntrypointName = "asgi",
        variables: Variables = _NONE,
        *,
        under: Sequence[str] = (),
    ) -> None:
        from tests.onetrip.environment import clean_environment  # noqa: PLC0415  (for this side only)

        command = [*under, sys.executable, "-m", "benchmarks.instance", module, entrypoint]
        environment = clean_environment(
            DATABASE_URL=url,
            JWT_SECRET_KEY="k7Qw2mZp9Xv4Tn8Rb1Yc6Hs3Jd5Lf0Ga",
            **PLATFORMS[entrypoint],
            **variables,
        )
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the process)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Self:
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._complaints.close()

    def ask(
        self,
        asked: Asked = READ,
        times: int = 1,
        at_once: int = 1,
        seconds: float = 0.0,
        pause_seconds: float = 0.0,
    ) -> Batch:
        """Make `times` requests, or requests for `seconds`, with `at_once` of them concurrently.

        `pause_seconds` are slept before each request of Lambda's entrypoint.
        """
        assert self._process.stdin is not None
        order = {
            "asked": asked,
            "times": times,
            "at_once": at_once,
            "seconds": seconds,
            "pause_seconds": pause_seconds,
        }
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Batch(**self._answer())

    def connections_to(self, port: int) -> int:
        """The number of its TCP connections to a local port."""
        files = Path(f"/proc/{self._process.pid}/fd")
        own = {str(file.readlink())[len("socket:[") : -1] for file in files.iterdir()}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" and row[9] in own for row in rows)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._complaints.seek(0)
            raise EndedError((self._complaints.read().splitlines() or ["without a word"])[-1])
        return json.loads(line)


class _Served:
    """The design inside the process, behind one of the entrypoints."""

    def __init__(self, module: str, entrypoint: EntrypointName) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        package = importlib.import_module(f"benchmarks.peers.{module}")
        self._app = package.create_app(os.environ["DATABASE_URL"])
        self._lifespan = self._app.router.lifespan_context(self._app)
        self.loop.run_until_complete(self._lifespan.__aenter__())
        self._handler = self._adapted(module) if entrypoint == "lambda" else None
        self._asgi = AsgiEntrypoint(self._app)

    def _adapted(self, module: str) -> Any:
        from mangum import Mangum  # noqa: PLC0415  (only where that entrypoint is used)

        if module == "ours":
            from lib.onetrip.aws.adapter import adapted  # noqa: PLC0415

            handler = adapted(self._app)
            asyncio.set_event_loop(self.loop)
            return handler
        return Mangum(self._app, lifespan="off")

    def batch(self, asked: Asked, times: int, at_once: int, seconds: float, pause_seconds: float) -> Batch:
        """Make requests, and record the time of each answer."""
        milliseconds: list[float] = []
        statuses: Counter[str] = Counter()

        def done(begin: float, status: int) -> None:
            milliseconds.append((time.perf_counter() - begin) * 1000)
            statuses[str(status)] += 1

        def more() -> bool:
            # One at least, however busy the machine is.
            return (
                time.perf_counter() < start + seconds or not statuses
                if seconds
                else sum(statuses.values()) < times
            )

        async def keep_asking() -> None:
            while more():
                begin = time.perf_counter()
                done(begin, await self._asgi(asked))

        async def all_together() -> None:
            await asyncio.gather(*(keep_asking() for _ in range(at_once)))

        gc.collect()
        # A mark for what counts instructions, before and after the requests.
        os.getppid()
        start, cpu = time.perf_counter(), _cpu_seconds()
        if self._handler is None:
            self.loop.run_until_complete(all_together())
        else:
            while more():
                if pause_seconds:
                    time.sleep(pause_seconds)
                begin = time.perf_counter()
                done(begin, invoke(self._handler, asked))
        taken, cpu = time.perf_counter() - start, _cpu_seconds() - cpu
        os.getppid()
        rounded = [round(each, 3) for each in milliseconds]
        return Batch(dict(statuses), rounded, taken, cpu * 1000, memory_mb())

    def close(self) -> None:
        """Shut the application down as a server would."""
        self.loop.run_until_complete(self._lifespan.__aexit__(None, None, None))


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def memory_mb() -> float:
    """Return the peak memory of this process; `getrusage` would include its parent's."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return (peaks or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])[0] / 1024


def main() -> None:
    """Serve until stdin ends."""
    answers = sys.stdout
    # Log lines are written and discarded.
    with Path(os.devnull).open("w") as sys.stdout:
        served = _Served(sys.argv[1], sys.argv[2])  # type: ignore[arg-type]
        print("{}", file=answers, flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            print(json.dumps(served.batch(**order).__dict__), file=answers, flush=True)
        served.close()


if __name__ == "__main__":
    main()
