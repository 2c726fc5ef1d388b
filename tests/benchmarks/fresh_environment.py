"""A logged model in an environment that has only what the model itself asks for.

    python -m tests.benchmarks.fresh_environment TRACKING_URI [STUDY] [--where FILTER]

Makes a virtual environment in a temporary folder, installs the requirements.txt of the logged model
of the study's most accurate network into it and nothing else, and there, away from this project,
loads the model with pickles refused, classifies images and inverts their features. Exits 1 if that
environment has this project, the model does not load, or an image does not come back.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from study.results.report import read
from study.tracking import stored_model
from study.tracking.records import Records
from study.tracking.server.client import Client

_CODE = """
import importlib.util, json, pathlib, sys
assert importlib.util.find_spec("study") is None, "this project is here"
assert importlib.util.find_spec("models") is None, "this project is here"
import mlflow.pyfunc, torch
folder = sys.argv[1]
metadata = mlflow.models.Model.load(folder).metadata
scale = metadata["data"]["normalization"]
predictor = mlflow.pyfunc.load_model(folder)
model = predictor.get_raw_model()
certificate = json.loads(pathlib.Path(folder, "data/network/certificate.json").read_text())
bytes_ = torch.randint(0, 256, (16, *model.in_shape), dtype=torch.uint8)
x = (bytes_ * scale["scale"] + scale["offset"]).to(next(model.parameters()).dtype)
with torch.no_grad():
    z = model.features(x)
    assert torch.equal(torch.from_numpy(predictor.predict(x.float().numpy())), model(x))
    classes = model(x).argmax(1)
    solution = model.inverse(z, rtol=1e-6, max_steps=100)
assert solution.converged.all()
error = ((solution.value - x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)).max().item()
assert error < 1e-5, error
back = ((solution.value - scale["offset"]) / scale["scale"]).round().to(torch.uint8)
assert torch.equal(back, bytes_)
print(f"torch {torch.__version__}, mlflow {mlflow.__version__}: classes {classes.tolist()}, "
      f"largest relative error of the inverse {error:.2g}, every pixel back; "
      f"proven bound {certificate['lipschitz_upper_bound']:.4g}, study {metadata['study']}")
"""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("tracking_uri")
    parser.add_argument("study", nargs="?")
    parser.add_argument("--where", default="")
    arguments = parser.parse_args()
    records = Records(Client(arguments.tracking_uri))
    point = read(records, arguments.study, arguments.where).front[0]
    with tempfile.TemporaryDirectory() as name:
        run = records.client.get_run(point.first.run_id)
        _, folder, _ = stored_model.model_of(records.client, run, Path(name) / "model")
        environment = Path(name) / "environment"
        venv.create(environment, with_pip=True)
        python = str(environment / "bin" / "python")
        requirements = str(folder / "requirements.txt")
        print(f"{point.label} asks for: {', '.join(Path(requirements).read_text().split())}")
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", requirements], check=True)
        listed = subprocess.run(
            [python, "-m", "pip", "list", "--format", "json"],
            check=True,
            capture_output=True,
            text=True,
        )
        print(f"{len(json.loads(listed.stdout))} packages in the environment")
        return subprocess.run(
            [python, "-I", "-c", _CODE, str(folder)],
            cwd=name,
            env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
