"""What a capture needs to know, checked before anything starts."""

from __future__ import annotations

import datetime
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Tuple

from pcapd.errors import PcapdError
from pcapd.limits import OPEN_TIMEOUT, SNAPLEN_DEFAULT
from pcapd.records import Form
from pcapd.wire import Request

__all__ = ["Access", "CaptureOptions", "UsageProblem", "default_output", "read_token"]

STDOUT = "-"
_CLASSIC_SUFFIXES = (".pcap", ".cap", ".dmp")


class UsageProblem(PcapdError):
    """The command line asks for something that cannot be: exit status 2."""


@dataclass(frozen=True)
class Access:
    """How the api is reached.

    Attributes:
        api: Its URL.
        ca: Who must have signed its certificate; None trusts the system's authorities.
    """

    api: str
    token: Optional[str] = field(repr=False)
    ca: Optional[Path] = None


@dataclass(frozen=True)
class CaptureOptions:
    """The options that all captures share.

    Attributes:
        output: A path, or ``-`` for standard output.
        count: Packets after which the capture stops.
        duration: Seconds after which it does.
        max_bytes: Bytes that the file may have.
    """

    output: str
    form: Form
    filter: str = ""
    interfaces: Tuple[str, ...] = ()
    snaplen: int = SNAPLEN_DEFAULT
    count: Optional[int] = None
    duration: Optional[float] = None
    max_bytes: Optional[int] = None
    ordered: bool = True
    force: bool = False
    quiet: bool = False
    verbose: bool = False
    json: bool = False

    def request(self, targets: Tuple[str, ...]) -> Request:
        """START for these targets.

        Raises:
            UsageProblem: It could not be sent.
        """
        try:
            return Request(
                targets=targets,
                interfaces=self.interfaces,
                filter=self.filter,
                snaplen=self.snaplen,
                # The api ends it too, should we be unable to; it counts from START.
                duration=self.duration + OPEN_TIMEOUT if self.duration else None,
            )
        except ValueError as error:
            raise UsageProblem(str(error)) from error


def choose_form(given: Optional[str], output: str) -> Form:
    """The format: as asked for, else by the file's suffix, else pcapng."""
    if given is not None:
        return Form[given.upper()]
    return Form.PCAP if Path(output).suffix.lower() in _CLASSIC_SUFFIXES else Form.PCAPNG


def default_output(name: str, given: Optional[str], now: datetime.datetime) -> str:
    """``NAME-YYYYMMDDTHHMMSSZ.pcapng`` in the current directory."""
    stem = re.sub(r"[^\w.-]", "_", name)
    return f"{stem}-{now:%Y%m%dT%H%M%SZ}.{given or 'pcapng'}"


def read_token(token_file: Optional[Path]) -> str:
    """The user's token, from the file or from PCAP_TOKEN.

    Raises:
        UsageProblem: There is none.
    """
    if token_file is not None:
        try:
            token = token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise UsageProblem(f"cannot read the token from {token_file}: {reason}") from error
    else:
        token = os.environ.get("PCAP_TOKEN", "").strip()
    if not token:
        raise UsageProblem("no token", "set PCAP_TOKEN, or name a file with --token-file")
    if not token.isascii() or not token.isprintable():
        raise UsageProblem("the token holds characters that no token has")
    return token
