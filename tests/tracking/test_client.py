import os
import threading

import pytest

from study.tracking.client import Client

NAME = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


@pytest.mark.parametrize("before", [None, "5"])
def test_calls_of_two_threads_leave_the_environment_as_it_was(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call begins, the second begins and the first ends within it, the second ends."""
    monkeypatch.delenv(NAME, raising=False)
    if before is not None:
        monkeypatch.setenv(NAME, before)
    entered, first_may_end, first_has_ended = (threading.Event() for _ in range(3))
    during: list[str | None] = []

    def first() -> None:
        during.append(os.environ.get(NAME))
        entered.set()
        assert first_may_end.wait(10)

    def call_first() -> None:
        Client("http://x", max_retries=0).call(first)
        first_has_ended.set()

    def second() -> None:
        during.append(os.environ.get(NAME))
        first_may_end.set()
        assert first_has_ended.wait(10)
        during.append(os.environ.get(NAME))

    thread = threading.Thread(target=call_first)
    thread.start()
    assert entered.wait(10)
    Client("http://x", max_retries=2).call(second)
    thread.join()
    assert during == ["0", "2", "2"]
    assert os.environ.get(NAME) == before
