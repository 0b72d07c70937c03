"""Measures how similar the channels of a layer are.

Two measures of the covariance of the channels, taken over all positions of
some images (not of their padding):

- ``redundancy``: 1 - (erank - 1) / (C - 1), with the effective rank of
  O. Roy and M. Vetterli, "The effective rank: a measure of effective
  dimensionality", EUSIPCO 2007: the exponential of the entropy of the
  normalised singular values, here of the centred C x positions matrix. 0:
  uncorrelated channels of equal variance; 1: all channels are multiples of
  one.
- ``correlation``: the mean absolute Pearson correlation of two channels,
  which does not depend on their variances. Channels that never vary have
  none, and are left out.

Each layer is taken after its norm and before its activation.
"""
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from .models import Picture, forward_hooks, inference_copy

SOURCE = 'effective rank: Roy and Vetterli, EUSIPCO 2007'
COLUMNS = ('model', 'layer', 'channels', 'positions', 'effective_rank',
           'redundancy', 'mean_abs_correlation', 'constant_channels', 'source')


class ChannelCovariance:
    """Covariance of channels over everything that was added, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Tensor | None = None
        self.products: Tensor | None = None

    def add(self, x: Tensor) -> None:
        """Add feature maps (N, C, H, W)."""
        x = x.detach().to('cpu', torch.float64).transpose(0, 1).flatten(1)
        if self.total is None:
            # around a first mean, so that large means do not cost precision
            self.origin = x.mean(1, keepdim=True)
            self.total = x.new_zeros(len(x))
            self.products = x.new_zeros(len(x), len(x))
        x = x - self.origin
        self.count += x.shape[1]
        self.total += x.sum(1)
        self.products += x @ x.T

    def value(self) -> Tensor:
        """(C, C)."""
        mean = self.total / self.count
        return self.products / self.count - torch.outer(mean, mean)


def effective_rank(covariance: Tensor) -> float:
    """Between 1 and C; 0 where no channel varies.

    Args:
        covariance (Tensor): (C, C). Its eigenvalues are the squares of the
            matrix's singular values.
    """
    eigenvalues = torch.linalg.eigvalsh(covariance)
    # rounding makes zeros small numbers, whose roots would count
    rounding = eigenvalues.amax() * len(covariance) * torch.finfo(
        covariance.dtype).eps
    singular = eigenvalues[eigenvalues > rounding].sqrt()
    if not len(singular):
        return 0.
    shares = singular / singular.sum()
    return float(torch.exp(-(shares * shares.log()).sum()))


def redundancy(covariance: Tensor) -> float:
    """Between 0 and 1, see the module; 1 where no channel varies."""
    channels = len(covariance)
    if channels < 2:
        return 0.
    return min(1., 1 - (effective_rank(covariance) - 1) / (channels - 1))


def varying_channels(covariance: Tensor) -> Tensor:
    """Which channels are not constant: (C, ), bool."""
    variance = covariance.diagonal()
    return variance > variance.amax() * 1e-12


def mean_abs_correlation(covariance: Tensor) -> float:
    """Between 0 and 1; NaN where less than two channels vary."""
    varying = varying_channels(covariance)
    covariance = covariance[varying][:, varying]
    deviation = covariance.diagonal().sqrt()
    correlation = (covariance / torch.outer(deviation, deviation)).abs()
    pairs = len(correlation) * (len(correlation) - 1)
    if not pairs:
        return float('nan')
    return float((correlation.sum() - correlation.diagonal().sum()) / pairs)


@dataclass(frozen=True)
class LayerRedundancy:
    """Measures of one layer; the columns of the CSV file."""

    model: str
    layer: str
    channels: int
    positions: int
    effective_rank: float
    redundancy: float
    correlation: float
    constant_channels: int

    def row(self) -> list:
        return [
            self.model, self.layer, self.channels, self.positions,
            self.effective_rank, self.redundancy, self.correlation,
            self.constant_channels, SOURCE
        ]


def conv2_layers(backbone: nn.Module) -> dict[str, nn.Module]:
    """The norms after conv2 of each block of a ResNet of MMDetection's, by
    the name of the convolution.

    Raises:
        ValueError: If the backbone is no such ResNet.
    """
    if not hasattr(backbone, 'res_layers'):
        raise ValueError(f'backbone type={type(backbone).__name__!r} is not '
                         'valid: a ResNet of MMDetection or of this package')
    return {
        f'{stage}.{i}.conv2': block.norm2
        for stage in backbone.res_layers
        for i, block in enumerate(getattr(backbone, stage))
    }


def measure(name: str, model: nn.Module,
            pictures: Iterable[Picture]) -> list[LayerRedundancy]:
    """Measure each conv2 of a detector's backbone.

    Args:
        name (str): What to call the model.
        model (nn.Module): With a ``backbone``.
        pictures (Iterable): The images to measure on.

    Raises:
        ValueError: See :func:`conv2_layers`.
    """
    model = inference_copy(model)
    layers = conv2_layers(model.backbone)
    covariances = {layer: ChannelCovariance() for layer in layers}
    with torch.no_grad():
        for picture in pictures:
            with forward_hooks(
                    layers, lambda layer, _, out, crop=picture.crop:
                    covariances[layer].add(crop(out))):
                model.backbone(picture.inputs)
    results = []
    for layer, statistics in covariances.items():
        covariance = statistics.value()
        results.append(
            LayerRedundancy(
                name, layer, len(covariance), statistics.count,
                effective_rank(covariance), redundancy(covariance),
                mean_abs_correlation(covariance),
                int((~varying_channels(covariance)).sum())))
    return results


def redundancy_figure(results: list[LayerRedundancy]) -> Figure:
    """Both measures over the layers, a line for each model."""
    names = list(dict.fromkeys(r.layer for r in results))
    models = list(dict.fromkeys(r.model for r in results))
    figure = Figure(figsize=(max(7, 2 + 0.4 * len(names)), 6.5))
    axes = figure.subplots(2, 1, sharex=True)
    labels = ('redundancy\n(1 - normalised effective rank)',
              'mean |correlation|\nof two channels')
    for ax, key, label in zip(axes, ('redundancy', 'correlation'), labels):
        for model, marker in zip(models, 'osD^vP*X' * len(models)):
            own = [r for r in results if r.model == model]
            ax.plot([names.index(r.layer) for r in own],
                    [getattr(r, key) for r in own], f'{marker}-', label=model)
        ax.set_ylabel(label)
        ax.set_ylim(0, 1)
        ax.grid(alpha=0.3)
    axes[0].legend()
    axes[1].set_xticks(range(len(names)), names, rotation=60, ha='right',
                       rotation_mode='anchor')
    axes[0].set_title(f'Redundancy of the channels after each conv2\n'
                      f'({SOURCE})', fontsize=11)
    figure.align_ylabels(axes)
    figure.tight_layout()
    return figure
