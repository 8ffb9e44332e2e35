"""The server of a Python Web Function: it listens where the environment says, for the callable that it names.

AWS manages that server and does not say which one it is; this one is uvicorn.
"""

from __future__ import annotations

import os
import sys

import uvicorn


def main() -> None:
    """Serve the entry point `[asgi:]module:callable` until told to stop."""
    host, _, port = os.environ["AWS_LAMBDA_HTTP_ENDPOINT"].rpartition(":")
    entrypoint = os.environ.get("AWS_LAMBDA_PYTHON_ENTRYPOINT", "main:app").removeprefix("asgi:")
    sys.path.insert(0, os.environ.get("LAMBDA_TASK_ROOT", "."))
    uvicorn.run(entrypoint, host=host, port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
