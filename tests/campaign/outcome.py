"""What comes of a plan."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What came of one play; `complaint` is empty if all is as it should be."""

    plan: str
    happened: bool
    """Whether it came to what the plan says: a death, a fault. A play without it proves nothing and is not counted."""
    complaint: str = ""
