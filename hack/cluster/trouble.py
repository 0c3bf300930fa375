"""What can go wrong on somebody's machine, said in a sentence instead of a stack trace."""


class Trouble(Exception):  # noqa: N818 - it is not a defect of ours, and the message is all there is to show
    """An expected obstacle; its message names what is missing or in the way, and the way out."""
