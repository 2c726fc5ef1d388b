"""Verification of a network of any study."""

from study.errors import printable
from study.execution.driver.place import Driver
from study.tracking.handles import handle_of, run_of
from study.tracking.stored_model import fetched
from study.verification.proof import Proof, verify


def verify_network(
    network: str,
    tracking_uri: str | None = None,
    data_root: str | None = None,
    trust: bool = False,
) -> tuple[str, Proof]:
    """Check that a stored network is as logged, and certify it again, without running stored code.

    Args:
        network: a handle such as "digits/0004", or the beginning of a run id.
        tracking_uri: as for `study.open`.
        data_root: where the study's data is now. With it the network is also measured again, and
            compared with what its run says; it takes about as long as the report of an epoch.
        trust: run the user's own blocks, data and metrics that the study names.

    Returns:
        The network's name and run, for messages, and the result.

    Raises:
        TrackingError: if there is no such network, or MLflow or its files cannot be read.
        UserError: if the data is not there.
    """
    records = Driver.of(tracking_uri).records
    run_id = run_of(records, network)
    with fetched(records, run_id) as stored:
        proof = verify(stored, data_root, trust)
    handle = handle_of(records, run_id)
    if network == run_id:
        return network, proof
    meant = [] if network == handle else [printable(handle)]
    return f"{network} ({', '.join([*meant, f'run {run_id}'])})", proof
