"""The network of a study that a user names."""

import re

from study.errors import UserError, absent
from study.results.report import Report
from study.tracking.handles import RUN_ID, run_of
from study.tracking.records import Records

_LABEL = re.compile(r"[0-9]{4,}(@.+)?")
# A name without the / and @ of a handle: an alias, or the beginning of a run id.
_WORD = re.compile(r"[^/@]*")


def run_named(records: Records, results: Report, network: str) -> str:
    """The run id of a network, given as "0004", "0004@0.5", "knee", a whole handle, or the
    beginning of a run id. Raises UserError if there is none."""
    study = results.study.name
    handle = results.handles.get(network, network)
    if _LABEL.fullmatch(handle):
        handle = f"{study}/{handle}"
    elif _WORD.fullmatch(handle) and not RUN_ID.fullmatch(handle):
        known = [*results.handles, *(point.label for point in results.ranked(every=True))]
        raise UserError(absent(network, known, "network"), key="network")
    return run_of(records, handle)
