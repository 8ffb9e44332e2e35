"""Counts of the reads of a hub."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """The course of reads so far."""

    sent: int = 0
    moved: int = 0
    repeated: int = 0
    lost_lines: int = 0
    out_of_step: int = 0
