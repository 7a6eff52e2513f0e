"""Membership of this process in one group."""
from __future__ import annotations

import socket
from types import TracebackType
from typing import TypeVar

from . import _gecko
from .members import Outcome
from .policy import Policy, builtin_name, flags_of

_Self = TypeVar("_Self", bound="Framework")


class Framework(_gecko.Framework):
    """Framework(group, *, event_loop=False, daemon=None, program=None, interface=None)

    Connects to geckod. `group`: a group's name, or its file, which is read only for the name. Every node's server opens one, joins, and listens.
    When geckod restarts later, it reconnects, joins and announces its connections by itself; calls that need geckod raise Unavailable meanwhile.

    event_loop: no thread; the program polls fileno() and calls dispatch() (gecko.aio does). daemon: geckod's socket, otherwise $GECKO_SOCKET,
    else /run/gecko/geckod.sock. program: the name in `gecko status`.

    Raises Unavailable (geckod is not running), NotFound, Denied, Invalid. `with Framework(...) as group:` closes it.
    """

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def set_policy(self, policy: Policy | None) -> None:
        """Where connections go; None: they stay. The built-in policies themselves (not what is derived from them) run without Python."""
        if policy is not None and not isinstance(policy, Policy):
            raise TypeError(f"a gecko.Policy is needed, not {policy!r}")
        name = builtin_name(policy)
        if name is not None:
            self.use_builtin_policy(name, flags_of(policy))
        else:
            self.use_policy(policy, flags_of(policy), policy.first_bytes if policy else 0, round(policy.patience * 1000) if policy else 0)

    def handoff_client(self, client: str, target: str | None = None) -> list[Outcome]:
        """Moves all connections of a client (an endpoint, or an address for all its ports), wherever they are."""
        return [Outcome(*row) for row in self.move_client(client, target)]

    def adopt(self, connection: socket.socket | int) -> _gecko.Socket:
        """A connection on the group's address that something else accepted. A socket object is empty afterwards, a number belongs to the result.

        Raises Invalid (not TCP, not on the group's address, join() is missing); then it is still the caller's."""
        if isinstance(connection, int):
            return self.adopt_fd(connection)
        adopted = self.adopt_fd(connection.fileno())
        connection.detach()
        return adopted
