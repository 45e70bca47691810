"""Which question is next, how many wait, and what happens to those whose clients have left."""

from __future__ import annotations

from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from pcapd.api.resolvers.base import Resolved
from pcapd.api.resolvers.questions import Question, Questions, share_of
from pcapd.errors import Forbidden, LimitReached, ResolverUnavailable
from pcapd.limits import (
    AUTHORITY_CALLERS,
    AUTHORITY_FULL_RETRY,
    AUTHORITY_TIMEOUT,
    AUTHORITY_WAITING,
    AUTHORITY_WAITING_EACH,
)
from pcapd.net.fetch import Conversation
from pcapd.net.turns import Queue
from tests.kit.unit.authorities import is_over, outcome

# --- the order ---------------------------------------------------------------


def question(client: str) -> Question:
    """One that nobody asks in earnest."""
    unused: Any = None
    return Question(client, unused, unused)


def new_queue(places: int = 32, waiting: int = 256, waiting_each: int = 64) -> Queue[Question]:
    return Queue(places, waiting, waiting_each)


def filled(queue: Queue[Question], clients: str) -> list[Question]:
    """Let each letter's client add a question."""
    added = [question(client) for client in clients]
    assert not any(queue.add(one) for one in added)
    return added


def taken(queue: Queue[Question]) -> str:
    """Whose questions get a place now, in order."""
    found = []
    while (one := queue.take()) is not None:
        found.append(one.client)
    return "".join(found)


@pytest.mark.parametrize(
    ("added", "order"),
    [("aaaab", "abaaa"), ("abcabc", "abcabc"), ("aaabbc", "abcaba"), ("baaa", "baaa")],
)
def test_clients_take_turns(added: str, order: str) -> None:
    """A client that asks once is served next, however many questions others have."""
    queue = new_queue(places=1)
    filled(queue, added)
    served = ""
    while name := taken(queue):
        assert len(name) == 1
        served += name
        queue.give_back(name)
    assert served == order


def test_a_clients_own_order() -> None:
    """The questions of one client are asked in their order."""
    queue = new_queue()
    assert filled(queue, "aaa") == [queue.take(), queue.take(), queue.take()]


@pytest.mark.parametrize(
    ("added", "got"), [("a" * 9, "aaaa"), ("a" * 9 + "b" * 9, "ababab"), ("abcdefghi", "abcdefgh")]
)
def test_a_place_is_left_for_the_next_client(added: str, got: str) -> None:
    """A client gets another place only while more are free than it has; many clients use all places."""
    queue = new_queue(places=8)
    filled(queue, added)
    assert taken(queue) == got
    # The next one does not wait, unless nobody could have a place.
    filled(queue, "z")
    assert taken(queue) == ("z" if len(got) < 8 else "")


def test_too_many_of_one_client() -> None:
    """Too many questions of one client are refused, those of others are not."""
    queue = new_queue(waiting_each=3)
    filled(queue, "aaa")
    fourth = question("a")
    assert queue.add(fourth) is fourth
    filled(queue, "b")


def test_too_many_in_all() -> None:
    """With too many questions in all, the client with the most gives up its last, or else the newest goes."""
    queue = new_queue(waiting=4)
    kept = filled(queue, "aaab")
    assert queue.add(question("c")) is kept[2]
    assert queue.add(question("d")) is kept[1]
    newest = question("e")
    assert queue.add(newest) is newest


def test_leaving_the_queue() -> None:
    """A question that nobody waits for is not asked; nor is it missed when it is gone already."""
    queue = new_queue()
    first, second, _ = filled(queue, "aab")
    queue.remove(first)
    assert queue.take() is second
    queue.remove(second)
    assert taken(queue) == "b"


@given(st.lists(st.tuples(st.sampled_from(["add", "take", "give back", "remove"]), st.sampled_from("abcd"))))
def test_bounds_hold(steps: list[tuple[str, str]]) -> None:
    """In any order of events no question is lost or in two places, and no bound is exceeded."""
    queue = new_queue(places=4, waiting=6, waiting_each=3)
    waiting: list[Question] = []
    asking: list[str] = []
    for step, client in steps:
        mine = [one for one in waiting if one.client == client]
        if step == "add":
            waiting.append(question(client))
            refused = queue.add(waiting[-1])
            if refused is not None:
                waiting.remove(refused)
        elif step == "take" and (one := queue.take()) is not None:
            waiting.remove(one)
            asking.append(one.client)
        elif step == "give back" and client in asking:
            asking.remove(client)
            queue.give_back(client)
        elif step == "remove" and mine:
            waiting.remove(queue.remove(mine[0]))
        assert len(asking) <= 4 and len(waiting) <= 6
        assert all(sum(one.client == name for one in waiting) <= 3 for name in "abcd")
    for client in asking:
        queue.give_back(client)
    while (last := queue.take()) is not None:
        waiting.remove(last)
        queue.give_back(last.client)
    assert not waiting


@pytest.mark.parametrize(
    ("address", "share"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::7%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_shares(address: str, share: str) -> None:
    """All addresses of one IPv6 network have one share."""
    assert share_of(address) == share


# --- asking ------------------------------------------------------------------


class Scene:
    """An authority that answers when it is told to."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.questions = Questions(self.clock, "the oracle")
        self.asked: list[tuple[str, Deferred[None], Conversation]] = []

    def put(self, client: str, error: Optional[Exception] = None) -> Deferred[Resolved]:
        """Ask something."""
        unused: Any = None
        conversation = Conversation(unused)

        async def ask() -> Resolved:
            answered: Deferred[None] = Deferred()
            self.asked.append((client, answered, conversation))
            await answered
            if error is not None:
                raise error
            return Resolved(client, (), identity=client)

        return self.questions.put(client, conversation, ask)

    def answer(self, client: str) -> None:
        """Answer the first question of a client that is being asked."""
        index = next(index for index, asked in enumerate(self.asked) if asked[0] == client)
        self.asked.pop(index)[1].callback(None)

    def being_asked(self, client: str) -> int:
        return sum(asked[0] == client for asked in self.asked)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_answers(scene: Scene) -> None:
    """Each question gets its own answer; an error gives the place back as well."""
    answers = [scene.put("a"), scene.put("b", Forbidden("not you")), scene.put("c")]
    for client in "cba":
        scene.answer(client)
    assert [outcome(answers[index]).user for index in (0, 2)] == ["a", "c"]
    with pytest.raises(Forbidden):
        outcome(answers[1])
    assert scene.clock.getDelayedCalls() == []
    everybody = [scene.put(f"client {number}") for number in range(AUTHORITY_CALLERS)]
    assert len(scene.asked) == AUTHORITY_CALLERS == len(everybody)


def test_who_leaves_the_queue(scene: Scene) -> None:
    """The question of a client that leaves the queue is never asked, and delays no other."""
    answers = [scene.put("a") for _ in range(AUTHORITY_CALLERS)]
    asked = scene.being_asked("a")
    assert asked == AUTHORITY_CALLERS // 2
    for answer in answers[asked:-1]:
        answer.addErrback(lambda failure: failure.trap(CancelledError))
        answer.cancel()
    scene.answer("a")
    assert scene.being_asked("a") == asked and not is_over(answers[-1])
    for _ in range(asked):
        scene.answer("a")
    assert outcome(answers[-1]).user == "a" and not scene.asked


def test_who_leaves_while_asked(scene: Scene) -> None:
    """A client that leaves while its question is asked has it closed at once; the place is free when it is over."""
    answers = [scene.put("a") for _ in range(AUTHORITY_CALLERS)]
    asked = scene.being_asked("a")
    for answer in answers[:asked]:
        answer.cancel()
        with pytest.raises(CancelledError):
            outcome(answer)
    conversation = scene.asked[0][2]
    with pytest.raises(CancelledError):
        outcome(Deferred.fromCoroutine(conversation.get("/")))
    assert scene.being_asked("a") == asked
    for _ in answers:
        scene.answer("a")
    assert all(outcome(answer).user == "a" for answer in answers[asked:])


def test_who_leaves_hides_no_bug(scene: Scene, logged_failures: Any) -> None:
    """An unexpected exception is logged, also when its client has left."""
    answer = scene.put("a", ZeroDivisionError("inner workings"))
    answer.addErrback(lambda failure: failure.trap(CancelledError))
    answer.cancel()
    scene.answer("a")
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def test_in_time(scene: Scene) -> None:
    """Waiting for a turn counts as time; an abandoned question keeps its place until it is over."""
    answers = [scene.put("a") for _ in range(AUTHORITY_CALLERS)]
    scene.clock.advance(AUTHORITY_TIMEOUT - 0.1)
    assert not any(is_over(answer) for answer in answers)
    scene.clock.advance(0.1)
    for answer in answers:
        with pytest.raises(ResolverUnavailable, match="the oracle did not answer completely within 30 s"):
            outcome(answer)
    assert scene.being_asked("a") == AUTHORITY_CALLERS // 2
    later = scene.put("b")
    scene.answer("b")
    assert outcome(later).user == "b"


def test_too_many_wait(scene: Scene) -> None:
    """Questions beyond the bound are refused with a Retry-After, those of another client are not."""
    answers = [scene.put("a") for _ in range(AUTHORITY_CALLERS // 2 + AUTHORITY_WAITING_EACH + 1)]
    with pytest.raises(LimitReached, match="too many requests wait for an answer of the oracle") as refused:
        outcome(answers[-1])
    assert refused.value.retry_after == AUTHORITY_FULL_RETRY
    assert not is_over(scene.put("b"))


def test_many_clients_wait(scene: Scene) -> None:
    """A client that asks once is not refused, however many others ask a lot."""
    crowd = [scene.put(f"client {number % 8}") for number in range(8 * AUTHORITY_WAITING_EACH)]
    waiting = [answer for answer in crowd if not is_over(answer)]
    assert len(waiting) == AUTHORITY_WAITING + len(scene.asked)
    assert not is_over(scene.put("alice"))
    (driven_out,) = [answer for answer in waiting if is_over(answer)]
    with pytest.raises(LimitReached):
        outcome(driven_out)
    for answer in crowd:
        answer.addErrback(lambda _: None)


def test_answers_that_need_nobody(scene: Scene) -> None:
    """A queue of questions that are answered at once is worked off, however long it is."""

    async def at_once() -> Resolved:
        return Resolved("b", (), identity="b")

    first = [scene.put("a") for _ in range(AUTHORITY_CALLERS)]
    unused: Any = None
    others = [scene.put(f"client {number}") for number in range(AUTHORITY_CALLERS // 2)]
    assert len(scene.asked) == AUTHORITY_CALLERS
    waiting = [
        scene.questions.put(f"another {number}", Conversation(unused), at_once)
        for number in range(AUTHORITY_WAITING - len(first))
    ]
    assert not any(is_over(answer) for answer in waiting)
    scene.answer("client 0")
    assert all(outcome(answer).user == "b" for answer in waiting)
    assert len(others) == AUTHORITY_CALLERS // 2
