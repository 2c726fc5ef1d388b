"""Verification of a network of any study."""

from study.errors import printable
from study.execution.driver.environment import Driver
from study.tracking.handles import handle_of, run_of
from study.tracking.stored_model import fetched
from study.verification.proof import Proof, verify


def verify_network(
    network: str,
    tracking_uri: str | None = None,
    data_root: str | None = None,
    trust: bool = False,
) -> tuple[str, Proof]:
    """Verify a network by its handle, such as "digits/0004", or the beginning of its run id, as
    `Study.verify` does. Returns (name, proof): its name and run, for messages; the result."""
    records = Driver.of(tracking_uri).records
    run_id = run_of(records, network)
    with fetched(records, run_id) as stored:
        proof = verify(stored, data_root, trust)
    handle = handle_of(records, run_id)
    if network == run_id:
        return network, proof
    meant = [] if network == handle else [printable(handle)]
    return f"{network} ({', '.join([*meant, f'run {run_id}'])})", proof
