"""Invertible residual networks: the network, its inverse, and what is proven of it."""

from models.certificate import Certificate, certify
from models.empirical_lipschitz import empirical_lipschitz
from models.fixed_point import Solution, fixed_point, predicted_steps
from models.iresnet import IResNet
from models.projection import deployed, project
from models.stored import code_sha256, differences, load_pickled, weights_sha256

__all__ = [
    "Certificate",
    "IResNet",
    "Solution",
    "certify",
    "code_sha256",
    "deployed",
    "differences",
    "empirical_lipschitz",
    "fixed_point",
    "load_pickled",
    "predicted_steps",
    "project",
    "weights_sha256",
]
