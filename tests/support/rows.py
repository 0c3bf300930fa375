"""The rows of our lists of bad input (C05) and of faults (F05), as tests and pages name them."""

import re


def marks_of(text: str, letter: str) -> set[str]:
    """Return the rows of one list that a text names, be it as C05, in the name of a test or in that of an object."""
    return {mark.upper() for mark in re.findall(rf"(?i)(?<![a-z0-9]){letter}\d\d(?![a-z0-9])", text)}
