"""What policies of IAM grant: actions on resources, under conditions.

moto has a check of its own, but knows neither the resources of EC2 nor conditions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any


@dataclass(frozen=True)
class Need:
    """What AWS asks a caller's policies for."""

    action: str
    resource: str = "*"
    context: Mapping[str, str] = field(default_factory=dict)
    """Condition key -> value of this call."""

    def granted_by(self, policies: Iterable[Mapping[str, Any]]) -> bool:
        """Whether a statement allows it, and none denies it."""
        effects = {
            statement["Effect"]
            for policy in policies
            for statement in policy["Statement"]
            if self._is_meant_by(statement)
        }
        return effects == {"Allow"}

    def _is_meant_by(self, statement: Mapping[str, Any]) -> bool:
        unknown = statement.keys() - {"Sid", "Effect", "Action", "Resource", "Condition"}
        assert not unknown, f"{unknown} in a policy"
        return (
            _is_like(self.action, statement["Action"])
            and _is_like(self.resource, statement["Resource"])
            and all(
                self._fulfills(operator, keys)
                for operator, keys in statement.get("Condition", {}).items()
            )
        )

    def _fulfills(self, operator: str, keys: Mapping[str, Any]) -> bool:
        assert operator == "StringEquals", f"{operator} in a policy"
        return all(self.context.get(key) in _listed(values) for key, values in keys.items())


def _is_like(text: str, patterns: Any) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in _listed(patterns))


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]
