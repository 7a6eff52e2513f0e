"""What can go wrong, as exceptions. Each has a code of gecko.h and a text that says what to do; where Python has a fitting exception, the class is
that one too, so `except TimeoutError` works as expected."""
from __future__ import annotations

import enum
from typing import ClassVar

from . import _gecko


class Code(enum.IntEnum):
    """enum gecko_code of the C interface."""
    INTERNAL = -1
    INVALID = -2
    NOT_FOUND = -3
    REFUSED = -4
    BUSY = -5
    UNAVAILABLE = -6
    TIMEOUT = -7
    PERMISSION = -8
    LIMIT = -9
    UNSUPPORTED = -10
    CLOSED = -11
    MOVED = -12
    EXISTS = -13
    VERSION_MISMATCH = -14
    AGAIN = -15


class GeckoError(Exception):
    """Everything that this package raises by itself."""
    code: ClassVar[Code] = Code.INTERNAL

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message  #: what happened, where, and what can be done

    def __str__(self) -> str:
        return self.message


class Internal(GeckoError):
    """The world broke in a way nobody can act on: see the text."""


class Invalid(GeckoError, ValueError):
    """An argument is malformed or does not fit the moment; also: the object was made before fork()."""
    code = Code.INVALID


class NotFound(GeckoError, LookupError):
    """No such node, group, file."""
    code = Code.NOT_FOUND


class Refused(GeckoError):
    """The other side said no."""
    code = Code.REFUSED


class Busy(GeckoError):
    """Another operation on the same thing is running, or a call that waits was made inside a callback."""
    code = Code.BUSY


class Unavailable(GeckoError, ConnectionError):
    """geckod or a node cannot be reached. Connections go on."""
    code = Code.UNAVAILABLE


class Timeout(GeckoError, TimeoutError):
    """The time is over. A handoff is then still on its way."""
    code = Code.TIMEOUT


class Denied(GeckoError, PermissionError):
    """This user may not do this: [rights] in the group file."""
    code = Code.PERMISSION


class LimitReached(GeckoError):
    """A limit of docs/api.md or of the process."""
    code = Code.LIMIT


class Unsupported(GeckoError):
    """Not possible with this connection, kernel or library."""
    code = Code.UNSUPPORTED


class Closed(GeckoError, ConnectionError):
    """The connection has ended (reset, lost), or the object has been closed."""
    code = Code.CLOSED


class Moved(GeckoError):
    """The connection lives on another node now: close the socket, nothing else is to be done."""
    code = Code.MOVED


class Exists(GeckoError):
    """There is one already."""
    code = Code.EXISTS


class VersionMismatch(GeckoError):
    """geckod and this library do not understand each other."""
    code = Code.VERSION_MISMATCH


class Again(GeckoError, BlockingIOError):
    """Nothing can be done now (timeout 0)."""
    code = Code.AGAIN


_classes = (Internal, Invalid, NotFound, Refused, Busy, Unavailable, Timeout, Denied, LimitReached, Unsupported, Closed, Moved, Exists,
            VersionMismatch, Again)
BY_CODE: dict[int, type[GeckoError]] = {int(c.code): c for c in _classes}
_gecko.set_error_classes(BY_CODE)
