"""How far a connection was when its node died."""
from __future__ import annotations

from typing import NamedTuple

from . import _gecko


class Checkpoint(NamedTuple):
    """The dead program's last Socket.save_checkpoint()."""
    state: bytes
    input: int           #: bytes that it had read,
    output: int          #: and written, when it was made


class Recovery(NamedTuple):
    """Of Socket.recovery(). All numbers are bytes since the connection's birth, on whatever nodes.

    What the dead program had written after its checkpoint, sent - checkpoint.output, is not to be written again (if negative: so much of it is);
    what it had read after it, received - checkpoint.input, is gone. Who cannot go on from there closes the connection.
    """
    received: int        #: taken by the dead node: the next byte read is the one after
    sent: int            #: received by the client: the next byte written must be the one after
    checkpoint: Checkpoint | None


_gecko.set_recovery_types(Recovery, Checkpoint)
