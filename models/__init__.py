# Only a type checker reads the imports below; they never run.
# ruff: noqa: F401
"""Invertible residual networks: the network, its inverse, and what is proven of it.

Each name is imported on first use, so that code which needs only a network's settings does not wait
for torch to load. README.md describes the folders. The examples below go on from these lines:

    >>> import torch, models
    >>> model = models.IResNet((1, 8, 8), n_classes=2, blocks=(1,), coeff=0.5).eval()
    >>> images, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])
    >>> certificate = models.certify(model)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.blocks.own import Block, BlockError, Bounds, block_class
    from models.floats.raised import ROOM
    from models.heads.head import Loss
    from models.heads.radius_loss import head_loss, margin_loss
    from models.inverse.fixed_point import Solution, fixed_point, predicted_steps
    from models.layers.kernel_batches import map_kernels
    from models.layers.normalized import NormalizedConv2d
    from models.network.certificate import Certificate, Effort
    from models.network.classifier import fit_to_labels, recompute_batch_norm
    from models.network.family import Family, by_image, member_from
    from models.network.iresnet import IResNet, deployed
    from models.network.training_pass import NotReversedError, kept_bytes, training_features
    from models.proofs.attack import Attacked, attacked
    from models.proofs.certification import certify, with_classifier
    from models.proofs.empirical_bounds import EmpiricalBounds, empirical_bounds
    from models.proofs.empirical_lipschitz import empirical_lipschitz
    from models.proofs.projection import project
    from models.proofs.radius import certified_answers, certified_radius
    from models.spec import (
        SHAPE_SETTINGS,
        SLOPE_KNOWN,
        NetworkSettings,
        NetworkSpec,
        SettingError,
        Span,
        is_import_path,
        setting,
    )
    from models.storage.network_files import (
        CHANGES,
        NETWORK,
        WEIGHTS,
        proven_dtype,
        read_network,
        write_network,
        write_weights,
    )

else:
    # The same names, by the module that defines them.
    _ROOMS = {
        "models.blocks.own": "Block BlockError Bounds block_class",
        "models.floats.raised": "ROOM",
        "models.heads.head": "Loss",
        "models.heads.radius_loss": "head_loss margin_loss",
        "models.inverse.fixed_point": "Solution fixed_point predicted_steps",
        "models.layers.kernel_batches": "map_kernels",
        "models.layers.normalized": "NormalizedConv2d",
        "models.network.certificate": "Certificate Effort",
        "models.network.classifier": "fit_to_labels recompute_batch_norm",
        "models.network.family": "Family by_image member_from",
        "models.network.iresnet": "IResNet deployed",
        "models.network.training_pass": "NotReversedError kept_bytes training_features",
        "models.proofs.attack": "Attacked attacked",
        "models.proofs.certification": "certify with_classifier",
        "models.proofs.empirical_bounds": "EmpiricalBounds empirical_bounds",
        "models.proofs.empirical_lipschitz": "empirical_lipschitz",
        "models.proofs.projection": "project",
        "models.proofs.radius": "certified_answers certified_radius",
        "models.spec": (
            "SHAPE_SETTINGS SLOPE_KNOWN NetworkSettings NetworkSpec SettingError Span "
            "is_import_path setting"
        ),
        "models.storage.network_files": (
            "CHANGES NETWORK WEIGHTS proven_dtype read_network write_network write_weights"
        ),
    }
    _HOMES = {name: room for room, names in _ROOMS.items() for name in names.split()}

    def __getattr__(name: str) -> Any:
        if name == "__all__":
            # pdoc and `help` ask for it, and then look into the module's dictionary alone.
            globals().update({each: __getattr__(each) for each in _HOMES})
            return list(_HOMES)
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(_HOMES[name]), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
