"""How each kind of layer is fitted to the dense convolution that it replaces.
"""
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..layers import SCConv, SPConv
from .fit import fit
from .moments import LinearForm, moments
from .regression import regress_layer
from .weights import write

CLOSED_FORM, REGRESSION = 'closed form', 'regression'
# number of input values that the statistics of a layer's norms are computed
# from
STATISTICS_VALUES = 2**23


def method_of(layer: nn.Module) -> str:
    """How a layer is fitted.

    - 'closed form': SPConv, and SCConv with units 'S+C' or 'C', whose inner
      norms are BatchNorms. They are linear (behind the SRU).
    - 'regression': SCConv with other units or other norms, SlimConv,
      GhostConv, TiedConv, OctConv, any other module.
    """
    if isinstance(layer, SCConv) and layer.units in ('S+C', 'C'):
        cru = layer.cru
        norms = (cru.squeeze_up_bn, cru.squeeze_low_bn, cru.bn1, cru.bn2)
    elif isinstance(layer, SPConv):
        norms = (layer.bn1, layer.bn2)
    else:
        return REGRESSION
    can_be_set = all(isinstance(norm, _BatchNorm) and norm.affine
                     and norm.track_running_stats for norm in norms)
    return CLOSED_FORM if can_be_set else REGRESSION


@dataclass
class Target:
    """The output of a dense convolution at some positions.

    ``values``: (P, C) at ``positions``, (P, ) indices into N * H * W; or whole
    maps (n, C, H, W) of the first images where ``positions`` is None.
    ``slope``: (C, ), of the norm behind the convolution; channels are
    multiplied by it before they are compared. ``per_image``: H * W.

    If the norm's output is added to the input of a module around it, a
    residual block, ``block`` is its name and ``shortcut`` (P, C) that input.
    """

    values: Tensor
    positions: Tensor | None
    slope: Tensor
    per_image: int
    block: str | None = None
    shortcut: Tensor | None = None

    @property
    def scale(self) -> Tensor:
        """The factor of each channel in the error: (C, ), none near 0."""
        size = self.slope.abs()
        return size.clamp(min=1e-3 * max(float(size.max()), 1e-9))

    def rows(self, maps: Tensor) -> Tensor:
        """Values of maps (N, C, H, W) at the positions: (P, C)."""
        n, position = (self.positions // self.per_image,
                       self.positions % self.per_image)
        return maps.flatten(2)[n, :, position]

    def corrected(self, shortcut: Tensor) -> 'Target':
        """The target plus the error of the block's input, which the layer
        compensates (8).

        Args:
            shortcut (Tensor): (N, C, H, W), the block's input in the
                converted network.
        """
        error = (self.shortcut - self.rows(shortcut)).double()
        values = self.values + self.slope.sign() * error / self.scale
        return replace(self, values=values)

    def variance(self) -> float:
        """Variance of the norm's output, or of the block's sum."""
        values = self.slope * self.values
        if self.shortcut is not None:
            values = values + self.shortcut
        return float(values.var(0, correction=0).sum())


@dataclass
class LayerReport:
    """How a layer was fitted. ``unexplained``: share of the variance of the
    dense convolution's output (of the sum, where it is added to the input of
    a residual block), on images held out."""

    name: str
    method: str
    unexplained: float
    seconds: float = 0.


def fit_closed_form(layer: nn.Module, x: Tensor, target: Target,
                    sample: int, shortcut: Tensor | None = None) -> float:
    """Set a layer to the linear map that is nearest to the target.

    Args:
        layer (nn.Module): See :func:`method_of`; changed in place.
        x (Tensor): (N, C, H, W), its inputs.
        target (Target): With positions, in ascending order.
        sample (int): Number of images that the weights are fitted to; the
            others choose the ridge.
        shortcut (Tensor | None): See :meth:`Target.corrected`.

    Returns:
        float: Share of the variance that is unexplained on the others.

    Raises:
        FitError: If the moments are singular, not finite, or constant.
    """
    form = LinearForm.of(layer)
    total = target.variance()
    if shortcut is not None:
        target = target.corrected(shortcut)
    if isinstance(layer, SCConv) and layer.units == 'S+C':
        # a few images at a time, as it needs memory for several copies
        kept = torch.empty_like(x)
        for part, place in zip(x.split(8), kept.split(8)):
            place.copy_(layer.sru(part))
        x = kept
    features = form.features(x, target.positions)
    scale = target.scale
    values = target.values.double() * scale
    border = int((target.positions < sample * target.per_image).sum())
    found = fit(form, moments(features[:border], values[:border]),
                moments(features[border:], values[border:]))
    few = x[:max(2, STATISTICS_VALUES // x[0].numel())]
    write(layer, few, form, found.map, target.values.double().mean(0), scale)
    remains = found.held_out * values[border:].var(0, correction=0).sum()
    return float(remains) / total


def fit_layer(layer: nn.Module, x: Tensor, target: Target, sample: int,
              seed: int, shortcut: Tensor | None = None) -> float:
    """Fit a layer by its method, see :func:`method_of`."""
    if method_of(layer) == CLOSED_FORM:
        return fit_closed_form(layer, x, target, sample, shortcut)
    count = len(target.values)
    return regress_layer(layer, x[:count], target.values, target.scale,
                         sample * count // len(x), seed)
