"""Which node a connection goes to. Derive from Policy, or from one of the built-in ones."""
from __future__ import annotations

import abc
import enum
from collections.abc import Sequence
from typing import ClassVar

from . import _gecko
from .errors import GeckoError
from .members import Client, Member


class When(enum.Enum):
    ACCEPT = "accept"    #: about every new client of the contact node, too
    ASKED = "asked"      #: only by handoff() without a target


class Policy(abc.ABC):
    """The contact node's framework asks about every new client; one that is to live elsewhere is handed off in the background and accept() does not
    return it. Calls are serialised and come from whichever thread is in the library; they must not wait (Busy). An exception is reported through
    sys.unraisablehook, and the client stays."""
    when: ClassVar[When] = When.ACCEPT

    @abc.abstractmethod
    def select_target(self, client: Client, members: Sequence[Member]) -> str | None:
        """The name of one of `members` (only nodes that can take the connection), or None: it stays here."""

    def notify_failed_handoff(self, target: str, why: GeckoError) -> None:
        """A handoff to `target` failed; the connection is unharmed."""


class _Builtin(Policy):
    _name: ClassVar[str]

    def __init__(self) -> None:
        self._policy = _gecko.BuiltinPolicy(self._name)

    def select_target(self, client: Client, members: Sequence[Member]) -> str | None:
        return self._policy.select(members)


class Random(_Builtin):
    _name = "random"


class RoundRobin(_Builtin):
    _name = "round-robin"


class LeastConnections(_Builtin):
    _name = "least-connections"


def builtin_name(policy: Policy) -> str | None:
    """For a policy that the library can run without Python: exactly one of the classes above, nothing derived."""
    return type(policy)._name if type(policy) in (Random, RoundRobin, LeastConnections) and isinstance(policy, _Builtin) else None
