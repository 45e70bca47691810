"""The state that apis share, on SQLite and on PostgreSQL: who holds what, and what happens without an answer."""

from __future__ import annotations

import contextlib
import socketserver
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults
from twisted.internet.task import Clock
from twisted.python.failure import Failure

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")

from sqlalchemy import insert, inspect, select, text, update

from demo.certificates import Authority, Credentials
from pcapd.api.state.connecting import engine_of
from pcapd.api.state.database import Database, check_database, lock
from pcapd.api.state.holding import Holding
from pcapd.api.state.opening import check
from pcapd.api.state.rules import Held
from pcapd.api.state.tables import CAPTURES, HOLDERS, META, VERSION
from pcapd.errors import ConfigError, LimitReached, StateUnavailable
from tests.kit.lab.admitters import admitted
from tests.kit.lab.postgres import Postgres
from tests.kit.unit.recordings import Inline


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One server for the module, whose default isolation is not ours."""
    with Postgres() as server:
        server.sql("ALTER ROLE pcapd SET default_transaction_isolation = 'repeatable read'")
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db"
    server: Postgres = request.getfixturevalue("server")
    server.clear()
    return server.url


class Api:
    """A process that holds captures; what it asks for is answered at once."""

    def __init__(self, url: str) -> None:
        self.database = Database(Clock(), url)  # type: ignore[arg-type]
        self.captures: list[Held] = []
        self.ended: list[tuple[str, str]] = []
        self.holding = Holding(
            Clock(),  # type: ignore[arg-type]
            self.database,
            "api",
            lambda: self.captures,
            lambda id, why: self.ended.append((id, why)),
            workers=2,
        )

    def admit(self, id: str, user: str = "alice", *, most: int = 9, unattended: bool = False) -> bool:
        """Admit a capture, two of each user at most, and run it."""
        wanted = Held(id, user, unattended, {"capture": id})
        try:
            now(self.holding.admit(wanted, most, 2))
        except LimitReached:
            return False
        self.captures.append(wanted)
        self.holding.settled(id)
        return True

    def beat(self) -> None:
        """Renew the lease."""
        now(self.holding.beat())

    def others(self) -> set[str]:
        """The captures of the others."""
        return {one.id for one in now(self.holding.others())}

    def expire(self, seconds: float = 0) -> None:
        """Let this lease have ended so long ago."""
        holder = HOLDERS.c.id == self.holding.id
        until = int((time.time() - seconds) * 1e6) - 1
        now(self.database.do(lambda it: it.execute(update(HOLDERS).where(holder).values(until_us=until))))

    def rows(self) -> set[str]:
        """All captures in the database."""
        return set(now(self.database.do(lambda it: it.execute(select(CAPTURES.c.id)).scalars().all())))


@pytest.fixture
def make(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Api]]:
    """Starts processes with one database."""
    monkeypatch.setattr("pcapd.api.state.database.deferToThreadPool", Inline())
    made: list[Api] = []

    def start() -> Api:
        made.append(Api(url))
        made[-1].beat()
        return made[-1]

    yield start
    for one in made:
        one.database.stop()


def now(deferred: Any) -> Any:
    """The result of what was done at once."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    (result,) = found
    if isinstance(result, Failure):
        result.raiseException()
    return result


# --- limits over all processes ------------------------------------------------------


def test_a_race_of_processes(url: str) -> None:
    """Of 8 processes that begin at once on an empty database, exactly as many captures pass as may."""
    assert sum(admitted(url, 8, 6, 20)) == 20
    with engine_of(url).connect() as connection:
        assert connection.execute(select(VERSION)).all() == [(1,)]
        assert set(inspect(connection).get_table_names()) >= META.tables.keys()


def test_limits_hold_over_all(make: Callable[[], Api]) -> None:
    """Captures count for their user and for all, recordings only for all, wherever they run."""
    one, two = make(), make()
    assert one.admit("a") and two.admit("b") and two.admit("r", unattended=True)
    assert not one.admit("c")
    assert one.admit("c", "bob") and not two.admit("d", "bob", most=4)
    assert one.others() == {"b", "r"} and two.others() == {"a", "c"}
    now(two.database.do(two.holding._give_up))
    assert not one.others() and one.admit("d") and one.rows() == {"a", "c", "d"}


def test_a_lease_ends_and_is_renewed(make: Callable[[], Api]) -> None:
    """What a process holds counts until its lease ends, and again as soon as it wakes up."""
    one, two = make(), make()
    assert one.admit("a") and one.admit("b")
    one.expire()
    assert two.admit("c") and two.others() == set()
    one.beat()
    assert not two.admit("d") and two.others() == {"a", "b"}
    assert one.captures and one.holding.holders == 2
    one.expire()
    assert one.admit("e", "bob"), "bob runs nothing"
    assert two.others() == {"a", "b", "e"}, "an admission renews the lease"


def test_a_beat_puts_right(make: Callable[[], Api]) -> None:
    """A beat removes what does not run, adds what does, and leaves alone what is being admitted."""
    one, two = make(), make()
    assert one.admit("gone") and one.admit("stays", "bob")
    wanted = Held("admitted", "carol", False)
    now(one.holding.admit(wanted, 9, 2))
    one.captures = [one.captures[1], Held("resumed", "bob", True)]
    one.captures[0] = Held("stays", "bob", False, {"capture": "stays", "interfaces": ("eth0",)})
    one.beat()
    assert two.others() == {"stays", "resumed", "admitted"}
    found = {held.id: held.about for held in now(two.holding.others())}
    assert found["stays"] == {"capture": "stays", "interfaces": ["eth0"]}
    one.holding.settled("admitted")
    one.beat()
    assert two.others() == {"stays", "resumed"}


def test_another_process_ends_a_capture(make: Callable[[], Api]) -> None:
    """The holder is told once, at its next beat, however long the end takes."""
    one, two = make(), make()
    assert one.admit("a")
    now(two.holding.ask_to_end("a", "ended by you"))
    one.beat()
    one.beat()
    assert one.ended == [("a", "ended by you")]


def test_who_is_forgotten(make: Callable[[], Api]) -> None:
    """A process that has not renewed for a day leaves nothing behind, and neither does a row of nobody."""
    one, two = make(), make()
    assert one.admit("a") and two.admit("b")
    one.expire(86401)
    orphan = {**two.holding._row(Held("orphan", "bob", False)), "holder": "nobody"}
    now(two.database.do(lambda it: it.execute(insert(CAPTURES).values(**orphan))))
    two.beat()
    assert two.rows() == {"b"} and two.holding.holders == 1
    one.beat()
    assert two.others() == {"a"}, "it lives, after all"


def test_a_callback_that_fails(make: Callable[[], Api], logged_failures: Any) -> None:
    """A defect in what is called after a beat is logged, and the next beats come."""
    one = make()
    one.holding.beats.append(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    one.beat()
    assert logged_failures.flush(ZeroDivisionError)
    one.expire()
    one.beat()
    assert logged_failures.flush(ZeroDivisionError)
    assert make().holding.holders == 2


# --- what fails -----------------------------------------------------------------------


def test_tables_of_another_version(make: Callable[[], Api], url: str) -> None:
    """A newer pcapd's tables are left alone: nothing is admitted, and the reason is said."""
    make()
    with engine_of(url).begin() as connection:
        connection.execute(update(VERSION).values(version=2))
    with pytest.raises((ConfigError, StateUnavailable), match=r"version 2, and this pcapd needs 1"):
        now(Api(url).holding.admit(Held("a", "alice", False), 9, 2))


@contextlib.contextmanager
def listening(banner: bytes) -> Iterator[int]:
    """Something that is no PostgreSQL, and says so; its port."""

    class Banner(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            """Say it to whoever connects."""
            self.request.sendall(banner)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Banner) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+pg8000://u:s3cret:x@h:s3cret/db", "XX"),
        ("postgresql+pg8000://u:s3c@s3cret@h:1/db", "XX"),
        ("postgresql+pg8000://h/db", "USER:PASSWORD@HOST"),
        ("postgresql+psycopg://u:s3cret@h/db", r"postgresql\+pg8000"),
        ("postgresql://u:s3cret@h/db?sslmod=require", "unknown option 'sslmod'"),
        ("postgresql://u:s3cret@h/db?sslmode=sometimes", "sslmode must be one of"),
        ("postgresql://u:s3cret@h/db?sslmode=require&sslrootcert=/x", "verify-ca or verify-full"),
        ("postgresql://u:s3cret@h/db?sslrootcert=/not/there", "No such file"),
        ("mysql://u:s3cret@h/db", "."),
        ("s3cret", "no URL"),
    ],
)
def test_urls_that_cannot_be_used(url: str, said: str, tmp_path: Path) -> None:
    """Each is refused with a reason, from a file too, and no part of the password is in it."""
    file = tmp_path / "state"
    file.write_text(f"{url}\n")
    for checked in (url, f"file:{file}"):
        with pytest.raises(ConfigError, match=said) as raised:
            check(checked)
        assert "s3c" not in str(raised.value)


def test_a_url_in_a_file(server: Postgres, tmp_path: Path) -> None:
    """A URL that can be used may be in a file, with the end of a line."""
    file = tmp_path / "state"
    file.write_text(f"{server.url}\n")
    check(f"file:{file}")
    check_database(server.url.replace("+pg8000", ""))


def test_servers_that_refuse(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is told, without the password: nobody listens, the password is wrong, it is no PostgreSQL."""
    monkeypatch.setattr("pcapd.api.state.database.deferToThreadPool", Inline())
    with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as web, listening(b"SSH-2.0-lab\r\n") as shell:
        for url, said in (
            (server.url.replace(str(server.port), "1"), "Connection refused"),
            (server.url.replace(server.password, "s3cret"), "password authentication failed"),
            (server.url.replace(str(server.port), str(web)), "."),
            (server.url.replace(str(server.port), str(shell)), "."),
            (server.url.replace("127.0.0.1", "no-such-host.invalid"), "."),
        ):
            api = Api(url)
            with pytest.raises(StateUnavailable, match=said) as raised:
                api.admit("a")
            assert "s3cret" not in str(raised.value) and server.password not in str(raised.value)
            api.beat()
            assert api.holding.troubled
            api.database.stop()


def test_a_restart_costs_no_request(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the server was restarted the next admission works."""
    monkeypatch.setattr("pcapd.api.state.database.deferToThreadPool", Inline())
    server.clear()
    api = Api(server.url)
    assert api.admit("a")
    server.restart()
    assert api.admit("b")
    server.kill()
    server.start()
    assert api.admit("c", "bob")
    api.database.stop()


def test_a_process_that_stopped_with_the_lock(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL undoes its transaction, and the others go on."""
    monkeypatch.setattr("pcapd.api.state.database.deferToThreadPool", Inline())
    monkeypatch.setattr("pcapd.api.state.connecting.STATE_IDLE_TIMEOUT", 0.5)
    server.clear()
    api = Api(server.url)
    api.beat()
    stopped = engine_of(server.url).connect()
    lock(stopped)
    stopped.execute(text("DELETE FROM holders"))
    assert api.admit("a")
    stopped.invalidate()
    api.database.stop()
    assert server.sql("SELECT count(*) FROM holders") == "1"


@pytest_twisted.ensureDeferred
async def test_a_silent_server(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask, each is refused in time, and at once when the silence is known; then all is well again."""
    reactor: Any = sys.modules["twisted.internet.reactor"]  # the real one
    for module in ("database", "connecting"):
        monkeypatch.setattr(f"pcapd.api.state.{module}.STATE_TIMEOUT", 1.0)
    server.clear()
    database = Database(reactor, server.url)
    holding = Holding(reactor, database, "api", list, lambda *_: None)
    database.start()
    try:
        await holding.beat()

        def refused(failure: Failure) -> float:
            failure.trap(StateUnavailable)
            return time.monotonic()

        def ask() -> Any:
            return holding.admit(Held("a", "alice", False), 9, 9).addErrback(refused)

        with server.frozen():
            began = time.monotonic()
            times = await gatherResults([ask() for _ in range(100)])
            assert max(times) - began < 3 and holding.troubled
            began = time.monotonic()
            await gatherResults([ask() for _ in range(100)])
            assert time.monotonic() - began < 0.5
        began = time.monotonic()
        while holding.troubled:
            await holding.beat()
        assert time.monotonic() - began < 5
        assert await ask() is None
        assert server.sql("SELECT count(*) FROM captures") == "1"
    finally:
        database.stop()


# --- TLS --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(authority: Authority) -> Iterator[tuple[Postgres, Credentials]]:
    """A server that takes only connections with TLS, and its certificate."""
    credentials = authority.issue_api()
    with Postgres(credentials) as server:
        yield server, credentials


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", ""),
        ("?sslmode=require", ""),
        ("?sslmode=verify-ca&sslrootcert={ca}", ""),
        ("?sslrootcert={ca}", ""),
        ("?sslmode=disable", "no encryption"),
        ("?sslmode=verify-full", "certificate verify failed"),
        ("?sslrootcert={foreign}", "certificate verify failed"),
    ],
)
def test_tls(
    guarded: tuple[Postgres, Credentials],
    options: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The URL says how the server is checked; a connection that should not be made is not."""
    server, credentials = guarded
    monkeypatch.setattr("pcapd.api.state.database.deferToThreadPool", Inline())
    (tmp_path / "other").mkdir()
    foreign = Authority(tmp_path / "other").certificate_path
    api = Api(server.url + options.format(ca=credentials.ca, foreign=foreign))
    try:
        if said:
            with pytest.raises(StateUnavailable, match=said):
                api.admit("a")
        else:
            wanted = text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            assert now(api.database.do(lambda it: it.execute(wanted).scalar())) is True
    finally:
        api.database.stop()
