import pickle
from dataclasses import dataclass
from typing import Any

from study.execution.callback import StudyCallback
from study.execution.messages import Messages


@dataclass(eq=False)
class Watching(StudyCallback):
    messages: Messages
    limit: int = 3

    def setup(self, *args: Any, **info: Any) -> None:
        self.made = [lambda: None]  # which no pickle takes


def test_what_a_callback_was_given_outlives_the_driver_and_is_still_shared() -> None:
    messages = Messages()
    first, second = Watching(messages, 5), Watching(messages)
    assert len({first, second, Watching(messages)}) == 3
    for callback in (first, second):
        callback.setup()
    messages.write("before")
    first, second = pickle.loads(pickle.dumps((first, second)))
    assert (first.limit, second.limit) == (5, 3)
    assert not hasattr(first, "made")
    assert first.messages is second.messages
    first.messages.write("after")
    assert list(second.messages.read()) == ["before", "after"]
    assert list(first.messages.read()) == []
