"""Invertible residual networks: the network, its inverse, and what is proven of it."""

from models.arguments import check_arguments
from models.block import Block, BlockError, Bounds, block_class
from models.certificate import Certificate, Effort
from models.certification import certify
from models.classifier_fit import recompute_batch_norm
from models.empirical_bounds import EmpiricalBounds, empirical_bounds
from models.empirical_lipschitz import empirical_lipschitz
from models.fixed_point import Solution, fixed_point, predicted_steps
from models.iresnet import IResNet
from models.projection import deployed, project
from models.radius import certified_radius, radius_without_rounding
from models.stored import read_network, write_network

__all__ = [
    "Block",
    "BlockError",
    "Bounds",
    "Certificate",
    "Effort",
    "EmpiricalBounds",
    "IResNet",
    "Solution",
    "block_class",
    "certified_radius",
    "certify",
    "check_arguments",
    "deployed",
    "empirical_bounds",
    "empirical_lipschitz",
    "fixed_point",
    "predicted_steps",
    "project",
    "radius_without_rounding",
    "read_network",
    "recompute_batch_norm",
    "write_network",
]
