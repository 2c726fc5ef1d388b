"""A search that is run by hand."""

from typing import Any

from study.config.study import StudyConfig
from study.search.searcher import OptunaSearcher


def proposed(searcher: OptunaSearcher, name: str) -> dict[str, Any]:
    """The suggestion for a trial of this name, which there is."""
    suggestion = searcher.suggest(name)
    assert isinstance(suggestion, dict)
    return suggestion


def observed(study: StudyConfig, *results: dict[str, Any] | None) -> OptunaSearcher:
    """A searcher whose trials ended one after another with these results, with None by an error."""
    searcher = OptunaSearcher(study)
    for number, result in enumerate(results):
        proposed(searcher, f"{number}")
        searcher.on_trial_complete(f"{number}", result, error=result is None)
    return searcher
