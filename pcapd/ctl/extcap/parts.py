"""What an interface consists of in Wireshark's dialog.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

__all__ = ["Argument", "Choice", "Interface"]


class Choice(NamedTuple):
    """One value of a selector."""

    value: str
    display: str
    default: bool = False


@dataclass(frozen=True)
class Argument:
    """One field of the dialog.

    Attributes:
        call: The option with which Wireshark returns its value.
        type: extcap's type: string, selector, fileselect, integer, boolean.
        range: The range of an integer.
        reload: Show a button that reloads the choices.
        choices: The choices of a selector.
    """

    call: str
    display: str
    tooltip: str
    type: str = "string"
    group: str = "Capture"
    default: str = ""
    placeholder: str = ""
    required: bool = False
    range: Optional[Tuple[int, int]] = None
    reload: bool = False
    validation: str = ""
    choices: Tuple[Choice, ...] = ()


@dataclass(frozen=True)
class Interface:
    """One of pcapctl's interfaces in Wireshark's list."""

    value: str
    display: str
    arguments: Tuple[Argument, ...]
