"""Invertible residual networks: the network, its inverse, and what is proven of it."""

from models.blocks.own import Block, BlockError, Bounds, block_class
from models.floats.raised import ROOM
from models.heads.head import Loss
from models.heads.radius_loss import head_loss
from models.inverse.fixed_point import Solution, fixed_point, predicted_steps
from models.layers.kernel_batches import map_kernels
from models.layers.spectral_norm import SpectralNormConv2d
from models.network.arguments import check_arguments
from models.network.certificate import Certificate, Effort
from models.network.classifier import recompute_batch_norm
from models.network.iresnet import IResNet, deployed
from models.proofs.certification import certify, with_classifier
from models.proofs.empirical_bounds import EmpiricalBounds, empirical_bounds
from models.proofs.empirical_lipschitz import empirical_lipschitz
from models.proofs.projection import project
from models.proofs.radius import certified_radius, radius_without_rounding
from models.storage.network_files import (
    CHANGES,
    NETWORK,
    WEIGHTS,
    proven_dtype,
    read_network,
    write_network,
)

__all__ = [
    "CHANGES",
    "NETWORK",
    "ROOM",
    "WEIGHTS",
    "Block",
    "BlockError",
    "Bounds",
    "Certificate",
    "Effort",
    "EmpiricalBounds",
    "IResNet",
    "Loss",
    "Solution",
    "SpectralNormConv2d",
    "block_class",
    "certified_radius",
    "certify",
    "check_arguments",
    "deployed",
    "empirical_bounds",
    "empirical_lipschitz",
    "fixed_point",
    "head_loss",
    "map_kernels",
    "predicted_steps",
    "project",
    "proven_dtype",
    "radius_without_rounding",
    "read_network",
    "recompute_batch_norm",
    "with_classifier",
    "write_network",
]
