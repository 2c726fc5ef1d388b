"""Train the networks that the other benchmarks measure, on real data, and save them.

    python -m tests.benchmarks.network cifar10 DATA_ROOT FOLDER [--epochs 2] [--coeff 0.9]
        [--images N]
    python -m tests.benchmarks.network mnist DATA_ROOT FOLDER [--epochs 3] [--coeff 0.95]

cifar10: the paper's 55 blocks; DATA_ROOT holds torchvision's files, or train/CLASS/*.png or
*.jpg. mnist: the network of search_spaces/paper_mnist.yaml. FOLDER gets what
`models.read_network` reads, and data.json with the settings of the data. Uses a GPU if there is
one.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from models import IResNet, read_network, write_network
from study.config.data import DataConfig
from study.config.trial import EvaluationConfig, ModelConfig, TrainingConfig, TrialConfig
from study.metrics.reports import TrialStatus
from study.trial.data import sources
from study.trial.data import tensors as data
from study.trial.randomness import choose_algorithms
from study.trial.training import Training

_MODELS = {
    "cifar10": ModelConfig(dropout=0.1, n_power_iterations=1),
    "mnist": ModelConfig(blocks=(1, 2, 2), channel_multiplier=8, dropout=0.1),
}


def load(folder: Path) -> tuple[IResNet, data.Dataset]:
    """The network of a folder, in eval mode, and its data set."""
    settings = json.loads((folder / "data.json").read_text())
    return read_network(folder), sources.load(DataConfig(**settings))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=sorted(_MODELS))
    parser.add_argument("data_root", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, help="train on so many at most")
    parser.add_argument("--coeff", type=float, default=0.9)
    arguments = parser.parse_args()
    is_folder = arguments.name == "cifar10" and (arguments.data_root / "train").is_dir()
    model = {**asdict(_MODELS[arguments.name]), "coeff": arguments.coeff}
    config = TrialConfig(
        data=DataConfig(
            name="image_folder" if is_folder else arguments.name,
            root=str(arguments.data_root),
            max_train=arguments.images,
        ),
        model=ModelConfig(**model),
        # No benchmark needs the attack: within a large radius it succeeds at once.
        evaluation=EvaluationConfig(radius=4.0),
        training=TrainingConfig(max_epochs=arguments.epochs, lr=0.1, lr_schedule="one_cycle"),
    )
    choose_algorithms(config.training.deterministic)
    training = Training(config, "cuda" if torch.cuda.is_available() else "cpu")
    while training.status is TrialStatus.RUNNING:
        print(training.run_to_report().epoch, flush=True)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    of_data = {"in_shape": training.dataset.in_shape, "n_classes": training.dataset.n_classes}
    description = {"architecture": {**of_data, **asdict(config.model)}}
    write_network(arguments.folder, training.model, description)
    (arguments.folder / "data.json").write_text(json.dumps(asdict(config.data)))


if __name__ == "__main__":
    main()
