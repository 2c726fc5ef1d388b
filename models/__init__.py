"""Invertible residual networks: the network, its inverse, and what is proven of it."""

from models.certificate import Certificate, Effort
from models.certification import certify
from models.empirical_lipschitz import empirical_lipschitz
from models.fixed_point import Solution, fixed_point, predicted_steps
from models.iresnet import IResNet, check_arguments
from models.projection import deployed, project, recompute_batch_norm
from models.stored import code_sha256, differences, load_pickled, weights_sha256

__all__ = [
    "Certificate",
    "Effort",
    "IResNet",
    "Solution",
    "certify",
    "check_arguments",
    "code_sha256",
    "deployed",
    "differences",
    "empirical_lipschitz",
    "fixed_point",
    "load_pickled",
    "predicted_steps",
    "project",
    "recompute_batch_norm",
    "weights_sha256",
]
