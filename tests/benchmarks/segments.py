"""Recompute the certificate of every projection of a study, from its logged run.

    python -m tests.benchmarks.segments URI [STUDY]

Loads each projection's model from MLflow as a user would, certifies it again in this process, with
as many threads as a trial of the study had, and compares with the stored certificate.json and the
logged metric. Exits 1 if one is not equal bit for bit, or a block's bound is above the rung.
(With another number of threads float64 sums differ in their last bits, within the slack that each
bound has for it.)
"""

import argparse
import json
import sys

import mlflow
import mlflow.pyfunc
import torch

from models import certify
from study.metrics.artifacts import CERTIFICATE, MODEL
from study.metrics.definitions import BLOCK_LIPSCHITZ_UPPER_BOUND, PROVEN_METRICS
from study.results.report import find_study
from study.tracking.records import Records
from study.tracking.server.client import Client
from study.verification.claims import BESIDE_THE_PROOF
from tests.support.records import projections


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("uri")
    parser.add_argument("study", nargs="?")
    arguments = parser.parse_args()
    mlflow.set_tracking_uri(arguments.uri)
    client = Client(arguments.uri)
    records = Records(client)
    study = find_study(records, arguments.study)
    torch.set_num_threads(max(1, int(study.config.resources.cpus)))
    n_wrong, projected = 0, projections(client, study)
    for record in projected:
        model = mlflow.pyfunc.load_model(f"runs:/{record.run_id}/{MODEL}").get_raw_model()
        again = certify(model.float()).to_dict()  # as it was certified
        stored = json.loads(records.artifact(record.run_id, CERTIFICATE))
        for beside in BESIDE_THE_PROOF:
            stored.pop(beside)
        equal = json.loads(json.dumps(again)) == stored
        bound = again[PROVEN_METRICS[BLOCK_LIPSCHITZ_UPPER_BOUND]]
        logged = record.metrics[BLOCK_LIPSCHITZ_UPPER_BOUND]
        allowed = record.projected_to
        assert allowed is not None
        right = equal and bound == logged and bound <= allowed
        n_wrong += not right
        print(
            f"{record.trial_id} at {allowed:g}: bound {bound:.6g}, equal {equal}, logged "
            f"{bound == logged}, at most {allowed:.6g}: {bound <= allowed}"
        )
    print(f"{len(projected)} projections, {n_wrong} wrong")
    return int(n_wrong > 0 or not projected)


if __name__ == "__main__":
    sys.exit(main())
