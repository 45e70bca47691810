"""The command that captures on the far side: one line of POSIX sh.  Pure: text only.

The far side needs sh, tcpdump or dumpcap, and date.  The line consists of two scripts.

The first script (`_FIND`) runs as the user.  It finds the program that captures, and how it gets
the permission to capture:

* as the user (root, or a program with file capabilities);
* by running the second script as root, if sudo permits ``sudo -n sh``;
* by running only the program as root, if sudo permits only that.  A user cannot signal a
  program that runs as root, so this one runs in a terminal of its own (script(1)):
  the terminal's interrupt character stops it, and when the terminal hangs up, it ends.

The second script (`_CAPTURE`) answers times, so that the near side can measure the clock, until
it is told to start.  Then it runs the program beside two subshells.  One reads commands from
stdin, and stops the program at their end.  The other waits for the heartbeat, which is any
question for the time: if none came for `HEARTBEAT_LIMIT` seconds, the near side is gone without
a word (its machine has lost power, or the network is cut), and everything is killed.

The scripts' own lines on stderr begin with `MARK`; all other lines are the program's or ssh's.
On stdout, everything up to the line `MARK` was printed by the user's login files.

Login shells other than sh (csh, fish) read the line too.  So it has no newline, and no quoted
``\\\\`` or ``\\'``, which fish reads otherwise: `_quoted` puts the user's backslashes outside quotes.
"""

from __future__ import annotations

import shlex
from typing import Final, Optional

from pcapd.errors import PcapdError

__all__ = [
    "HEARTBEAT_LIMIT",
    "LISTING",
    "MARK",
    "SYSFS_LISTING",
    "FilterProblem",
    "check_filter",
    "command",
    "effective_filter",
]

#: First word of the scripts' lines.
MARK: Final = "@pcapctl"
#: Seconds without heartbeat after which the far side stops by itself; 5 seconds later it is killed.
HEARTBEAT_LIMIT: Final = 18
_BEATS = HEARTBEAT_LIMIT // 2
#: Size of the kernel's ring in KiB, for tcpdump, and in MiB, for dumpcap.
_RING_KIB, _RING_MIB = 16384, 16
#: tcpdump's arguments up to the interface: write each packet at once, not promiscuous.
_TCPDUMP = f"-U -p -B {_RING_KIB}"

_FIND = (
    "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export PATH LC_ALL=C; "
    f'say() {{ printf "{MARK} %s\\n" "$*" >&2; }}; '
    "body=$1 device=$2 snaplen=$3 filter=$4 include=$5 tool=$6; "
    'port=${SSH_CONNECTION##* }; say hello "${port:-none}"; '
    'if [ -z "$tool" ]; then '
    "tool=$(command -v tcpdump || command -v dumpcap) || { say missing; exit 1; }; fi; "
    # Without a name: the interface of the default route, or else the first of the list.
    'if [ -z "$device" ]; then '
    'device=$(ip route show default 2>/dev/null | sed -n "s/.* dev //; s/ .*//p; q"); '
    '[ -n "$device" ] || device=$("$tool" -D 2>/dev/null </dev/null '
    '| sed "s/^[0-9]*[.] *//; s/ .*//; q"); fi; '
    "case $include:$port in no:[0-9]*) "
    'filter="not tcp port $port${filter:+ and ($filter)}";; esac; '
    "how=direct; "
    'case $tool in */cf-pcap) [ -x "$tool" ] || { say lacking; exit 1; };; *) '
    'problem=$("$tool" -p -i "$device" -L 2>&1 </dev/null) || case $problem in '
    "*ermi*) command -v sudo >/dev/null || { say denied; exit 1; }; "
    "if sudo -n -l sh >/dev/null 2>&1 </dev/null && sudo -n sh -c : >/dev/null 2>&1 </dev/null; "
    "then how=root; "
    f'elif sudo -n -l "$tool" {_TCPDUMP} -i "$device" -s "$snaplen" -w - -- "$filter" '
    ">/dev/null 2>&1 </dev/null; then how=terminal; "
    "command -v script >/dev/null || { say unscripted; exit 1; }; "
    "else say denied; exit 1; fi;; "
    '*) printf "%s\\n" "$problem" >&2; say refused; exit 1;; esac;; esac; '
    'version=$("$tool" --version 2>&1 </dev/null | sed "s/.*version //; s/[^0-9.].*//; q"); '
    'say tool "$how" "$(uname -s)" "$tool" "${version:-0}" "$device"; '
    'set -- pcapctl "$how" "$device" "$snaplen" "$filter" "$tool"; '
    'if [ $how = root ]; then exec sudo -n sh -c "$body" "$@"; else exec sh -c "$body" "$@"; fi'
)

_CAPTURE = (
    "how=$1 device=$2 snaplen=$3 filter=$4 tool=$5; exec 3<&0; "
    f'now() {{ printf "{MARK} time %s %s\\n" "$1" "${{EPOCHREALTIME:-$(date +%s.%N)}}" >&2; }}; '
    # Times, until `go`.
    'while word=; read -r word id; do case $word in t) now "$id";; go) break;; esac; done; '
    '[ "$word" = go ] || exit 0; '
    f'printf "{MARK}\\n"; '
    # Kills the program, and all processes of this script.  In a container they are in the process group of
    # its ssh server, which must go on: there, the script ends them itself.
    "end() { kill -KILL $pid 2>/dev/null; "
    "case $tool in */cf-pcap) kill -TERM $$;; *) kill -KILL 0;; esac; }; "
    'watch() { trap "n=0" USR2; n=0; '
    f"while [ $n -lt {_BEATS} ]; do sleep 2 & wait $!; n=$((n+1)); done; "
    '[ -z "$pid" ] || kill -INT "$pid"; sleep 3; end; }; '
    'hear() { while read -r word id; do case $word in t) now "$id"; kill -USR2 "$dog";; '
    'u) kill -USR1 "$pid";; stop) "$@";; esac; done; "$@"; sleep 5; end; }; '
    f'over() {{ printf "{MARK} end %s\\n" $1 >&2; }}; '
    'quit() { kill -INT "$pid"; }; key() { printf "\\003"; }; pid=; '
    # A terminal of its own, for a program that only root may signal.
    "if [ $how = terminal ]; then "
    "exec 4>&1 5>&2; export tool device snaplen filter; "
    'trap "" USR2; watch >/dev/null 2>&1 </dev/null 3<&- 4>&- 5>&- & dog=$!; '
    # At its end all processes of this script are killed, because the pipeline waits for `hear`.
    "hear key <&3 4>&- | { SHELL=/bin/sh script -qec "
    f'\'exec sudo -n "$tool" {_TCPDUMP} -i "$device" -s "$snaplen" -w - -- "$filter" >&4 2>&5 3<&-\' '
    "/dev/null >/dev/null; over $?; kill -KILL 0; }; "
    "else "
    "case $tool in "
    '*/cf-pcap) set -- "$tool" -interface "$device" -snaplen "$snaplen" -filter "$filter";; '
    f'*dumpcap) set -- "$tool" -q -p -P -B {_RING_MIB} -i "$device" -s "$snaplen" -f "$filter" -w -;; '
    f'*) set -- "$tool" {_TCPDUMP} -i "$device" -s "$snaplen" -w - -- "$filter";; esac; '
    # Without PIPE, this script would not end the others when nobody reads its last words.
    '"$@" </dev/null 3<&- & pid=$!; trap "" USR2 PIPE; '
    "watch >/dev/null 2>&1 </dev/null 3<&- & dog=$!; "
    "hear quit <&3 >/dev/null & ear=$!; "
    'trap "kill -KILL $ear $dog 2>/dev/null; exit 1" TERM; '
    "wait $pid; over $?; kill $ear $dog 2>/dev/null; fi"
)

#: The command that lists the interfaces of a host, as tcpdump does.
LISTING: Final = "exec sh -c " + shlex.quote(
    "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; LC_ALL=C; export PATH LC_ALL; "
    "tool=$(command -v tcpdump || command -v dumpcap) "
    '|| { echo "there is neither tcpdump nor dumpcap" >&2; exit 1; }; exec "$tool" -D'
)
#: The same for a container without these programs (sysfs, see sysfs-class-net).
SYSFS_LISTING: Final = "exec sh -c " + shlex.quote(
    'n=0; for path in /sys/class/net/*; do n=$((n+1)); echo "$n.${path##*/}"; done'
)


class FilterProblem(PcapdError):
    """The filter cannot be sent to the far side."""


def check_filter(text: str) -> None:
    """Refuse a filter that would end the parentheses which are put around it.

    Such a filter, for example ``tcp) or (udp``, would undo the exclusion of the ssh connection.

    Raises:
        FilterProblem: The parentheses are not balanced, or there is a control character.
    """
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
    if depth != 0:
        raise FilterProblem("the parentheses in the filter are not balanced")
    if not text.isprintable():
        raise FilterProblem("the filter contains a control character, such as a newline")


def effective_filter(text: str, *ports: Optional[int]) -> str:
    """The filter that the far side uses.

    Args:
        text: The user's filter.
        ports: The ssh server's ports, which are excluded; None stands for no port.
    """
    parts = [f"not tcp port {port}" for port in ports if port is not None]
    return " and ".join([*parts, f"({text})"] if parts and text else parts) or text


def command(device: str, snaplen: int, filter_text: str, *, include_ssh: bool = False, tool: str = "") -> str:
    """The far side's command, as one line for its login shell.

    Args:
        device: Name of the interface.
        snaplen: Bytes to keep of each packet.
        filter_text: The user's BPF filter, checked by `check_filter`.
        include_ssh: Whether to capture also the port of the ssh server.
        tool: Path of the program that captures; empty to look for tcpdump, then dumpcap.
    """
    include = "yes" if include_ssh else "no"
    words = (_FIND, "pcapctl", _CAPTURE)
    given = (device, str(snaplen), filter_text, include, tool)
    return "exec sh -c " + " ".join([*map(shlex.quote, words), *map(_quoted, given)])


def _quoted(word: str) -> str:
    """A word for every login shell: in fish, a backslash also escapes inside single quotes."""
    return "\\\\".join(map(shlex.quote, word.split("\\")))
