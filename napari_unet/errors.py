"""The errors that a user can mend; each message is one sentence: the value, what was expected, the mend."""

from __future__ import annotations


class UnetError(Exception):
    """Anything that a user can mend.

    Not a ``RuntimeError``: superqt takes those for "the widget was deleted" and swallows them.
    """


class ImageError(UnetError):
    """An image that cannot be read, or whose axes or channels do not fit."""


class ModelFileError(UnetError):
    """A model file that is foreign, truncated, newer or hostile; or an unknown model name."""


class DataError(UnetError):
    """Training folders, masks or corrections that do not fit together."""


class DeviceError(UnetError):
    """A device that is not there or has no memory left."""


def in_words(error: UnetError | OSError | MemoryError) -> str:
    """Return a sentence about what went wrong."""
    if isinstance(error, MemoryError):
        return f"The memory is too small ({error}): close other programs, or cut the image into parts."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{str(error.filename)!r} cannot be used: {error.strerror}."
    return str(error)
