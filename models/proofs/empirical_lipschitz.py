"""Estimates from below of the Lipschitz constants of residual blocks, at given images."""

from collections.abc import Callable

import torch
from torch import Tensor

from models.arguments import check_kind, count
from models.blocks.invertible_block import InvertibleBlock
from models.maps import check_maps, check_not_empty, check_precision
from models.network.iresnet import IResNet


@torch.no_grad()
def empirical_lipschitz(
    model: IResNet, images: Tensor, n_iterations: int = 10
) -> tuple[float, ...]:
    """For each block, an estimate from below of Lip(g) in eval mode, l2 to l2.

    It is the largest singular value of the Jacobian J of g, over the images, by n_iterations of
    power iteration with Jacobian-vector products from a fixed start; each value is ||J v|| of a
    unit vector v. Where g is differentiable, Lip(g) is at least that. At a kink, where the input of
    a ReLU is exactly 0, torch takes the slope 0, and the result need be no derivative of g: there a
    value is an estimate, and no lower bound. Computed in float64, whose rounding is less than the
    margin of a certificate: a value is below the certificate everywhere.

    Args:
        model: in eval mode.
        images: (B, C, H, W), B >= 1, of in_shape, on the device and of the dtype of the weights.
            Each Jacobian is taken at the features of an image that enter the block.
        n_iterations: at least 1.

    Raises:
        RuntimeError: if the model is in training mode.
        TypeError: if an argument is of the wrong type.
        ValueError: if n_iterations < 1, or the images break a rule above.

    >>> models.empirical_lipschitz(model, images)[0] <= certificate.block_bounds[0]
    True
    """
    check_kind("model", model, IResNet)
    weight = next(model.parameters(), None)
    check_maps("images", images, model.in_shape, weight)
    check_precision("images", images, weight)
    check_not_empty("images", images)
    n_iterations = count("n_iterations", n_iterations, 1)
    if model.training:
        raise RuntimeError("empirical_lipschitz needs eval mode; call model.eval() first")
    largest = []
    x = images
    for module in model.body:
        if isinstance(module, InvertibleBlock):
            largest.append(_largest_singular_value(module, x, n_iterations))
        x = module(x)
    return tuple(largest)


def _largest_singular_value(block: InvertibleBlock, x: Tensor, n_iterations: int) -> float:
    """Estimate from below of the largest singular value of g's Jacobian at the samples of x."""
    g, x = block.deployed().double(), x.double()
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    push, pull = jacobian_products(g, x)
    stretch = x.new_zeros(len(x))
    for _ in range(n_iterations):
        norm = torch.linalg.vector_norm(v, dim=(1, 2, 3), keepdim=True)
        # Where J^T J v is zero, the sample's Jacobian is zero as far as can be seen.
        v = torch.where(norm > 0, v / norm, v)
        image = push(v)
        stretch = torch.maximum(stretch, torch.linalg.vector_norm(image, dim=(1, 2, 3)))
        v = pull(image)
    return stretch.max().item()


def jacobian_products(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """(v -> J v, u -> J^T u) for the Jacobians J of a function at the samples of x (B, ...)."""
    # torch.func.vjp would import torch._dynamo, which takes seconds of each process.
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        image = function(at)
        # J^T u is linear in u, so J v is its gradient by u: no forward pass for each v.
        u = torch.zeros_like(image).requires_grad_()
        (pulled,) = torch.autograd.grad(image, at, u, create_graph=True)

    def push(v: Tensor) -> Tensor:
        return torch.autograd.grad(pulled, u, v, retain_graph=True)[0]

    def pull(of_image: Tensor) -> Tensor:
        return torch.autograd.grad(image, at, of_image, retain_graph=True)[0]

    return push, pull
