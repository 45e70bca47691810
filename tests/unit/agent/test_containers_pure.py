"""Which container is meant: hostile stores, every contradiction, and never a guess."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import replace
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.agent.containers.cellside import cell_interface, check_interfaces
from pcapd.agent.containers.choice import choose
from pcapd.agent.containers.runtime import Process, parse_process, parse_runc_state, parse_state_file
from pcapd.agent.containers.store import StoredContainer, is_handle, parse_store
from pcapd.errors import (
    BadRequest,
    CaptureFailed,
    NamespaceGone,
    NoSuchInterface,
    RequestError,
    TargetNotFound,
)
from pcapd.wire import Container

HANDLE = "5f0c2b7e-91aa-4c1e-6d3b-2f10"
APP = "a1b2c3d4-0000-4000-8000-000000000001"
TASK = "0a1b2c3d-0000-4000-8000-000000000009"
ONE = StoredContainer(HANDLE, "10.255.93.167", APP, "app", 0, "p")
TWO = StoredContainer("6" + HANDLE[1:], "10.255.93.168", APP, "app", 1, "p")


def entry(**changes: Any) -> dict[str, Any]:
    return {"handle": HANDLE, "ip": "10.255.93.167", "metadata": {}, **changes}


def parse(value: Any) -> tuple[StoredContainer, ...]:
    return parse_store(json.dumps(value).encode())


def log_config(**changes: Any) -> str:
    tags = {"process_id": "p", "process_instance_id": HANDLE, **changes.pop("tags", {})}
    return json.dumps({"guid": APP, "index": 0, "tags": tags, **changes})


# --- the store -----------------------------------------------------------------


def test_a_store_as_silk_writes_it() -> None:
    """A store as silk writes it is parsed."""
    metadata = {"app_id": APP, "container_workload": "app", "log_config": log_config()}
    assert parse({HANDLE: entry(metadata=metadata)}) == (ONE,)


@pytest.mark.parametrize("data", [b"", b"\n", b"{}"])
def test_an_empty_store(data: bytes) -> None:
    """An empty store has no containers."""
    assert parse_store(data) == ()


@pytest.mark.parametrize("data", [b"{", b"[]", b"null", b'{"a":', b"\xff", b"[" * 100_000, b'{"a":' * 50_000])
def test_what_is_no_store(data: bytes) -> None:
    """Data that is not a store raises a ValueError."""
    with pytest.raises(ValueError):
        parse_store(data)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        entry(ip="nonsense"),
        entry(ip=None),
        entry(ip=42),
        {"handle": HANDLE},
        # Where a container cannot be, or not it alone.
        *(entry(ip=ip) for ip in ("0.0.0.0", "127.0.0.1", "169.254.0.1", "224.0.0.1", "255.255.255.255")),
        *(entry(ip=ip) for ip in ("::", "::1", "fe80::1", "fd00::1%eth0", "::ffff:127.0.0.1", "010.0.0.1")),
    ],
)
def test_an_entry_that_is_not_as_it_should_be_is_left_out(value: Any) -> None:
    """One broken entry does not hide the other containers of a cell."""
    other = {**entry(), "handle": TWO.handle}
    assert [found.handle for found in parse({HANDLE: value, TWO.handle: other})] == [TWO.handle]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("FD00:0:0::1", "fd00::1")],
)
def test_an_address_has_one_spelling(written: str, meant: str) -> None:
    """Entries and requests are compared in the same spelling."""
    (found,) = parse({HANDLE: entry(ip=written, metadata={"app_id": APP})})
    assert found.address == meant
    assert choose(Container(APP, 0, address=written), [found]) == found


@pytest.mark.parametrize(
    "data",
    [
        b'{"h":{"handle":"h","ip":"10.0.0.1"},"h":{"handle":"h","ip":"10.0.0.2"}}',
        b'{"h":{"handle":"h","ip":"10.0.0.1","ip":"10.0.0.2"}}',
    ],
)
def test_a_store_with_the_same_key_twice(data: bytes) -> None:
    """A store with the same key twice is refused."""
    with pytest.raises(ValueError, match="twice"):
        parse_store(data)


@pytest.mark.parametrize("value", [entry(handle="another"), entry(handle=None)])
def test_an_entry_without_a_usable_handle_occupies_its_address(value: Any) -> None:
    """A container at the address of an entry without a usable handle is not captured."""
    other = {**entry(), "handle": TWO.handle}
    stored = parse({HANDLE: value, TWO.handle: other})
    assert stored == (StoredContainer("", ONE.address), StoredContainer(TWO.handle, ONE.address))
    for wanted in (Container(APP, 0, handle=TWO.handle), Container(APP, 0, address=ONE.address)):
        with pytest.raises(CaptureFailed, match="more than one container"):
            choose(wanted, stored)
    with pytest.raises(RequestError):
        choose(Container(APP, 0), stored[:1])


@pytest.mark.parametrize("handle", ["", ".", "..", "-x", "a/b", "a\0", "a b", "é", "x" * 129, "a\n"])
def test_what_can_be_no_handle(handle: str) -> None:
    """A string that cannot be a handle is refused, since handles become paths and arguments."""
    assert not is_handle(handle)
    assert parse({handle: entry(handle=handle)}) == (StoredContainer("", ONE.address),)


@pytest.mark.parametrize(
    "metadata", [None, [], "x", {"app_id": 1, "log_config": {"index": 0}}, {"log_config": "{"}]
)
def test_metadata_that_tells_nothing(metadata: Any) -> None:
    """Metadata without usable values leaves handle and address."""
    assert parse({HANDLE: entry(metadata=metadata)}) == (StoredContainer(HANDLE, ONE.address),)


@pytest.mark.parametrize("index", [True, -1, 1.0, "0", None, 10**30])
def test_an_index_that_is_none(index: Any) -> None:
    """An index that is not a number of an instance is left out."""
    (found,) = parse({HANDLE: entry(metadata={"log_config": log_config(index=index)})})
    assert found.index is None


def test_log_config_of_another_instance_is_not_believed() -> None:
    """A log config whose tags name another instance is ignored."""
    other = log_config(tags={"process_instance_id": TWO.handle})
    (found,) = parse({HANDLE: entry(metadata={"log_config": other})})
    assert (found.index, found.process) == (None, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


@given(
    st.dictionaries(
        st.sampled_from([HANDLE, TWO.handle, "x", "../x"]),
        JSON
        | st.fixed_dictionaries(
            {
                "handle": st.sampled_from([HANDLE, "x"]) | JSON,
                "ip": st.just("10.0.0.1") | JSON,
                "metadata": st.fixed_dictionaries(
                    {}, optional={"app_id": JSON, "log_config": JSON.map(json.dumps) | JSON}
                ),
            }
        ),
    )
)
def test_any_json_is_taken(store: Any) -> None:
    """Any JSON parses into containers with valid handles, or none."""
    for found in parse_store(json.dumps(store).encode()):
        assert not found.handle or is_handle(found.handle)
        assert not found.handle or store[found.handle]["handle"] == found.handle


@given(st.binary())
def test_any_bytes_are_taken_or_refused(data: bytes) -> None:
    """Any bytes parse, or raise a ValueError."""
    with contextlib.suppress(ValueError):
        parse_store(data)


@given(st.integers(min_value=1, max_value=400))
def test_a_beginning_of_a_store_is_never_a_store(length: int) -> None:
    """A truncated store raises a ValueError."""
    whole = json.dumps({HANDLE: entry(metadata={"app_id": APP, "log_config": log_config()})}).encode()
    if length < len(whole):
        with pytest.raises(ValueError):
            parse_store(whole[:length])


# --- the choice ----------------------------------------------------------------


@pytest.mark.parametrize("one", [ONE, TWO])
def test_each_way(one: StoredContainer) -> None:
    """Each way to name a container, alone or together with others, selects it."""
    assert one.index is not None
    ways: list[dict[str, Optional[str]]] = [
        {"handle": one.handle},
        {"address": one.address},
        {"process": "p"},
        {},
        {"handle": one.handle, "address": one.address, "process": "p"},
    ]
    for way in ways:
        assert choose(Container(APP, one.index, **way), [ONE, TWO]) == one


def test_a_whole_guid_stands_for_the_handle_that_it_is_cut_to() -> None:
    """A whole GUID selects the container whose handle is its beginning."""
    assert choose(Container(APP, 0, handle=f"{HANDLE}deadbeef"), [ONE, TWO]) == ONE


def test_a_shorter_handle_stands_for_nothing() -> None:
    """A shortened handle selects no container."""
    with pytest.raises(TargetNotFound):
        choose(Container(APP, 0, handle=HANDLE[:20]), [ONE, TWO])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (replace(ONE, address="10.0.0.9"), "its address is 10.0.0.9"),
        (replace(ONE, app="another"), "another app"),
        (replace(ONE, index=3), "it is instance 3"),
        (replace(ONE, process="q"), "another process"),
        (replace(ONE, workload="task"), "runs task"),
        (replace(ONE, workload="staging"), "runs staging"),
    ],
)
def test_a_handle_that_is_contradicted(found: StoredContainer, words: str) -> None:
    """A handle whose address or process contradicts the store is refused."""
    with pytest.raises(CaptureFailed, match=re.escape(words)):
        choose(Container(APP, 0, handle=HANDLE, address=ONE.address, process="p"), [found, TWO])


def test_what_the_store_does_not_tell_is_no_contradiction() -> None:
    """Values that the store lacks do not contradict the request."""
    bare = StoredContainer(HANDLE, ONE.address)
    assert choose(Container(APP, 0, handle=HANDLE), [bare]) == bare


def test_an_address_alone_proves_nothing() -> None:
    """An address alone does not identify a container."""
    with pytest.raises(CaptureFailed, match="which app"):
        choose(Container(APP, 0, address=ONE.address), [replace(ONE, app=None)])


@pytest.mark.parametrize("workload", ["task", "staging", "", "something new"])
@pytest.mark.parametrize("way", [{"handle": HANDLE}, {"address": ONE.address}, {}])
def test_only_apps_are_captured(workload: str, way: dict[str, str]) -> None:
    """Containers of tasks and staging are refused, whichever way they are named."""
    with pytest.raises(RequestError):
        choose(Container(APP, 0, **way), [replace(ONE, workload=workload)])


def test_a_task_is_known_by_its_handle_too() -> None:
    """A task is recognised by the form of its handle."""
    with pytest.raises(TargetNotFound):
        choose(Container(APP, 0), [replace(ONE, handle=TASK, workload=None)])


@pytest.mark.parametrize(
    "other",
    [replace(TWO, index=0), replace(TWO, index=0, process=None)],
    ids=["same process", "unknown process"],
)
def test_two_that_fit_are_refused(other: StoredContainer) -> None:
    """Two containers that fit one request are refused."""
    for process in ("p", None):
        with pytest.raises(CaptureFailed, match="more than one container matches"):
            choose(Container(APP, 0, process=process), [ONE, other])


def test_the_process_tells_two_apart() -> None:
    """The process GUID distinguishes two containers of one index, as in a rolling deployment."""
    other = replace(TWO, index=0, process="q")
    assert choose(Container(APP, 0, process="q"), [ONE, other]) == other


def test_an_index_is_one_of_the_same_app() -> None:
    """An index selects among the containers of one app only."""
    with pytest.raises(TargetNotFound, match="is not on this cell"):
        choose(Container(APP, 0), [replace(ONE, app="b")])


def test_without_log_config_no_index_is_guessed() -> None:
    """Without log config an index selects no container."""
    with pytest.raises(CaptureFailed, match="does not show"):
        choose(Container(APP, 0), [replace(ONE, index=None)])


def test_an_instance_that_is_known_is_chosen_beside_others_that_are_not() -> None:
    """An older container of the app, whose index nobody knows, is no reason to refuse."""
    assert choose(Container(APP, 0), [ONE, replace(TWO, index=None)]) == ONE


@pytest.mark.parametrize("way", ["handle", "address", "index", "all"])
@pytest.mark.parametrize(
    "other", [TWO, replace(TWO, app="b"), replace(TWO, app=None, index=None), replace(TWO, workload="task")]
)
def test_one_address_twice(way: str, other: StoredContainer) -> None:
    """The store does not show which of the two entries is stale: neither is captured, in any way to ask."""
    one, other = replace(ONE, app="a"), replace(other, address=ONE.address)
    for found in (one, other):
        known = {"handle": found.handle, "address": found.address, "process": found.process}
        given = {"all": known, "index": {}}.get(way, {way: known.get(way)})
        wanted = Container(found.app or APP, found.index or 0, **given)
        if way == "index" and (found.app is None or found.workload == "task"):
            continue
        with pytest.raises(CaptureFailed, match=f"{ONE.address} for more than one container") as refused:
            choose(wanted, [one, other])
        assert "restart the instance" in refused.value.hint
        # Alone it is what is wanted, or at least refused for another reason.
        with contextlib.suppress(RequestError):
            assert choose(wanted, [found]) == found


CONTAINERS = st.builds(
    StoredContainer,
    handle=st.sampled_from([HANDLE, TWO.handle, TASK]),
    address=st.sampled_from([ONE.address, TWO.address]),
    app=st.sampled_from([None, APP, "b"]),
    workload=st.sampled_from([None, "app", "task", "staging"]),
    index=st.sampled_from([None, 0, 1]),
    process=st.sampled_from([None, "p", "q"]),
)
WANTED = st.builds(
    Container,
    app=st.sampled_from([APP, "b"]),
    index=st.sampled_from([0, 1]),
    handle=st.sampled_from([None, HANDLE, TWO.handle, TASK]),
    address=st.sampled_from([None, ONE.address]),
    process=st.sampled_from([None, "p"]),
)


@given(WANTED, st.lists(CONTAINERS, max_size=4, unique_by=lambda container: container.handle))
def test_what_is_chosen_fits_in_everything_that_is_known(
    wanted: Container, stored: list[StoredContainer]
) -> None:
    """A chosen container fits every value of the request that the store knows."""
    try:
        found = choose(wanted, stored)
    except RequestError as error:
        assert error.message
        return
    assert found.runs_app
    assert [container.address for container in stored].count(found.address) == 1
    assert found.app in (None, wanted.app)
    assert found.index in (None, wanted.index)
    assert wanted.handle in (None, found.handle)
    assert wanted.address in (None, found.address)
    if wanted.handle is None:
        assert found.app == wanted.app
    if wanted.handle is None and wanted.address is None:
        assert found.index == wanted.index
        assert not [
            other for other in stored if other != found and replace(other, handle=found.handle) == found
        ]


def test_a_hostile_handle() -> None:
    """A handle with path characters is refused."""
    with pytest.raises(BadRequest):
        choose(Container(APP, 0, handle="../x"), [ONE])


# --- runc and /proc --------------------------------------------------------------


def state(**changes: Any) -> bytes:
    return json.dumps({"id": HANDLE, "pid": 42, "status": "running", **changes}).encode()


@pytest.mark.parametrize("status", ["created", "running", "paused"])
def test_a_state_with_a_process(status: str) -> None:
    """A state with a live process gives its number."""
    assert parse_runc_state(state(status=status), HANDLE) == 42


@pytest.mark.parametrize("status", ["stopped", "creating", None, 1, "<script>"])
def test_a_state_without_one(status: Any) -> None:
    """A state without a process is a missing namespace."""
    with pytest.raises(NamespaceGone):
        parse_runc_state(state(status=status, pid=0), HANDLE)


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"{}",
        b"[]",
        b"pid: 1",
        state(id="x"),
        state(pid=0),
        state(pid=True),
        state(pid="1"),
        state(pid=2**40),
    ],
)
def test_what_runc_does_not_say(output: bytes) -> None:
    """Output of runc that is not a state fails the capture."""
    with pytest.raises(CaptureFailed):
        parse_runc_state(output, HANDLE)


def test_a_state_file() -> None:
    """A state file gives process and start time, and fails with any of its values missing."""
    file = {"id": HANDLE, "init_process_pid": 42, "init_process_start": 632745, "config": {}}
    assert parse_state_file(json.dumps(file).encode(), HANDLE) == Process(42, 632745)
    for key, value in (("id", "x"), ("init_process_pid", 0), ("init_process_start", None)):
        with pytest.raises(CaptureFailed):
            parse_state_file(json.dumps({**file, key: value}).encode(), HANDLE)


@given(st.binary(max_size=64).filter(lambda name: b"\n" not in name))
def test_a_process_whose_name_is_hostile(name: bytes) -> None:
    """A process name of any bytes but line ends does not move the start time."""
    stat = b"42 (%s) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 632745 1 2 3\n" % name
    assert parse_process(stat) == 632745


@pytest.mark.parametrize(
    "stat", [b"", b"42", b"42 (x)", b"42 (x) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0"]
)
def test_what_is_no_process(stat: bytes) -> None:
    """Data that is not a stat line raises a ValueError."""
    with pytest.raises(ValueError):
        parse_process(stat)


def test_a_dead_process() -> None:
    """A zombie process has no start time."""
    assert parse_process(b"42 (x) Z 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 632745 1 2 3\n") is None


# --- the cell's side -------------------------------------------------------------


@given(st.ip_addresses(v=4).map(str))
def test_names_of_wires(address: str) -> None:
    """The name of a wire holds the container's address in 14 characters."""
    name = cell_interface(address)
    assert len(name) == 14
    assert ".".join(str(int(name[at : at + 3])) for at in (2, 5, 8, 11)) == address


def test_names_of_wires_as_documented() -> None:
    """The name of a wire is as silk documents it, and exists for IPv4 only."""
    assert cell_interface("10.255.93.167") == "s-010255093167"
    with pytest.raises(CaptureFailed):
        cell_interface("fd00::1")


def test_interfaces_from_the_cells_side() -> None:
    """From the cell's side eth0 alone is accepted."""
    check_interfaces(())
    check_interfaces(("eth0",))
    with pytest.raises(NoSuchInterface, match="lo of a container"):
        check_interfaces(("eth0", "lo"))
