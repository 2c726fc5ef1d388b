"""Verification of a network of any study."""

from study.errors import printable
from study.execution.driver import Driver
from study.tracking.handles import handle_of, run_of
from study.tracking.proof import Proof, verify


def verify_network(network: str, tracking_uri: str | None = None) -> tuple[str, Proof]:
    """Check that a stored network is as logged, and certify it again, without running its code.

    Args:
        network: a handle such as "digits/0004", or the beginning of a run id.
        tracking_uri: as for `study.open`.

    Returns:
        The network's name and run, for messages, and the result.

    Raises:
        TrackingError: if there is no such network, or MLflow or its files cannot be read.
    """
    records = Driver.of(tracking_uri).records
    run_id = run_of(records, network)
    proof, handle = verify(records, run_id), handle_of(records, run_id)
    if network == run_id:
        return network, proof
    meant = [] if network == handle else [printable(handle)]
    return f"{network} ({', '.join([*meant, f'run {run_id}'])})", proof
