"""A network of any study, by what it is called."""

from study.errors import printable
from study.execution.driver import Driver
from study.tracking.handles import handle_of, run_of
from study.tracking.proof import Proof, verify


def verify_network(network: str, tracking_uri: str | None = None) -> tuple[str, Proof]:
    """Check that a stored network is what was logged, and certify it again. None of its code is
    run.

    Args:
        network: a handle, such as "digits/0004", or how a run id begins.
        tracking_uri: as for `study.open`.

    Returns:
        What the network is called, its run included, for a message; and what was found.

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
