import threading
from collections.abc import Callable
from random import Random

import pytest

from study.errors import OutageError, TrackingError
from study.execution.callbacks import outbox
from study.execution.callbacks.outbox import Outbox


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_FIRST_WAIT", 0.001)
    monkeypatch.setattr(outbox, "_LONGEST_WAIT", 0.002)


def nothing() -> None:
    return


class Flaky:
    """A server that fails now and then, before or after it took a write."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.stands: list[int] = []
        self.known: set[int] = set()
        self.n_failures = 0

    def write(self, number: int) -> None:
        if number in self.known:
            return
        luck = self.random.random()
        if luck < 0.3:
            self._fail()
        self.stands.append(number)
        if luck < 0.6:
            self._fail()
        self.known.add(number)

    def reread(self) -> None:
        if self.random.random() < 0.3:
            self._fail()
        self.known = set(self.stands)

    def _fail(self) -> None:
        self.n_failures += 1
        raise OutageError("gone")


@pytest.mark.parametrize("seed", range(5))
def test_each_write_arrives_once_whatever_fails(seed: int) -> None:
    server, messages = Flaky(seed), list[str]()
    box = Outbox(messages.append)
    for number in range(100):
        box.put(lambda number=number: server.write(number), server.reread)  # type: ignore[misc]
    assert box.wait(30) == 0
    assert server.stands == list(range(100))
    assert server.n_failures > 20
    # One line when it goes and one when it is back, in turns.
    assert len(messages) % 2 == 0
    assert all("is sent later" in line for line in messages[::2])
    assert all("answers again" in line for line in messages[1::2])


def test_whoever_puts_does_not_wait_for_a_server_that_is_away() -> None:
    back = threading.Event()

    def send() -> None:
        if not back.is_set():
            raise OutageError("away")

    box = Outbox(lambda line: None)
    for _ in range(10):
        box.put(send, nothing)
    assert box.wait(0.05) == 10
    box.check()
    back.set()
    assert box.wait(10) == 0


@pytest.mark.parametrize("error", [TrackingError("no permission"), OSError("disk"), KeyError("us")])
def test_what_will_not_pass_is_raised_where_it_is_heard(error: Exception) -> None:
    sent: list[str] = []

    def refuse() -> None:
        raise error

    box = Outbox(lambda line: None)
    after: Callable[[], None] = lambda: sent.append("after")  # noqa: E731
    box.put(refuse, nothing)
    box.put(after, nothing)
    with pytest.raises(type(error)):
        box.wait(10)
    with pytest.raises(type(error)):
        box.check()
    assert sent == []


@pytest.mark.parametrize("is_away", [False, True])
def test_whoever_leaves_sends_no_more(is_away: bool) -> None:
    sent: list[int] = []
    is_sending, goes_on = threading.Event(), threading.Event()

    def slow() -> None:
        is_sending.set()
        if is_away:
            raise OutageError("gone")
        goes_on.wait(10)
        sent.append(0)

    box = Outbox(lambda line: None)
    box.put(slow, nothing)
    box.put(lambda: sent.append(1), nothing)
    assert is_sending.wait(10)
    leaving = threading.Thread(target=box.leave)
    leaving.start()
    goes_on.set()
    leaving.join(10)
    assert not box._thread.is_alive()
    assert sent in ([0], [])
    assert (sent == []) is is_away
