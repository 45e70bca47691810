"""The rules of leases and epochs, whatever holders do: they stop, wake up late, take over, and write late."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pcapd.api.state.rules import Held, Term, lease_runs, may_take, may_write, need_room
from pcapd.errors import LimitReached

LEASE = 15
HOLDERS = ("one", "two", "three")
USERS = ("alice", "bob")
holders = st.sampled_from(HOLDERS)
MOST, PER_USER = 4, 2


@dataclass
class Process:
    """What a holder runs, and the epochs of each recording in which it recorded: writes may be late."""

    captures: list[Held] = field(default_factory=list)
    terms: dict[str, list[int]] = field(default_factory=dict)


class Holders(RuleBasedStateMachine):
    """Three processes with one database, which does one transaction after the other.

    The database has only what the processes write there by the rules; the model besides keeps what really
    runs, and who was ever accepted as the writer of an epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1
        self.serial = itertools.count()
        self.processes = {name: Process() for name in HOLDERS}
        #: In the database.
        self.until: dict[str, int] = {}
        self.rows: dict[str, list[Held]] = {name: [] for name in HOLDERS}
        self.terms = {name: Term(None, 0, None) for name in ("r1", "r2")}
        #: What was accepted.
        self.written: list[tuple[str, int, str]] = []
        #: Captures that ran beyond a limit when they were admitted, because their holders' leases had ended.
        self.excused: set[str] = set()

    # --- what the database is asked -----------------------------------------------

    def hold(self, holder: str) -> None:
        """Renew a lease, as each beat and each admission does."""
        self.until[holder] = self.now + LEASE

    def term(self, recording: str) -> Term:
        """A recording's term, with its holder's lease."""
        term = self.terms[recording]
        return replace(term, until_us=self.until.get(term.holder or ""))

    def counted(self) -> list[Held]:
        """The captures of holders whose leases have not ended."""
        return [
            one
            for name, rows in self.rows.items()
            if name in self.until and lease_runs(self.until[name], self.now)
            for one in rows
        ]

    # --- what happens ---------------------------------------------------------------

    @rule(seconds=st.integers(1, LEASE + 5))
    def pass_time(self, seconds: int) -> None:
        """Some holders renew meanwhile, and others do not: they hang, or are cut off."""
        self.now += seconds

    @rule(holder=holders)
    def beat(self, holder: str) -> None:
        """Renew the lease, and put the rows right."""
        self.hold(holder)
        self.rows[holder] = list(self.processes[holder].captures)

    @rule(holder=holders, user=st.sampled_from(USERS), unattended=st.booleans())
    def admit(self, holder: str, user: str, unattended: bool) -> None:
        """One more capture, if the rules have room for it."""
        self.hold(holder)
        wanted = Held(str(next(self.serial)), user, unattended)
        running = self.counted()
        try:
            need_room(running, wanted, MOST, PER_USER)
        except LimitReached:
            return
        self.excused = {one.id for one in self.running()} - {one.id for one in running}
        self.rows[holder].append(wanted)
        self.processes[holder].captures.append(wanted)

    @rule(holder=holders)
    def end_capture(self, holder: str) -> None:
        """The oldest capture ends, and the database hears of it."""
        if self.processes[holder].captures:
            ended = self.processes[holder].captures.pop(0)
            self.rows[holder] = [one for one in self.rows[holder] if one.id != ended.id]

    @rule(holder=holders)
    def die(self, holder: str) -> None:
        """The process is killed: its rows and its terms stay in the database until the lease ends."""
        self.processes[holder] = Process()

    @rule(holder=holders, recording=st.sampled_from(("r1", "r2")))
    def take(self, holder: str, recording: str) -> None:
        """Begin the next term of a recording, if the rules allow it."""
        before = self.term(recording)
        ended = before.holder is None or self.until.get(before.holder, 0) <= self.now
        assert may_take(before, holder, self.now) == (ended or before.holder == holder)
        if not may_take(before, holder, self.now):
            return
        self.terms[recording] = Term(holder, before.epoch + 1, None)
        self.processes[holder].terms.setdefault(recording, []).append(before.epoch + 1)

    @precondition(lambda self: any(one.terms for one in self.processes.values()))
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        """Write what was recorded in a term of the process, perhaps an earlier one."""
        recorded = [
            (holder, recording, epoch)
            for holder, process in self.processes.items()
            for recording, epochs in process.terms.items()
            for epoch in epochs
        ]
        holder, recording, epoch = data.draw(st.sampled_from(recorded))
        if may_write(self.term(recording), holder, epoch):
            self.written.append((recording, epoch, holder))

    # --- what must hold ---------------------------------------------------------------

    def running(self) -> list[Held]:
        """What really runs."""
        return [one for process in self.processes.values() for one in process.captures]

    @invariant()
    def limits_hold(self) -> None:
        """Beyond the limits there are only captures of holders whose leases had ended."""
        counting = [one for one in self.running() if one.id not in self.excused]
        assert len(counting) <= MOST
        for user in USERS:
            assert sum(one.identity == user and not one.unattended for one in counting) <= PER_USER

    @invariant()
    def epochs_have_one_writer(self) -> None:
        """Each epoch has one writer, and after a write no earlier epoch is written."""
        for recording in self.terms:
            epochs = [(epoch, holder) for name, epoch, holder in self.written if name == recording]
            assert epochs == sorted(epochs, key=lambda one: one[0])
            assert len({epoch for epoch, _ in epochs}) == len(set(epochs))

    @invariant()
    def one_may_write(self) -> None:
        """At most one process may write, and what it recorded in one epoch."""
        for recording in self.terms:
            term = self.term(recording)
            writers = [
                (name, epoch)
                for name, process in self.processes.items()
                for epoch in process.terms.get(recording, ())
                if may_write(term, name, epoch)
            ]
            assert len(writers) <= 1


TestHolders = Holders.TestCase
TestHolders.settings = settings(max_examples=100, stateful_step_count=30)
