"""SCConv as written in the paper, for benchmarks to compare with.

It has the form of the copies in circulation, without their errors: it computes
the same as :class:`mmdet_scconv.layers.SCConv`, from the same weights, with a
map for every symbol and a fuse that is 2C wide.
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import SCConv


class TextbookSCConv(SCConv):
    """Shape: as SCConv's, with units 'S+C'."""

    def forward(self, x: Tensor) -> Tensor:
        sru, cru = self.sru, self.cru
        # SRU
        gn = sru.gn(x)
        w_gamma = sru.gn.weight / sru.gn.weight.sum()
        w = torch.sigmoid(gn * w_gamma.view(1, -1, 1, 1))
        w1 = torch.where(w > sru.gate_threshold, torch.ones_like(w), w)
        w2 = torch.where(w > sru.gate_threshold, torch.zeros_like(w), w)
        x11, x12 = torch.chunk(w1 * x, 2, dim=1)
        x21, x22 = torch.chunk(w2 * x, 2, dim=1)
        x = torch.cat([x11 + x22, x12 + x21], dim=1)
        # CRU
        up, low = torch.split(x, [cru.up_channels, cru.low_channels], dim=1)
        up = cru.squeeze_up_bn(cru.squeeze_up(up))
        low = cru.squeeze_low_bn(cru.squeeze_low(cru.pool(low)))
        y1 = cru.bn1(cru.gwc(up) + cru.pwc1(cru.pool(up)))
        y2 = cru.bn2(torch.cat([cru.pwc2(low), low], dim=1))
        y = torch.cat([y1, y2], dim=1)
        pooled = F.adaptive_avg_pool2d(y, 1)
        beta = torch.softmax(torch.stack(pooled.chunk(2, dim=1)), dim=0)
        y = torch.cat(beta.unbind(), dim=1) * y
        y1, y2 = torch.chunk(y, 2, dim=1)
        return self.add_bias(y1 + y2)


def switch_to_textbook(model: nn.Module) -> nn.Module:
    """Give every SCConv of a model the textbook form, in place.

    Raises:
        ValueError: If the model has no SCConv with units 'S+C'.
    """
    layers = [m for m in model.modules()
              if isinstance(m, SCConv) and m.units == 'S+C']
    if not layers:
        raise ValueError(f'{type(model).__name__} has no SCConv with units '
                         "'S+C': there is no textbook form of it")
    for layer in layers:
        layer.__class__ = TextbookSCConv
    return model
