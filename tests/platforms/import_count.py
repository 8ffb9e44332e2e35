"""A program that does what its first argument says, and reports what that took, as one JSON line.

What it counts does not depend on the machine: modules imported, and calls made, in Python or C, which
repeat to a hair.
"""

import json
import sys

calls = 0


def _count(*_: object) -> None:
    global calls  # noqa: PLW0603  (the one thing that is counted)
    calls += 1


if __name__ == "__main__":
    sys.setprofile(_count)
    exec(sys.argv[1], {})  # noqa: S102  (the tests' own words)
    sys.setprofile(None)
    print(json.dumps({"calls": calls, "modules": [name for name, module in sys.modules.items() if module]}))
