import json
from dataclasses import asdict, replace

from study.search.suggestion import Suggestion


def test_a_suggestion_comes_out_of_the_config_that_tune_writes_down() -> None:
    first = Suggestion(3, seed=100_003, repeat_of=1, sample={"coeff": 0.5, "blocks": [1, 2]})
    for suggestion in (
        first,
        replace(first, n_errors=2, failed="diverged"),
        replace(first, is_given=True),
    ):
        config = json.loads(json.dumps(asdict(suggestion)))
        assert Suggestion(**config) == suggestion
