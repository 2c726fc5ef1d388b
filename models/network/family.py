"""A family: networks that share the weights of their blocks, trained at once.

A member is given by its conditions, settings in which members differ: a bias or a parameter of the
classifier is p_0 + sum_k u_k p_k, where u_k in [-1, 1] is the position of condition k in its range.
The condition `coeff` is moreover the setting coeff of the member: it multiplies the weights of
bottleneck blocks; its root, weights and biases of potential blocks. A member is a plain network:
what is proven of it is proven of it alone, and nothing is proven of a family.
"""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.quasirandom import SobolEngine

from models.blocks.bottleneck import ResidualBlock
from models.blocks.potential import PotentialBlock
from models.heads.head import Head
from models.layers.normalized import NormalizedConv2d
from models.layers.spectral_norm import SpectralNormConv2d
from models.network.iresnet import IResNet
from models.network.training_pass import OfImages, training_features
from models.spec import NetworkSpec, Span

COEFF = "coeff"
"""The condition that is a setting of the network too; any other decides parameters alone."""
# The largest sum of magnitudes of the shares with which members make another: shares multiply what
# rounding has taken from each.
_LARGEST_SHARES = 30


class Family(nn.Module):
    """The networks of one spec whose `spans` vary; see the module.

    Args:
        spec: of the members, apart from coeff where that is a condition.
        spans: name of a condition -> its range.

    Attributes:
        base: holds the shared weights and the p_0. Where coeff is a condition, its own is 1, and it
            is no member.
        slopes: the p_k, (K, *shape) for each parameter of `conditioned`, at first 0.

    Raises:
        ValueError: without spans, or with the condition coeff unless `spec.shares_weights`.

    >>> of = {"blocks": (), "dense_blocks": 1, "head": "lipschitz"}
    >>> spec = models.NetworkSpec(in_shape=(1, 8, 8), n_classes=2, **of)
    >>> family = models.Family(spec, {"coeff": models.Span(0.1, 0.4, log=True)})
    >>> models.certify(family.at(coeff=0.2)).lipschitz_upper_bound < 0.2001
    True
    """

    def __init__(self, spec: NetworkSpec, spans: Mapping[str, Span]) -> None:
        super().__init__()
        if not spans:
            raise ValueError("a family must have one or more conditions, but got none")
        if COEFF in spans and not spec.shares_weights:
            raise ValueError(
                "blocks must be potential ones on patches or dense, or bottlenecks with budget: "
                f"even, and norm spectral, where {COEFF} is a condition, but got {spec}"
            )
        self.spans = dict(spans)
        self.base = IResNet(replace(spec, coeff=1.0) if COEFF in spans else spec)
        shapes = (parameter.shape for parameter in self.conditioned)
        self.slopes = nn.ParameterList(torch.zeros(len(spans), *shape) for shape in shapes)

    @property
    def conditioned(self) -> list[nn.Parameter]:
        """The parameters of the base that its members have in another form: biases, classifier."""
        biases = [of.layer.bias for of in _layers(self.base)]
        return [*biases, *self.base.classifier.parameters()]

    def spread(self, n: int) -> list[dict[str, float]]:
        """n conditions that cover the ranges evenly, by a Sobol sequence, the first in the middle
        of all ranges; fewer where ranges are so narrow that some are equal to three digits."""
        shares = SobolEngine(len(self.spans)).draw(n + 1, dtype=torch.float64)[1:].tolist()
        pairs = [zip(self.spans.items(), row, strict=True) for row in shares]
        rows = [{name: span.value(share) for (name, span), share in pair} for pair in pairs]
        return list({tuple(row.values()): row for row in rows}.values())

    @property
    def middle(self) -> IResNet:
        """The member whose conditions are in the middle of their ranges."""
        return self.at(**{name: span.middle for name, span in self.spans.items()})

    @torch.no_grad()
    def at(self, **conditions: float) -> IResNet:
        """The member with these conditions: a network of its own, in the base's mode.

        Raises:
            ValueError: unless there is a value in its range for each condition, and nothing else.
        """
        _check(self.spans, conditions)
        values = {
            name: torch.tensor([value], dtype=torch.float64) for name, value in conditions.items()
        }
        network, positions = copy.deepcopy(self.base), self._positions(values)
        coeff = conditions.get(COEFF, 1.0)
        own = (p.squeeze(0) for p in self._parameters_at(positions))
        for of in _layers(network):
            of.layer.coeff *= coeff**of.power
            if isinstance(of.layer, SpectralNormConv2d):
                # Its weight counts where it does not exceed its target.
                of.layer.weight.mul_(coeff**of.power)
            of.layer.bias.copy_(next(own) * coeff**of.bias_power)
        for parameter in network.classifier.parameters():
            parameter.copy_(next(own))
        return network

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """n values of each condition, float64 (n,) on the CPU: one in each n-th of its range, by
        share, in random order."""
        values = {}
        for name, span in self.spans.items():
            part = torch.randperm(n, generator=generator)
            share = (part + torch.rand(n, generator=generator, dtype=torch.float64)) / n
            values[name] = span.between(share)
        return values

    def features(self, images: Tensor, values: Mapping[str, Tensor], *, reversible: bool) -> Tensor:
        """The features of images (B, C, H, W), image i by the member i mod G, for G values (G,) of
        each condition; as `training_features` gives them."""
        layers, n_images = _layers(self.base), len(images)
        coeff = values.get(COEFF, torch.ones(len(next(iter(values.values())))))
        coeff = by_image(coeff.to(images), n_images)
        # (1 + K, B): a bias is p_0 + sum_k u_k p_k.
        positions = F.pad(by_image(self._positions(values), n_images), (1, 0), value=1.0).T
        pairs = zip(layers, self.slopes, strict=False)
        biases: dict[nn.Module, Tensor] = {
            of.layer: torch.cat([of.layer.bias.unsqueeze(0), slopes]).T for of, slopes in pairs
        }
        of_images = OfImages(coeff.sqrt(), positions, biases)
        hooked = [of.layer for of in layers if of.bias_power == 0]
        hooks = [
            layer.register_forward_hook(_by_image(coeff, biases[layer] @ positions))
            for layer in hooked
        ]
        try:
            return training_features(self.base, images, reversible=reversible, of_images=of_images)
        finally:
            for hook in hooks:
                hook.remove()

    def logits(self, features: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, K) of features as `features` gives them, for G values (G,) of each condition.
        A BatchNorm of the classifier sees the images of one member at a time."""
        positions = self._positions(values)
        own = self._parameters_at(positions, slice(len(_layers(self.base)), None))
        names = [name for name, _ in self.base.classifier.named_parameters()]
        n, parts = len(positions), []
        for member in range(min(n, len(features))):
            parameters = {name: of[member] for name, of in zip(names, own, strict=True)}
            scores = functional_call(self.base.classifier, parameters, (features[member::n],))
            parts.append(self.base.head.logits(self.base.classifier, scores))
        logits = torch.cat(parts)
        # Of each row, where it stands in the batch.
        rows = torch.cat([torch.arange(member, len(features), n) for member in range(len(parts))])
        return logits[rows.argsort().to(logits.device)]

    def radii(
        self, features: Tensor, labels: Tensor, values: Mapping[str, Tensor], lipschitz: float
    ) -> tuple[Tensor, Tensor]:
        """Returns (radii, logits): `Head.radii` and logits of features as `features` gives them, in
        float32, for labels (B,)."""
        positions = self._positions(values)
        names = [f"classifier.{name}" for name, _ in self.base.classifier.named_parameters()]
        n_layers = len(_layers(self.base))
        own = self._parameters_at(positions, slice(n_layers, None))
        module = _Radii(self.base.head, self.base.classifier, lipschitz)
        n, rest = len(positions), -len(features) % len(positions)
        # Each member gets as many images: some come twice, and are dropped again.
        features = torch.cat([features, features[:rest]]).unflatten(0, (-1, n))
        of_label = torch.cat([labels, labels[:rest]]).unflatten(0, (-1, n))

        def of_member(parameters: list[Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            of_head = dict(zip(names, parameters, strict=True))
            radii, logits = functional_call(module, of_head, (x, y))
            return radii, logits

        radii, logits = torch.vmap(of_member, (0, 1, 1), 1)(own, features, of_label)
        return radii.flatten(0, 1)[: len(labels)], logits.flatten(0, 1)[: len(labels)]

    def _positions(self, values: Mapping[str, Tensor]) -> Tensor:
        """(G, K), of the weights' dtype and device."""
        columns = [_position(span, values[name]) for name, span in self.spans.items()]
        return torch.stack(columns, dim=1).to(self.slopes[0])

    def _parameters_at(self, positions: Tensor, which: slice = slice(None)) -> list[Tensor]:
        """For each of `which` of `conditioned`, its values (G, *shape) at positions (G, K)."""
        pairs = zip(self.conditioned[which], list(self.slopes)[which], strict=True)
        return [base + torch.tensordot(positions, slopes, 1) for base, slopes in pairs]


@torch.no_grad()
def member_from(
    members: Iterable[tuple[Mapping[str, float], IResNet]],
    spans: Mapping[str, Span],
    conditions: Mapping[str, float],
) -> IResNet:
    """The member of a family with these conditions, from other members: up to rounding, what
    `Family.at` gives, deployed.

    Args:
        members: (conditions, network) each, in plain convolutions, of one dtype. As many are taken
            as determine the member: K + 1 for K conditions, if they do not lie on a line, a plane
            and so on.
        spans: of the family.

    Raises:
        ValueError: unless there is a value in its range for each condition, and nothing else; or if
            the members do not determine it, as those with a BatchNorm do not, whose statistics are
            the member's own.
    """
    _check(spans, conditions)
    wanted, known = _row(spans, conditions), torch.empty(0, 1 + len(spans), dtype=torch.float64)
    networks, coeffs = [], []
    for own, network in members:
        known = torch.cat([known, _row(spans, own).unsqueeze(0)])
        if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
            raise ValueError("members must have no BatchNorm, whose statistics need the data")
        networks.append(network)
        coeffs.append(own.get(COEFF, 1.0))
        shares = torch.linalg.lstsq(known.T, wanted, driver="gelsd").solution
        if torch.allclose(known.T @ shares, wanted) and shares.abs().sum() < _LARGEST_SHARES:
            break
    else:
        raise ValueError(f"members must determine the one with {dict(conditions)}, but do not")
    mixed, coeff = copy.deepcopy(networks[0]), conditions.get(COEFF, 1.0)
    # Linear in the positions, but for powers of the coefficients of blocks.
    powers: dict[nn.Parameter, float] = {}
    for of in _layers(mixed):
        powers |= {of.layer.weight: of.power, of.layer.bias: of.bias_power}
    parts = [dict(network.named_parameters()) for network in networks]
    for name, parameter in mixed.named_parameters():
        scales = [(coeff / own) ** powers.get(parameter, 0.0) for own in coeffs]
        terms = zip(shares.tolist(), scales, parts, strict=True)
        parameter.copy_(sum(share * scale * part[name] for share, scale, part in terms))
    return mixed


def by_image(of_members: Tensor, n_images: int) -> Tensor:
    """(B, ...): for each of B images, the entry of its member, image i having the member i mod G,
    from (G, ...)."""
    return of_members[torch.arange(n_images, device=of_members.device) % len(of_members)]


def _check(spans: Mapping[str, Span], conditions: Mapping[str, float]) -> None:
    if set(conditions) != set(spans):
        have, need = ", ".join(conditions) or "none", ", ".join(spans)
        raise ValueError(f"conditions must be {need}, but got {have}")
    for name, value in conditions.items():
        span = spans[name]
        if not span.low <= value <= span.high:
            raise ValueError(f"{span.low:g} <= {name} <= {span.high:g} must hold, but got {value}")


class _Conditioned(NamedTuple):
    """A layer whose bias is conditioned, and the powers of the condition coeff that multiply its
    weight and its bias."""

    layer: Any
    power: float
    bias_power: float


def _layers(model: IResNet) -> list[_Conditioned]:
    """The conditioned layers of a network, also of a deployed one: those of bottleneck blocks, and
    of potential blocks on patches or single pixels."""
    found = []
    for block in model.blocks:
        if type(block) is PotentialBlock and block.conv.weight.shape[-1] == 1:
            found.append(_Conditioned(block.conv, 0.5, 0.5))
        elif type(block) is ResidualBlock:
            layers = (m for m in block.residual if isinstance(m, NormalizedConv2d | nn.Conv2d))
            found += [_Conditioned(layer, 1.0, 0.0) for layer in layers]
    return found


def _by_image(coeff: Tensor, biases: Tensor) -> Callable[[Any, Any, Tensor], Tensor]:
    """A forward hook that gives each image's map (n, H, W) of a layer its member's coefficient (B,)
    and bias (n, B)."""

    def hook(layer: Any, inputs: Any, output: Tensor) -> Tensor:
        without_bias: Tensor = output - layer.bias[:, None, None]
        return without_bias * coeff[:, None, None, None] + biases.T[:, :, None, None]

    return hook


def _row(spans: Mapping[str, Span], conditions: Mapping[str, float]) -> Tensor:
    """1, and the position of each condition; float64 (1 + K,)."""
    values = (torch.tensor(conditions[name], dtype=torch.float64) for name in spans)
    positions = map(_position, spans.values(), values)
    return torch.stack([torch.ones((), dtype=torch.float64), *positions])


def _position(span: Span, value: Tensor) -> Tensor:
    """The positions, in [-1, 1], of these values."""
    if span.log:
        return 2 * (value / span.low).log() / math.log(span.high / span.low) - 1
    return 2 * (value - span.low) / (span.high - span.low) - 1


class _Radii(nn.Module):
    """A classifier as a function of its parameters that gives radii and logits."""

    def __init__(self, head: Head, classifier: nn.Sequential, lipschitz: float) -> None:
        super().__init__()
        self.head, self.classifier, self.lipschitz = head, classifier, lipschitz

    def forward(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.head.scores(self.classifier, features)
        logits = self.head.logits(self.classifier, scores)
        radii = self.head.radii(self.classifier, features, scores, labels, self.lipschitz)
        return radii, logits
