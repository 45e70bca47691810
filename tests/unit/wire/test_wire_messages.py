"""Messages: a round trip loses nothing, and what a peer gets wrong is named."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.errors import RemoteProtocolError
from pcapd.limits import (
    ADDRESSES_MAX,
    AGENT_PORTS_MAX,
    CONTROL_MAX,
    EFFECTIVE_FILTER_MAX,
    FILTER_MAX,
    INSTANCES_MAX,
    INTERFACES_MAX,
    NAME_MAX,
    OWN_ADDRESSES_MAX,
    POLICY_FILTERS_LENGTH_MAX,
    POLICY_FILTERS_MAX,
    SNAPLEN_MAX,
    TEXT_MAX,
)
from pcapd.wire import (
    ApiTraffic,
    App,
    CaptureStart,
    Container,
    Counters,
    Deployment,
    End,
    EndReason,
    Error,
    FrameType,
    Hello,
    Message,
    Notice,
    NoticeType,
    Ping,
    Pong,
    Request,
    Source,
    Stats,
    Stop,
    decode,
    encode,
)

texts = st.text(max_size=20)
names = st.text(
    st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), min_size=1, max_size=NAME_MAX
)
counts = st.integers(0, 2**63 - 1)
ports = st.integers(1, 65535)
addresses = st.ip_addresses().map(str)
interfaces = st.lists(names, max_size=INTERFACES_MAX, unique=True).map(tuple)
snaplens = st.integers(1, SNAPLEN_MAX)
address_lists = st.lists(addresses, max_size=OWN_ADDRESSES_MAX + 1).map(tuple)
port_lists = st.lists(ports, max_size=AGENT_PORTS_MAX).map(tuple)
traffic = st.builds(ApiTraffic, address_lists, ports, st.none() | addresses, port_lists)
counters = st.builds(Counters, counts, counts, counts, counts, counts)
indices = st.integers(0, INSTANCES_MAX - 1)
apps = st.builds(App, names, names, st.lists(indices, max_size=4, unique=True).map(tuple))
containers = st.builds(Container, names, indices, st.none() | names, st.none() | addresses, st.none() | names)
members = st.lists(names, max_size=3, unique=True).map(tuple)
deployments = st.builds(Deployment, names, members, members)
targets = st.lists(names, min_size=1, max_size=4).map(tuple)

# A namespace and a container exclude each other; so do targets and an app.
places = st.one_of(
    st.tuples(st.none() | names, st.none()),
    st.tuples(st.none(), containers),
)
wishes = st.one_of(
    st.tuples(targets, st.none(), st.none()),
    st.tuples(st.just(()), apps, st.none()),
    st.tuples(st.just(()), st.none(), deployments),
)


@st.composite
def capture_starts(draw: st.DrawFn) -> CaptureStart:
    """A START for an agent."""
    namespace, container = draw(places)
    return CaptureStart(
        draw(names),
        draw(names),
        draw(names),
        draw(interfaces),
        draw(texts),
        draw(snaplens),
        namespace,
        draw(st.none() | traffic),
        draw(names),
        container,
        draw(st.booleans()),
        draw(st.lists(texts, max_size=3).map(tuple)),
    )


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """A START for the api."""
    named, app, deployment = draw(wishes)
    return Request(
        named,
        draw(interfaces),
        draw(texts),
        draw(snaplens),
        draw(st.none() | st.floats(min_value=0.001, max_value=1e9)),
        draw(st.none() | st.integers(1, 2**63 - 1)),
        draw(st.none() | texts),
        app,
        draw(st.booleans()),
        deployment,
        draw(st.booleans()),
    )


messages = st.one_of(
    st.builds(Hello, counts, texts, texts, texts, counts, st.none() | texts),
    capture_starts(),
    requests(),
    st.builds(
        Source,
        names,
        names,
        st.integers(0, 65535),
        snaplens,
        texts,
        st.lists(addresses.map("{}/24".format), max_size=3).map(tuple),
        texts,
        texts,
        st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
    ),
    st.builds(Stats, counts, counts, counts, counts, counts, st.booleans()),
    st.builds(Notice, st.sampled_from(NoticeType), texts, texts),
    st.just(Stop()),
    st.builds(End, st.sampled_from(EndReason), texts, st.lists(counters, max_size=3).map(tuple)),
    st.builds(Error, texts, texts, texts),
    st.builds(Ping, counts),
    st.builds(Pong, counts, counts),
)

START = CaptureStart(
    "c",
    "r",
    "web-0",
    ("eth0",),
    "udp",
    96,
    namespace="web-0",
    api=ApiTraffic(("192.0.2.1",), 8080, None, (9494,)),
    user="a-user",
)
CONTAINER = Container("app", 1, "handle", "192.0.2.7", "process")
START_CONTAINER = CaptureStart("c", "r", "myapp/1", container=CONTAINER)
REQUEST = Request(
    ("web-0",), interfaces=("eth0",), filter="udp", snaplen=96, duration=2.5, max_bytes=1000, token="secret"
)
REQUEST_APP = Request(app=App("guid", "web", (0, 2)), follow=True)
REQUEST_VMS = Request(deployment=Deployment("cf", ("router",), ("0", "3f2a")))
STATS = Stats(1, 2, 3, 4, 5)


def changed(message: Message, **values: Any) -> bytes:
    """Return the payload of a message with some of its keys set to something else."""
    return json.dumps({**json.loads(encode(message)[1]), **values}).encode()


@given(messages)
def test_a_message_survives_its_way_over_the_wire(message: Message) -> None:
    """decode(encode(message)) is the message, for every kind and value."""
    assert decode(type(message), encode(message)[1]) == message


@given(messages)
def test_a_message_is_sent_as_its_own_frame_type(message: Message) -> None:
    """The frame type tells the kind of message; both kinds of request are a START."""
    kind = encode(message)[0]
    expected = "START" if isinstance(message, (CaptureStart, Request)) else type(message).__name__.upper()
    assert kind is FrameType[expected]


@given(messages)
def test_unknown_keys_are_ignored(message: Message) -> None:
    """Unknown keys of a newer peer are ignored."""
    assert decode(type(message), changed(message, from_the_future=[1])) == message


@pytest.mark.parametrize("number", [2**63, -(2**63), 10**400])
@pytest.mark.parametrize(
    ("message", "key"), [(Pong(1, 2), "answered_us"), (Ping(1), "sent_us"), (REQUEST, "max_bytes")]
)
def test_a_number_of_more_than_64_bits_is_refused(message: Message, key: str, number: int) -> None:
    """A clock far beyond time would be no float, and no number that everybody can write."""
    with pytest.raises(RemoteProtocolError, match=f"{key} has more than 64 bits"):
        decode(type(message), changed(message, **{key: number}))


@pytest.mark.parametrize("character", ["x", "€", "\x01", "\U0001f600"])
def test_the_longest_words_fit_a_frame(character: str) -> None:
    """The longest text of any peer still fits a message's frame."""
    words = character * 100_000
    cut = words[: TEXT_MAX - 1] + "…"
    for message in (
        Notice(NoticeType.CONGESTED, words, words),
        End(EndReason.FAILED, words),
        Error(words, words, words),
    ):
        said = encode(message)[1]
        assert len(said) <= CONTROL_MAX
        assert decode(type(message), said).message == cut


def test_what_is_passed_on_is_not_longer_than_it_was() -> None:
    """A source whose filter is near the bound and not ASCII fits its frame again."""
    raw = json.dumps(vars(Source("i", "eth0", 1, 96, "€" * 21_000)), ensure_ascii=False).encode()
    assert 60_000 < len(raw) <= CONTROL_MAX
    assert len(encode(decode(Source, raw))[1]) <= CONTROL_MAX


def test_an_end_of_very_many_sources() -> None:
    """An END whose counters of all sources exceed a frame is sent without them."""
    few, many = (tuple(Counters(n, 2**40, 7, 7, 2**40) for n in range(count)) for count in (100, 8000))
    assert decode(End, encode(End(EndReason.STOPPED, "", few))[1]).sources == few
    assert decode(End, encode(End(EndReason.STOPPED, "over", many))[1]) == End(EndReason.STOPPED, "over")


@pytest.mark.parametrize(
    ("message", "optional"),
    [
        (Hello(1, "agent", "a", "1", 5), {"libpcap", "limits", "capabilities"}),
        (
            START,
            {
                "interfaces",
                "filter",
                "snaplen",
                "namespace",
                "container",
                "headers_only",
                "exclude_filters",
                "api",
                "user",
            },
        ),
        (
            REQUEST_APP,
            {
                "targets",
                "deployment",
                "follow",
                "interfaces",
                "filter",
                "snaplen",
                "duration",
                "max_bytes",
                "token",
                "headers_only",
                "reason",
            },
        ),
        (
            Source("web-0", "eth0", 1, 96, "udp"),
            {
                "addresses",
                "agent",
                "agent_address",
                "clock_offset_us",
                "clock_error_us",
                "awaited",
                "headers_only",
                "exclude_filters",
                "excludes_api",
            },
        ),
        (STATS, {"final", "exact", "dropped_agent", "forwarded", "at_us", "excluded", "counted"}),
        (Notice(NoticeType.CONGESTED, "m", "o"), {"awaited"}),
        (End(EndReason.COUNT), {"message", "sources"}),
        (Error("c", "m"), {"hint"}),
        (Ping(1), set()),
        (Pong(1, 2), set()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_missing_key_is_named_unless_it_has_a_default(message: Message, optional: set[str]) -> None:
    """Leaving any single key out is an error that says so, or gives the default."""
    whole = json.loads(encode(message)[1])
    for key in whole:
        rest = json.dumps({name: value for name, value in whole.items() if name != key}).encode()
        if key in optional:
            assert isinstance(decode(type(message), rest), type(message))
        else:
            with pytest.raises(RemoteProtocolError, match=f"{key} is missing|no target is named"):
                decode(type(message), rest)


@pytest.mark.parametrize(
    ("message", "key", "value"),
    [
        (STATS, "received", "1"),
        (STATS, "received", 1.0),
        (STATS, "received", None),
        (STATS, "received", True),
        (STATS, "final", 1),
        (START, "interfaces", "eth0"),
        (START, "interfaces", [1]),
        (START, "api", [7]),
        (START, "api", {"addresses": "192.0.2.1", "port": 1}),
        (START, "api", {"addresses": ["192.0.2.1"], "port": "1"}),
        (START, "filter", None),
        (START, "namespace", 7),
        (START_CONTAINER, "container", "handle"),
        (START_CONTAINER, "container", {"app": "a", "index": True}),
        (START_CONTAINER, "container", {"app": "a"}),
        (REQUEST_APP, "app", "guid"),
        (REQUEST_APP, "app", {"guid": "g", "indices": 0}),
        (REQUEST_APP, "app", {"guid": "g", "indices": ["0"]}),
        (REQUEST_APP, "app", {"type": "web"}),
        (REQUEST_APP, "follow", 1),
        (REQUEST_VMS, "deployment", "cf"),
        (REQUEST_VMS, "deployment", {"groups": ["router"]}),
        (REQUEST_VMS, "deployment", {"name": "cf", "groups": "router"}),
        (REQUEST, "duration", "5"),
        (REQUEST, "duration", True),
        (REQUEST, "max_bytes", 1.5),
        (REQUEST, "targets", {}),
        (Ping(1), "sent_us", [1]),
        (Notice(NoticeType.CONGESTED, "m", "o"), "type", []),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(message: Message, key: str, value: object) -> None:
    """Types are exact: a JSON true is no number, and a text is no list of letters."""
    with pytest.raises(RemoteProtocolError, match=type(message).__name__):
        decode(type(message), changed(message, **{key: value}))


@pytest.mark.parametrize(
    ("message", "key", "value"),
    [
        (STATS, "received", -1),
        (STATS, "dropped_kernel", 2**63),
        (STATS, "captured_up_to_us", -5),
        *(
            (End(EndReason.STOPPED), "sources", [{**vars(Counters(1, 2, 3, 4, 5)), key: -1}])
            for key in vars(Counters(1, 2, 3, 4, 5))
        ),
        (START, "snaplen", 0),
        (START, "snaplen", SNAPLEN_MAX + 1),
        (START, "filter", "x" * (FILTER_MAX + 1)),
        (START, "interfaces", ["eth0", "eth0"]),
        (START, "interfaces", [f"eth{number}" for number in range(INTERFACES_MAX + 1)]),
        (START, "interfaces", ["eth0\n"]),
        (START, "instance", ""),
        (START, "instance", "x" * (NAME_MAX + 1)),
        (START, "request_id", "a\x1b[2J"),
        (START, "namespace", "../\n"),
        (START, "api", {"addresses": ["192.0.2.1"] * (OWN_ADDRESSES_MAX + 2), "port": 1}),
        (START, "api", {"addresses": ["192.0.2.1 or 1=1"], "port": 1}),
        (START, "api", {"addresses": [], "port": 0}),
        (START, "api", {"addresses": [], "port": 65536}),
        (START, "api", {"addresses": [], "port": 1, "listens_at": "example.com"}),
        (START, "api", {"addresses": [], "port": 1, "agent_ports": [0]}),
        (START, "api", {"addresses": [], "port": 1, "agent_ports": [1] * (AGENT_PORTS_MAX + 1)}),
        (START, "user", "a\n"),
        (START, "exclude_filters", ["port 22"] * (POLICY_FILTERS_MAX + 1)),
        (START, "exclude_filters", ["x" * (POLICY_FILTERS_LENGTH_MAX + 1)]),
        (START_CONTAINER, "namespace", "web-0"),
        (START_CONTAINER, "container", {"app": "", "index": 0}),
        (START_CONTAINER, "container", {"app": "a", "index": -1}),
        (START_CONTAINER, "container", {"app": "a", "index": INSTANCES_MAX}),
        (START_CONTAINER, "container", {"app": "a", "index": 0, "handle": "a\n"}),
        (START_CONTAINER, "container", {"app": "a", "index": 0, "address": "example.com"}),
        (START_CONTAINER, "container", {"app": "a", "index": 0, "process": "x" * (NAME_MAX + 1)}),
        (REQUEST_APP, "targets", ["web-0"]),
        (REQUEST_APP, "app", None),
        (REQUEST_APP, "app", {"guid": ""}),
        (REQUEST_APP, "app", {"guid": "g", "type": ""}),
        (REQUEST_APP, "app", {"guid": "g", "indices": [-1]}),
        (REQUEST_APP, "app", {"guid": "g", "indices": [INSTANCES_MAX]}),
        (REQUEST_APP, "app", {"guid": "g", "indices": [1, 1]}),
        (REQUEST_VMS, "deployment", None),
        (REQUEST_VMS, "targets", ["web-0"]),
        (REQUEST_VMS, "app", {"guid": "g"}),
        (REQUEST_VMS, "deployment", {"name": ""}),
        (REQUEST_VMS, "deployment", {"name": "cf", "groups": ["router", "router"]}),
        (REQUEST_VMS, "deployment", {"name": "cf", "instances": ["x" * (NAME_MAX + 1)]}),
        (REQUEST_VMS, "deployment", {"name": "cf", "groups": [f"g{n}" for n in range(INSTANCES_MAX + 1)]}),
        (REQUEST_VMS, "deployment", {"name": "cf", "instances": [f"{n}" for n in range(INSTANCES_MAX + 1)]}),
        (REQUEST, "targets", []),
        (REQUEST, "targets", [""]),
        (REQUEST, "duration", 0),
        (REQUEST, "duration", -1.0),
        (REQUEST, "duration", float("inf")),
        (REQUEST, "duration", float("nan")),
        (REQUEST, "duration", 10**400),
        (REQUEST, "max_bytes", 0),
        (Source("web-0", "eth0", 1, 96, ""), "link_type", 65536),
        (Source("web-0", "eth0", 1, 96, ""), "link_type", -1),
        (Source("web-0", "eth0", 1, 96, ""), "snaplen", 0),
        (Source("web-0", "eth0", 1, 96, ""), "snaplen", SNAPLEN_MAX + 1),
        (Source("web-0", "eth0", 1, 96, ""), "instance", ""),
        (Source("web-0", "eth0", 1, 96, ""), "instance", "a\x1b[2J"),
        (Source("web-0", "eth0", 1, 96, ""), "interface", ""),
        (Source("web-0", "eth0", 1, 96, ""), "addresses", ["example.com/24"]),
        (Source("web-0", "eth0", 1, 96, ""), "addresses", ["192.0.2.1/24"] * (ADDRESSES_MAX + 1)),
        (Source("web-0", "eth0", 1, 96, ""), "filter", "x" * (EFFECTIVE_FILTER_MAX + 1)),
    ],
)
def test_a_value_out_of_range_is_refused(message: Message, key: str, value: object) -> None:
    """Every bound is checked before the value is used for anything."""
    with pytest.raises(RemoteProtocolError, match=type(message).__name__):
        decode(type(message), changed(message, **{key: value}))


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"\xff", b"nonsense", b"[" * CONTROL_MAX, b"[]", b"7", b"null", b'"x"', b"{}"]
)
def test_a_payload_that_is_no_object_with_the_keys_is_refused(payload: bytes) -> None:
    """Broken JSON, very deep JSON and JSON that is not an object are refused."""
    with pytest.raises(RemoteProtocolError):
        decode(Hello, payload)


@pytest.mark.parametrize("payload", [b"[]", b"7", b"null", b'"x"'])
def test_a_message_without_keys_is_an_object_all_the_same(payload: bytes) -> None:
    """STOP has no key that could be missing, and another JSON value is none all the same."""
    assert decode(Stop, b"{}") == Stop()
    with pytest.raises(RemoteProtocolError, match="Stop message: not an object"):
        decode(Stop, payload)


def test_kinds_of_a_newer_peer_become_kinds_that_we_know() -> None:
    """An unknown notice type is UNKNOWN, an unknown end reason is a failure."""
    notice = decode(Notice, b'{"type": "SOLAR_FLARE", "message": "m", "origin": "o"}')
    end = decode(End, b'{"reason": "eclipse"}')
    assert (notice.type, end.reason) == (NoticeType.UNKNOWN, EndReason.FAILED)


def test_a_token_is_not_shown_when_a_request_is_printed() -> None:
    """A request that is logged by mistake does not show the token."""
    assert "secret" not in repr(REQUEST) and "secret" not in str(REQUEST)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1, 2**64])
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(messages, st.data())
def test_arbitrary_values_raise_nothing_but_a_protocol_error(message: Message, data: st.DataObject) -> None:
    """Any JSON in place of a value builds a message or is refused as the peer's error."""
    value = json.loads(encode(message)[1])
    for key in value:
        if data.draw(st.booleans()):
            value[key] = data.draw(json_values)
    with contextlib.suppress(RemoteProtocolError):
        assert isinstance(decode(type(message), json.dumps(value).encode()), type(message))
