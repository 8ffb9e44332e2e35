"""Processes that end when this one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lib.onetrip.testing.signals import uninterrupted

STOP_SECONDS = 10


@contextmanager
def python_child(environment: Mapping[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python for the block; its stdin is ours. Ctrl-C reaches it through us only, as SIGTERM.

    `{lifeline}` in an argument becomes the descriptor of a pipe that is closed when this process
    ends in whatever way: `wait_for_end_of` it.
    """
    lifeline, held = os.pipe()
    try:
        with uninterrupted(signal.SIGINT):
            process = subprocess.Popen(  # noqa: S603  (our own modules)
                [sys.executable, *(argument.replace("{lifeline}", str(lifeline)) for argument in arguments)],
                env=environment,
                pass_fds=[lifeline],
            )
        try:
            yield process
        finally:
            _end(process)
    finally:
        os.close(lifeline)
        os.close(held)


def wait_for_end_of(lifeline: int) -> None:
    """Return when the process that holds the other end of the pipe has ended."""
    os.read(lifeline, 1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
