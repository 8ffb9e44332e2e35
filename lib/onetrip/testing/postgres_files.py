"""Places of a local server's files: its user can reach them, and no socket's path is too long."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .postgres_programs import LocalPostgresError, give, is_reachable, unprivileged_user

# The longest path that a unix socket may have, less the name PostgreSQL gives it.
_SOCKET_FOLDER_LIMIT = 103 - len("/.s.PGSQL.65535")
# The folder for files that another user must reach, if the project is readable by root alone.
_STATE = Path("/var/lib")


@dataclass(frozen=True)
class Places:
    """The places of one server, which belongs to `folder`."""

    folder: Path

    @cached_property
    def user(self) -> str | None:
        """The user who runs the server; None for the caller, unless that is root, which it refuses.

        For root it is the owner of the data, should an ordinary user have made it.
        """
        data = self.folder / "data"
        if os.geteuid() == 0 and data.exists() and data.stat().st_uid != 0:
            with suppress(KeyError):
                return data.owner()
        return unprivileged_user()

    @cached_property
    def home(self) -> Path:
        """The folders of data and programs: `folder`, or one that the server's user can reach."""
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = self.folder.resolve()
        if self.user is None or is_reachable(folder, self.user):
            return folder
        home = _STATE / _name_for(folder)
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        return home

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.data / "server.log"

    @cached_property
    def socket_folder(self) -> Path:
        """The data directory, unless a socket's path cannot be that long, or a host's name hold its comma."""
        if len(os.fsencode(self.data)) <= _SOCKET_FOLDER_LIMIT and "," not in str(self.data):
            return self.data
        if self.user is not None:
            return _STATE / f"{_name_for(self.data)}-socket"
        name = f"{_name_for(self.data)}-{os.geteuid()}"
        places = (Path(tempfile.gettempdir()), Path("/tmp"))  # noqa: S108  (its owner is checked)
        return next(path / name for path in places if len(os.fsencode(path / name)) <= _SOCKET_FOLDER_LIMIT)

    def make_socket_folder(self) -> None:
        """Make the socket's folder, the server's user's own."""
        folder = self.socket_folder
        if folder == self.data:
            return
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.user is not None:
            give(folder, self.user)
        elif folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            raise LocalPostgresError(
                f"{folder} belongs to another user. Remove it, or clone to a shorter path."
            )

    def remove_socket_folder(self) -> None:
        """Remove the socket's folder if it is apart from the data."""
        if self.socket_folder != self.data:
            with suppress(FileNotFoundError):
                self.socket_folder.rmdir()


def _name_for(path: Path) -> str:
    return f"onetrip-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"
