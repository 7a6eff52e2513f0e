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
    ACCEPT = "accept"            #: about every new client of the contact node, too
    ASKED = "asked"              #: only by handoff() without a target
    FIRST_BYTES = "first_bytes"  #: every new client, on the node that has accepted it, when its first bytes are there: Client.head


class Policy(abc.ABC):
    """The contact node's framework asks about every new client; one that is to live elsewhere is handed off in the background and accept() does not
    return it. Calls are serialised and come from whichever thread is in the library; they must not wait (Busy). An exception is reported through
    sys.unraisablehook, and the client stays. The attributes are read once, by Framework.set_policy()."""
    when: ClassVar[When] = When.ACCEPT
    #: not asked about new clients where the group file names a policy, because that one has spread them already
    only_unplaced: ClassVar[bool] = False
    #: with FIRST_BYTES it decides when enough() says so, so many bytes are there (at most 65536), the client sends no more, or `patience` seconds (0.001
    #: to 60) are over
    first_bytes: ClassVar[int] = 4096
    patience: ClassVar[float] = 1.0

    @abc.abstractmethod
    def select_target(self, client: Client, members: Sequence[Member]) -> str | None:
        """The name of one of `members` (only nodes that can take the connection), or None: it stays here."""

    def enough(self, head: bytes) -> bool:
        """With FIRST_BYTES: decide now? Otherwise it is asked again when there are more."""
        return bool(head)

    def notify_failed_handoff(self, target: str, why: GeckoError) -> None:
        """A handoff to `target` failed; the connection is unharmed."""


class _Builtin(Policy):
    only_unplaced = True
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


class Weighted(_Builtin):
    """By the weights in the group file, exactly."""
    _name = "weighted"


class HashClient(_Builtin):
    """A client's address has its node."""
    _name = "hash-client"


class HashBytes(_Builtin):
    """The same first line, or first bytes, the same node: see hash-bytes in gecko-group.toml(5)."""
    _name = "hash-bytes"
    when = When.FIRST_BYTES


_BUILTIN = (Random, RoundRobin, LeastConnections, Weighted, HashClient, HashBytes)
_FLAGS = {When.ACCEPT: 0, When.ASKED: 1, When.FIRST_BYTES: 2}  # GECKO_POLICY_* of gecko.h
_ONLY_UNPLACED = 4


def builtin_name(policy: Policy | None) -> str | None:
    """For a policy that the library can run without Python: exactly one of the classes above, nothing derived."""
    return type(policy)._name if type(policy) in _BUILTIN and isinstance(policy, _Builtin) else None


def flags_of(policy: Policy | None) -> int:
    return 0 if policy is None else _FLAGS[policy.when] | (_ONLY_UNPLACED if policy.only_unplaced else 0)
