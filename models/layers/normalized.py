"""The interface of convolutions whose weight is computed from a parameter and a target norm."""

from abc import abstractmethod

from torch import Tensor, nn

from models.layers.convolution import plain_convolution


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
        return plain_convolution(self.effective_weight(), self.bias).train(self.training)
