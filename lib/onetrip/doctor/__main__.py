"""The doctor's command line: a line for each check, a remedy below where one is needed, and an exit code."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..settings.checked import CheckedSettings
    from .result import Finding

ALL_GOOD, WARNINGS, WRONG, INTERRUPTED = 0, 1, 2, 130
_MARKS = {"ok": "✓", "warning": "!", "wrong": "✗"}
# For terminals without these characters.
_PLAIN_MARKS = {"ok": "+", "warning": "!", "wrong": "x"}


def main(arguments: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Examine the project at `root` (the current folder if none is given) and report.

    Return 0 if all is good, 1 if there are warnings, 2 if something is wrong.
    """
    # The checks report; log lines and warnings on stderr would repeat it.
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    try:
        return _report(arguments, root or Path.cwd())
    except ImportError as error:
        print(f"[x] {error.name or 'a package'} is not installed\n    Run make install.", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader closed the pipe (`| head`): discard the buffered rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return WRONG
    finally:
        logging.disable(logging.NOTSET)


def _report(arguments: Sequence[str] | None, root: Path) -> int:
    from .checks import IDS, examine  # noqa: PLC0415
    from .context import Case  # noqa: PLC0415  (here, where a missing package is reported)

    options = _options(arguments, IDS)
    if options.code:
        from .code.report import findings as read  # noqa: PLC0415  (as above)

        found = dict(read(options.code))
        return (
            _print_json(found)
            if options.json
            else _print_lines(found.items(), max(map(len, found), default=0))
        )
    findings = examine(Case(root, options.instances, _own(options.own)), options.only)
    if options.json:
        return _print_json(dict(findings))
    return _print_lines(findings, max(map(len, IDS)))


def _options(arguments: Sequence[str] | None, ids: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}",
        description="Finds what is wrong and names the remedy. It changes nothing and shows no secret.",
        epilog="Exit codes: 0 all is good, 1 there are warnings, 2 something is wrong.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument(
        "--only", nargs="+", choices=ids, default=[], metavar="ID", help=f"only these: {', '.join(ids)}"
    )
    parser.add_argument(
        "--code", type=Path, metavar="PATH", help="read the code of a folder or file instead, by line"
    )
    parser.add_argument(
        "--instances", type=_count, metavar="N", help="processes there will be, for the check budget"
    )
    parser.add_argument(
        "--own", metavar="MODULE:NAME", help="the application's own settings, checked with the others"
    )
    return parser.parse_args(arguments)


def _own(name: str | None) -> Sequence[type[CheckedSettings]]:
    """The application's own settings that an argument names, if there is one."""
    from ..settings.own import named  # noqa: PLC0415  (here, where a missing package is reported)

    return named(name) if name else ()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number from 1")
    return int(text)


def _print_lines(findings: Iterable[tuple[str, Finding]], width: int) -> int:
    marks = _MARKS if _can_print("✓✗→") else _PLAIN_MARKS
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    seen: dict[str, Finding] = {}
    for name, found in findings:
        seen[name] = found
        if found.status == "skipped":
            continue
        print(f"[{marks[found.status]}] {name:{width}}  {found.says}", flush=True)
        if found.remedy:
            print(f"    {'':{width}}  {'→' if marks is _MARKS else '>'} {found.remedy}", flush=True)
    print(_summary(seen))
    return _exit_code(seen.values())


def _print_json(findings: dict[str, Finding]) -> int:
    checks = [
        {"id": name, "status": found.status, "says": found.says, "remedy": found.remedy}
        for name, found in findings.items()
    ]
    code = _exit_code(findings.values())
    print(json.dumps({"status": ("ok", "warning", "wrong")[code], "checks": checks}, indent=2))
    return code


def _summary(findings: dict[str, Finding]) -> str:
    statuses = [found.status for found in findings.values()]
    wrong, warned = statuses.count("wrong"), statuses.count("warning")
    lines = [f"{wrong} wrong, {warned} to look at" if wrong or warned else "All is good"]
    if left_out := [name for name, found in findings.items() if found.status == "skipped"]:
        lines.append(f"not checked, because an earlier check failed: {', '.join(left_out)}")
    return "; ".join(lines) + "."


def _exit_code(findings: Iterable[Finding]) -> int:
    statuses = {found.status for found in findings}
    return WRONG if "wrong" in statuses else WARNINGS if "warning" in statuses else ALL_GOOD


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
