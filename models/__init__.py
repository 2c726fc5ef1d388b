"""Invertible residual networks: the network, its inverse, and what is proven of it."""

from models.certificate import Certificate, certify
from models.fixed_point import Solution, fixed_point
from models.iresnet import IResNet

__all__ = ["Certificate", "IResNet", "Solution", "certify", "fixed_point"]
