import random

import pytest

from study.results.covered import Covered


@pytest.mark.parametrize("seed", range(20))
def test_each_second_is_counted_once(seed: int) -> None:
    generator = random.Random(seed)
    times = []
    for _ in range(generator.randint(0, 12)):
        start = generator.randint(0, 60)
        times.append((start, start + generator.randint(0, 15)))
    seconds = {second for start, end in times for second in range(start, end)}
    covered = Covered(times)
    assert covered.seconds == len(seconds)
    for moment in range(-1, 80):
        assert covered.until(moment) == sum(second < moment for second in seconds)
