"""A program: the seconds that a warm request of the application in this folder takes, from beginning to end.

The end of the dependencies belongs to it, as on AWS Lambda, where it is waited for after the response.
"""

import json
import sys
import time
from collections.abc import Callable

import httpx2 as httpx
import main  # type: ignore[import-not-found]  # the application's, in whose folder this runs
from fastapi.testclient import TestClient

# Requests until all is prepared and cached, and requests of which the shortest counts.
WARM, REPEATED = 3, 3


def shortest(request: Callable[[int], httpx.Response]) -> float:
    """Seconds that the request takes where nothing else disturbs it."""
    durations = []
    for number in range(WARM + REPEATED):
        begin = time.perf_counter()
        request(number).raise_for_status()
        durations.append(time.perf_counter() - begin)
    return min(durations[WARM:])


items, body = sys.argv[1], json.loads(sys.argv[2])
with TestClient(main.app) as client:
    key = client.post(items, json={"name": "first", **body}).raise_for_status().json()["id"]
    read = shortest(lambda _: client.get(f"{items.rstrip('/')}/{key}"))
    write = shortest(lambda number: client.post(items, json={"name": f"n{number}", **body}))
print(json.dumps({"read": read, "write": write}))
