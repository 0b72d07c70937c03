"""How each kind of layer is fitted to the dense convolution it replaces."""
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..layers import SCConv, SPConv
from .fit import fit
from .moments import LinearForm, moments
from .regression import regress_layer
from .weights import write

CLOSED_FORM, REGRESSION = 'closed form', 'regression'


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
    """What a dense convolution gives, at some positions.

    ``values``: (P, C) at ``positions``, (P, ) indices into N * H * W; or
    whole maps (n, C, H, W) of the first images where ``positions`` is None.
    ``scale``: (C, ), what the channels are multiplied with before they are
    compared: the slope of the norm behind. ``per_image``: H * W.
    """

    values: Tensor
    positions: Tensor | None
    scale: Tensor
    per_image: int


@dataclass
class LayerReport:
    """How a layer was fitted. ``unexplained``: share of the variance of the
    dense convolution's output, on images held out."""

    name: str
    method: str
    unexplained: float
    seconds: float = 0.


def fit_closed_form(layer: nn.Module, x: Tensor, target: Target,
                    sample: int) -> float:
    """Set a layer to the linear map that is nearest to the target.

    Args:
        layer (nn.Module): See :func:`method_of`; changed in place.
        x (Tensor): (N, C, H, W), its inputs.
        target (Target): With positions, in ascending order.
        sample (int): So many images choose the weights, the others the
            ridge.

    Returns:
        float: Share of the variance that is unexplained on the others.

    Raises:
        FitError: If the moments are singular, not finite, or constant.
    """
    form = LinearForm.of(layer)
    if isinstance(layer, SCConv) and layer.units == 'S+C':
        x = layer.sru(x)
    features = form.features(x, target.positions)
    values = target.values.double() * target.scale
    border = int((target.positions < sample * target.per_image).sum())
    found = fit(form, moments(features[:border], values[:border]),
                moments(features[border:], values[border:]))
    write(layer, x, form, found.map, target.values.double().mean(0),
          target.scale)
    return found.held_out


def fit_layer(layer: nn.Module, x: Tensor, target: Target, sample: int,
              seed: int) -> float:
    """Fit a layer by its method, see :func:`method_of`."""
    if method_of(layer) == CLOSED_FORM:
        return fit_closed_form(layer, x, target, sample)
    count = len(target.values)
    return regress_layer(layer, x[:count], target.values, target.scale,
                         sample * count // len(x), seed)
