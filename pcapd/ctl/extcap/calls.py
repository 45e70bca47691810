"""Parses the command line with which Wireshark starts an extcap program.  Pure.

Options have the form ``--name value`` or ``--name=value``.  Newer versions may add
options: unknown ones are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, FrozenSet, Sequence

from pcapd.ctl.options import UsageProblem

__all__ = ["Call", "is_call", "parse"]

_PREFIX = "--extcap-"
#: Options without a value.
_FLAGS = frozenset(
    ("--extcap-interfaces", "--extcap-config", "--extcap-dlts", "--extcap-cleanup-postkill", "--capture")
)


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        flags: Options without a value.
        values: The other options; an empty value counts as missing.
    """

    flags: FrozenSet[str] = frozenset()
    values: Dict[str, str] = field(default_factory=dict)

    def get(self, name: str, default: str = "") -> str:
        """The stripped value of an option, or the default."""
        return self.values.get(name, "").strip() or default


def is_call(arguments: Sequence[str]) -> bool:
    """Whether Wireshark started us: no command of ours has such options."""
    return any(argument.startswith(_PREFIX) for argument in arguments)


def parse(arguments: Sequence[str]) -> Call:
    """Read the arguments, which may begin with ``extcap``, our command.

    Raises:
        UsageProblem: An option lacks its value, or an argument is not an option.
    """
    left = list(arguments[1:] if arguments[:1] == ["extcap"] else arguments)
    flags = set()
    values: Dict[str, str] = {}
    while left:
        name, equals, value = left.pop(0).partition("=")
        if not name.startswith("--"):
            raise UsageProblem(f"{name!r} is not an extcap option", "see: pcapctl extcap --help")
        if name in _FLAGS:
            flags.add(name)
        elif equals:
            values[name] = value
        elif left and not (name.startswith(_PREFIX) and left[0].startswith(_PREFIX)):
            values[name] = left.pop(0)
        elif not name.startswith(_PREFIX):
            raise UsageProblem(f"{name} has no value")
    return Call(frozenset(flags), values)
