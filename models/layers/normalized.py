"""The interface of convolutions whose weight is computed from a parameter and a target norm."""

from abc import abstractmethod

from torch import Tensor, nn


class NormalizedConv2d(nn.Module):
    """Zero-padded convolution with stride 1, a bias, and a target for the norm of its weight.

    Args:
        weight: initial parameter (c_out, c_in, k, k), k odd.
        bias: initial parameter (c_out,).
        coeff: target of the spectral norm of the convolution, l2 to l2, > 0.
    """

    def __init__(self, weight: Tensor, bias: Tensor, coeff: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.coeff = coeff

    @abstractmethod
    def effective_weight(self) -> Tensor:
        """The kernel (c_out, c_in, k, k) that the layer convolves with."""

    def deployed(self) -> nn.Conv2d:
        """This layer as a plain convolution with its current effective weight."""
        c_out, c_in, k, _ = self.weight.shape
        # On "meta", the initial weights take no memory and draw no random numbers.
        plain = nn.Conv2d(c_in, c_out, k, padding=k // 2, device="meta")
        plain.weight = nn.Parameter(self.effective_weight().detach(), requires_grad=False)
        plain.bias = nn.Parameter(self.bias.detach(), requires_grad=False)
        return plain.train(self.training)
