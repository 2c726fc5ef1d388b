import pickle
from collections import deque

from ray.tune import Callback

from study.execution.callbacks.interrupt import Interrupt


def test_a_callback_is_pickled_whatever_it_holds_and_nothing_of_it_is_kept() -> None:
    first, second = (Interrupt("tiny", deque[str](), at_once=(lambda: None,)) for _ in range(2))
    assert type(pickle.loads(pickle.dumps(first))) is Callback
    assert len({first, second}) == 2
