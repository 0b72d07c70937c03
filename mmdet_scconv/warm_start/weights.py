"""Writes a linear map into the weights of an SCConv or an SPConv."""
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..layers import SPConv
from .fit import LinearMap
from .moments import LinearForm


def set_norm(norm: _BatchNorm, x: Tensor, slope: Tensor,
             offset: Tensor | None = None) -> None:
    """Set a BatchNorm so that it computes ``slope * (x - mean) + offset``.

    Args:
        norm (_BatchNorm): Its statistics become those of ``x``.
        x (Tensor): (N, C, H, W), its input.
        slope (Tensor): (C, ).
        offset (Tensor | None): (C, ). Defaults to ``slope * mean``: the norm
            then adds what it subtracts.
    """
    variance, mean = (
        v.double() for v in torch.var_mean(x, (0, 2, 3), correction=0))
    slope = slope.double()
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_(slope * (variance + norm.eps).sqrt())
    norm.bias.copy_(slope * mean if offset is None else offset)


def deviation(x: Tensor) -> Tensor:
    """Standard deviation of each channel of (N, C, H, W), none so small that
    a division by it overflows: (C, ), float64."""
    variance = x.var((0, 2, 3), correction=0).double()
    floor = 1e-12 * variance.mean() + 1e-30
    return variance.clamp(min=floor).sqrt()


def point_wise(matrix: Tensor) -> Tensor:
    return matrix[:, :, None, None]


def write_squeeze(squeeze: nn.Conv2d, norm: _BatchNorm, x: Tensor,
                  matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Set a squeeze and its norm to give ``matrix`` times the input, each
    channel divided by its standard deviation.

    Returns:
        tuple: The norm's output, and the standard deviations.
    """
    squeeze.weight.copy_(point_wise(matrix))
    squeeze.bias.zero_()
    width = deviation(squeeze(x))
    squeeze.weight.copy_(point_wise(matrix / width[:, None]))
    out = squeeze(x)
    set_norm(norm, out, torch.ones_like(width))
    return norm(out), width


def write_taps(form: LinearForm, gwc: nn.Conv2d, pwc: nn.Conv2d,
               norm: _BatchNorm, x: Tensor, taps: Tensor,
               target: Tensor, scale: Tensor) -> None:
    """Set GWC and PWC so that their sum is the map of the taps, and the norm
    of the sum.

    Args:
        form (LinearForm): Of the layer.
        gwc, pwc (nn.Conv2d): Changed.
        norm (_BatchNorm): Of their sum; changed.
        x (Tensor): Their input, (N, squeezed or up, H, W).
        taps (Tensor): (T, outputs, squeezed or up).
        target (Tensor): (outputs, ), the mean that the norm's output is to
            have.
        scale (Tensor): (outputs, ), the map is divided by it.
    """
    same = form.same_group().to(taps.device)
    point, kernel = taps[form.point].clone(), taps[:form.kernel].clone()
    if not form.strided:
        # GWC and PWC see the same central tap: half each
        point[same] /= 2
        kernel[form.point] = point * same
    groups = [
        kernel[:, rows][:, :, columns].permute(1, 2, 0)
        for rows, columns in zip(
            torch.arange(form.outputs).chunk(form.groups),
            torch.arange(kernel.shape[2]).chunk(form.groups))
    ]
    gwc.weight.copy_(torch.cat(groups).reshape(gwc.weight.shape))
    pwc.weight.copy_(point_wise(point))
    size = deviation(gwc(x) + pwc(form.pool(x)))
    gwc.weight.div_(point_wise(size[:, None]))
    pwc.weight.div_(point_wise(size[:, None]))
    set_norm(norm, gwc(x) + pwc(form.pool(x)), 2 * size / scale, target)


@torch.no_grad()
def write(conv: nn.Module, x: Tensor, form: LinearForm, found: LinearMap,
          target: Tensor, scale: Tensor) -> None:
    """Set the weights of an SCConv or SPConv to those of a linear map.

    All inner convolutions give unit variance; the norms behind them hold the
    scales, and statistics with which the forward in eval mode is the linear
    map. Both branches have the target's mean, so that the fuse weighs them
    equally.

    Args:
        conv (nn.Module): Changed in place; not its SRU.
        x (Tensor): (N, C, H, W), input of the linear map.
        form (LinearForm): Of ``conv``.
        found (LinearMap): In scaled units.
        target (Tensor): (outputs, ), mean of the target.
        scale (Tensor): (outputs, ), the factor of the target.
    """
    if conv.bias is not None:
        conv.bias.zero_()
    up, low = x.split([form.up, form.low], dim=1)
    low = form.pool(low)
    taps = found.taps
    if isinstance(conv, SPConv):
        write_taps(form, conv.gwc, conv.pwc, conv.bn1, up, taps, target,
                   scale)
        size = write_point_wise(conv.conv1x1, low, found.low)
        set_norm(conv.bn2, conv.conv1x1(low), 2 * size / scale, target)
        return
    cru = conv.cru
    up, width = write_squeeze(cru.squeeze_up, cru.squeeze_up_bn, up,
                              found.squeeze)
    write_taps(form, cru.gwc, cru.pwc1, cru.bn1, up, taps * width, target,
               scale)
    narrow = form.outputs - form.squeezed_low
    low, width = write_squeeze(cru.squeeze_low, cru.squeeze_low_bn, low,
                               found.low[narrow:])
    size = write_point_wise(cru.pwc2, low, found.pwc2 * width)
    y2 = torch.cat([cru.pwc2(low), low], dim=1)
    set_norm(cru.bn2, y2, 2 * torch.cat([size, width]) / scale, target)


def write_point_wise(conv: nn.Conv2d, x: Tensor, matrix: Tensor) -> Tensor:
    """Set a point-wise convolution to ``matrix``, each row divided by the
    standard deviation of its output; returns these."""
    conv.weight.copy_(point_wise(matrix))
    if conv.bias is not None:
        conv.bias.zero_()
    size = deviation(conv(x))
    conv.weight.div_(point_wise(size[:, None]))
    return size
