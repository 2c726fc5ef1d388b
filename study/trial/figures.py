"""Pictures of a network's certificate, inverse and reconstructions, for MLflow's own pages.

The report page draws the same from the same files, for many networks at once.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from study.metrics.artifacts import CERTIFICATE, INVERSE, INVERSE_FIGURE, LAYERS_FIGURE
from study.metrics.definitions import LIPSCHITZ_UPPER_BOUND, RECONSTRUCTION_ERROR

# Pixels a side, at least, to which a small image is enlarged.
_IMAGE_SIZE = 56
# Pixels between a row of images and that of their reconstructions.
_GAP = 6
# For what is not finite: a color that no image is full of.
_MAGENTA = np.array([1, 0, 1], dtype=np.float32)
# Blue and orange of Okabe and Ito, which every kind of color vision tells apart.
_BLUE, _ORANGE = "#0072b2", "#d55e00"


def save_reconstructions(
    path: Path, images: NDArray[np.float32], reconstructions: NDArray[np.float32]
) -> None:
    """Write images (N, C, H, W), C one or three, in a row, and their reconstructions below.

    0 is black and 1 is white; what lies beyond is cut off. What is not finite is magenta.
    """
    scale = max(1, _IMAGE_SIZE // images.shape[-1])
    above, below = (
        np.concatenate(list(_colored(part)), axis=1).repeat(scale, axis=0).repeat(scale, axis=1)
        for part in (images, reconstructions)
    )
    between = np.full((_GAP, above.shape[1], 3), 0.5, dtype=np.float32)
    imsave(path, np.concatenate([above, between, below], axis=0))


def _colored(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, C, H, W) -> (N, H, W, 3), in [0, 1]."""
    colored = np.moveaxis(np.repeat(images, 3 // images.shape[1], axis=1), 1, -1)
    finite = np.isfinite(colored).all(axis=-1, keepdims=True)
    in_range: NDArray[np.float32] = np.where(finite, colored.clip(0, 1), _MAGENTA)
    return in_range


def save_figures(folder: Path) -> None:
    """Draw the CERTIFICATE and the INVERSE of a folder into it."""
    _save(_layers, json.loads((folder / CERTIFICATE).read_text()), folder / LAYERS_FIGURE)
    _save(_inverse, json.loads((folder / INVERSE).read_text()), folder / INVERSE_FIGURE)


def _save(draw: Any, content: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    draw(axes, content)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def _layers(axes: Axes, certificate: dict[str, Any]) -> None:
    for key, color in (("layers", _BLUE), ("blocks", _ORANGE)):
        bounds = [part["upper_bound"] for part in certificate[key]]
        # Blocks stand where their last layer does.
        places = np.linspace(len(certificate["layers"]) / len(bounds), len(certificate["layers"]),
                             len(bounds))  # fmt: skip
        axes.plot(places, bounds, "o", markersize=3, color=color, label=key)
    axes.axhline(1, color="gray", linewidth=1, label="1: below it a block contracts")
    axes.set(xlabel="layer", ylabel="proven bound of the Lipschitz constant, l2", ylim=(0, None))
    axes.set_title(f"largest over blocks: {certificate[LIPSCHITZ_UPPER_BOUND]:.4g}")
    axes.legend()


def _inverse(axes: Axes, inverse: dict[str, Any]) -> None:
    errors = [math.nan if e is None else e for e in inverse[RECONSTRUCTION_ERROR]]
    axes.semilogy(inverse["n_steps"], errors, "o-", color=_BLUE, label="reconstruction error")
    needed = float(np.mean(inverse["needed_steps_mean"]))
    axes.axvline(needed, color=_BLUE, linestyle=":", label=f"needed: {needed:.1f}, the mean")
    predicted = [steps for steps in inverse["predicted_steps"] if steps is not None]
    if len(predicted) == len(inverse["predicted_steps"]):
        axes.axvline(
            max(predicted),
            color=_ORANGE,
            linestyle="--",
            label=f"predicted by the certificate: {max(predicted)}, the largest",
        )
    axes.set(xlabel="steps in every block", ylabel="||x - x_hat|| / ||x||, l2, mean")
    axes.set_title(f"steps needed and predicted for rtol {inverse['rtol']:g}")
    axes.legend()
