"""The version of the operator, where everything can read it without package metadata; a test compares it with
pyproject.toml.
"""

from typing import Final

VERSION: Final = "0.1.0"
