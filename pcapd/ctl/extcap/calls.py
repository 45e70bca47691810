"""What Wireshark calls an extcap program with.  Pure.

Options come as ``--name value`` or ``--name=value``, and newer versions may add some:
what is unknown is passed over.
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
        values: The other options; an empty value is as good as none.
    """

    flags: FrozenSet[str] = frozenset()
    values: Dict[str, str] = field(default_factory=dict)

    def get(self, name: str, default: str = "") -> str:
        """Value of an option without spaces around it, or the default."""
        return self.values.get(name, "").strip() or default


def is_call(arguments: Sequence[str]) -> bool:
    """Whether this is Wireshark's doing: no command of ours has such options."""
    return any(word.startswith(_PREFIX) for word in arguments)


def parse(arguments: Sequence[str]) -> Call:
    """Read the arguments, which may begin with ``extcap``, our command.

    Raises:
        UsageProblem: An option lacks its value, or something is no option.
    """
    words = list(arguments[1:] if arguments[:1] == ["extcap"] else arguments)
    flags = set()
    values: Dict[str, str] = {}
    while words:
        name, equals, value = words.pop(0).partition("=")
        if not name.startswith("--"):
            raise UsageProblem(f"{name!r} is no option of extcap", "see: pcapctl extcap --help")
        if name in _FLAGS:
            flags.add(name)
        elif equals:
            values[name] = value
        elif words and not (name.startswith(_PREFIX) and words[0].startswith(_PREFIX)):
            values[name] = words.pop(0)
        elif not name.startswith(_PREFIX):
            raise UsageProblem(f"{name} lacks its value")
    return Call(frozenset(flags), values)
