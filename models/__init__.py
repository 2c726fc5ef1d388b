"""Invertible residual networks: the network, its inverse, and what is proven of it."""

from models.certificate import Certificate, certify
from models.empirical_lipschitz import empirical_lipschitz
from models.fixed_point import Solution, fixed_point, predicted_steps
from models.iresnet import IResNet
from models.projection import deployed, project

__all__ = [
    "Certificate",
    "IResNet",
    "Solution",
    "certify",
    "deployed",
    "empirical_lipschitz",
    "fixed_point",
    "predicted_steps",
    "project",
]
