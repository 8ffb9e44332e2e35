"""The state of a process: made once, forgotten together, usable in a forked child."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import pytest

from lib.onetrip import database, reset
from lib.onetrip.connection import early
from lib.onetrip.connection.source import source_for
from lib.onetrip.process import Process, process
from lib.onetrip.settings.settings import Settings, get_settings

# An unused server: nothing connects to it.
URL = "postgresql://user@127.0.0.1:1/process"
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
# Python warns of forking beside threads, which is the case that is tried.
among_threads = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


def test_reset_forgets_everything_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a reset settings, database and times are new ones, and no early connection is left."""
    monkeypatch.setenv("DATABASE_URL", URL)
    before = (get_settings(), database(), process.cold_start)
    process.cold_start.requests = 7
    early._start(source_for(get_settings()))  # noqa: SLF001  (elsewhere it begins on platforms alone)
    reset()
    after = (get_settings(), database(), process.cold_start)
    reset()
    assert all(new is not old for new, old in zip(after, before, strict=True))
    assert after[2].requests == 0
    assert process.early_connection is None


def test_a_failure_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that could not be read are read again by the next use."""
    fresh: Process = Process()

    def refuse() -> Settings:
        raise LookupError

    with pytest.raises(LookupError):
        fresh.settings.get(refuse)
    monkeypatch.setenv("DATABASE_URL", URL)
    assert isinstance(fresh.settings.get(Settings), Settings)


@needs_fork
@among_threads
def test_a_child_makes_what_a_thread_of_its_parent_was_making(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork in the midst of making the database leaves no lock closed in the child."""
    monkeypatch.setenv("DATABASE_URL", URL)
    reset()
    begun, done = Event(), Event()

    def slowly() -> Any:
        begun.set()
        done.wait()

    thread = Thread(target=process.database.get, args=[slowly])
    thread.start()
    begun.wait()
    try:
        assert _in_child(lambda: database().url.database == "process")
    finally:
        done.set()
        thread.join()
        reset()


@needs_fork
@among_threads
def test_a_child_leaves_the_early_connection_to_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that opens it runs in the parent alone, so a child would wait for it in vain."""
    monkeypatch.setenv("DATABASE_URL", URL)
    early._start(source_for(get_settings()))  # noqa: SLF001  (elsewhere it begins on platforms alone)
    try:
        assert process.early_connection is not None
        assert _in_child(lambda: process.early_connection is None)
    finally:
        reset()


def _in_child(act: Callable[[], bool]) -> bool:
    """Return whether `act` is true in a forked child; one that hangs is ended."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if act() else 1)
        finally:
            os._exit(2)
    give_up = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < give_up:
        time.sleep(0.01)
    if ended[0] == 0:
        os.kill(child, 9)
        os.waitpid(child, 0)
        return False
    return os.waitstatus_to_exitcode(ended[1]) == 0
