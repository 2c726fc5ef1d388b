"""Invertible residual networks: the network, its inverse, and what is proven of it."""

from models.certificate import Certificate, certify
from models.empirical_lipschitz import empirical_lipschitz
from models.fingerprint import code_sha256, differences, weights_sha256
from models.fixed_point import Solution, fixed_point, predicted_steps
from models.iresnet import IResNet
from models.pickled import load_pickled
from models.projection import deployed, project

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
