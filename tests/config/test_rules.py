from dataclasses import dataclass

import pytest

from study.config.rules import check


@dataclass
class Settings:
    low: float = 0.0
    high: float = 1.0
    size: int | None = None


@pytest.mark.parametrize(
    ("settings", "rule", "message"),
    [
        (Settings(low=2), "low <= high", "low <= high must hold, but got low=2, high=1.0"),
        (Settings(low=1), "0 <= low < 1", "0 <= low < 1 must hold, but got low=1"),
        (Settings(size=0), "size >= 1", "size >= 1 must hold, but got size=0"),
        (Settings(high=float("nan")), "high > 0", "high > 0 must hold, but got high=nan"),
    ],
)
def test_a_rule_that_is_broken_is_the_message(settings: Settings, rule: str, message: str) -> None:
    with pytest.raises(ValueError, match="must hold") as error:
        check(settings, "high != 7", rule)
    assert str(error.value) == message


def test_rules_that_hold_or_are_of_what_is_not_set_say_nothing() -> None:
    check(Settings(), "low <= high", "0 <= low < 1", "size >= 1", "high == 1")
