"""Second moments of the features and targets of a layer's linear map.

Equations are numbered as in docs/warm_start.md.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..layers import SPConv

CHUNK = 4096  # positions


class FitError(UserError, ValueError):
    """A convolution cannot be fitted; the message says which and why."""


@dataclass(frozen=True)
class LinearForm:
    """The structure of the linear map (1) of an SCConv behind its SRU, or of
    an SPConv.

    ``squeezed`` is None where the up branch has no squeeze (SPConv), and
    ``squeezed_low`` where the low branch is one point-wise convolution.
    """

    up: int
    low: int
    outputs: int
    groups: int
    gwc: nn.Conv2d
    """Its geometry is read."""
    pool: nn.Module
    """Of the point-wise parts."""
    squeezed: int | None = None
    squeezed_low: int | None = None

    @staticmethod
    def of(conv: nn.Module) -> 'LinearForm':
        if isinstance(conv, SPConv):
            return LinearForm(*conv.split, conv.out_channels, conv.gwc.groups,
                              conv.gwc, conv.pool)
        cru = conv.cru
        return LinearForm(
            cru.up_channels, cru.low_channels, conv.out_channels,
            cru.gwc.groups, cru.gwc, cru.pool, cru.gwc.in_channels,
            cru.squeeze_low.out_channels)

    @property
    def kernel(self) -> int:
        return self.gwc.kernel_size[0] * self.gwc.kernel_size[1]

    @property
    def strided(self) -> bool:
        return self.gwc.stride != (1, 1)

    @property
    def taps(self) -> int:
        """T: those of the GWC, and the pooled input where it is strided."""
        return self.kernel + self.strided

    @property
    def point(self) -> int:
        """Which tap the point-wise convolution sees."""
        return self.kernel if self.strided else self.kernel // 2

    @property
    def border(self) -> int:
        """Where the features of the low branch begin."""
        return self.taps * self.up

    @property
    def size(self) -> int:
        return self.border + self.low

    def same_group(self) -> Tensor:
        """Which outputs and inputs of the GWC share a group: (outputs,
        squeezed or up)."""
        inputs = self.squeezed or self.up
        rows = torch.arange(self.outputs) * self.groups // self.outputs
        columns = torch.arange(inputs) * self.groups // inputs
        return rows[:, None] == columns

    def features(self, x: Tensor, positions: Tensor) -> Tensor:
        """The features at some output positions.

        Args:
            x (Tensor): (N, C, H, W).
            positions (Tensor): (P, ), indices into N * H' * W'.

        Returns:
            Tensor: (P, size); the taps outermost, then the low branch.
        """
        up, low = x.split([self.up, self.low], dim=1)
        low = self.pool(low)
        n, y, x_ = torch.unravel_index(positions,
                                       (len(low), *low.shape[2:]))
        (sy, sx), (dy, dx) = self.gwc.stride, self.gwc.dilation
        (py, px), width = self.gwc.padding, self.gwc.kernel_size[1]
        padded = F.pad(up, (px, px, py, py)).permute(0, 2, 3, 1).contiguous()
        found = x.new_empty(len(positions), self.size)
        *taps, last = found.split([self.up] * self.taps + [self.low], dim=1)
        for k in range(self.kernel):
            i, j = divmod(k, width)
            taps[k].copy_(padded[n, sy * y + dy * i, sx * x_ + dx * j])
        if self.strided:
            taps[-1].copy_(self.pool(up)[n, :, y, x_])
        last.copy_(low[n, :, y, x_])
        return found


@dataclass
class Moments:
    """Sums over positions: of features z, targets t and their products.

    Shapes: z (size, ), t (outputs, ), zz (size, size), zt (size, outputs),
    tt (outputs, ); all float64. Moments of two samples can be added.
    """

    count: int
    z: Tensor
    t: Tensor
    zz: Tensor
    zt: Tensor
    tt: Tensor

    def __add__(self, other: 'Moments') -> 'Moments':
        return Moments(*(a + b for a, b in zip(vars(self).values(),
                                               vars(other).values())))


def moments(features: Tensor, target: Tensor) -> Moments:
    """
    Products of what remains without the means are computed in float32, a
    few thousand positions at a time: twice as fast as in float64, with an
    error far below the smallest ridge. They are summed in float64.

    Args:
        features (Tensor): (P, size).
        target (Tensor): (P, outputs).

    Raises:
        FitError: If there is nothing to compute them from, or a number is
            not finite.
    """
    if not len(features):
        raise FitError('no images to fit to')
    count = len(features)
    z, t = (x.sum(0, dtype=torch.float64) for x in (features, target))
    zz = torch.outer(z, z / count)
    zt = torch.outer(z, t / count)
    for some, wanted in zip(features.split(CHUNK), target.split(CHUNK)):
        some = (some - z / count).float()
        zz += some.T @ some
        zt += some.T @ (wanted - t / count).float()
    found = Moments(count, z, t, zz, zt, target.double().square().sum(0))
    if not (found.zz.isfinite().all() and found.zt.isfinite().all()):
        raise FitError('the features of the images are not finite: are the '
                       'weights of the dense network?')
    return found


@dataclass
class Covariance:
    """Means and covariances (2) of features z and target t, in blocks.

    Shapes: u, the taps of the up branch, (T, up); v, the low branch, (low, ).
    """

    form: LinearForm
    z: Tensor
    t: Tensor
    zz: Tensor
    zt: Tensor
    variance: Tensor

    @staticmethod
    def of(form: LinearForm, sums: Moments, ridge: float = 0.
           ) -> 'Covariance':
        """
        Args:
            form (LinearForm): Says which features are which.
            sums (Moments): Of the features and targets.
            ridge (float): This multiple of the features' mean variance is
                added to each variance (7). Defaults to 0.

        Raises:
            FitError: If the target is constant.
        """
        z, t = sums.z / sums.count, sums.t / sums.count
        zz = (sums.zz / sums.count).addr_(z, z, alpha=-1)
        variance = sums.tt / sums.count - t.square()
        if variance.sum() <= 0:
            raise FitError('the dense convolution gives a constant: nothing '
                           'to fit')
        diagonal = zz.diagonal()
        diagonal += ridge * diagonal.mean() + torch.finfo(zz.dtype).tiny
        return Covariance(form, z, t, zz,
                          (sums.zt / sums.count).addr_(z, t, alpha=-1),
                          variance)

    def uu(self) -> Tensor:
        """(T, up, T, up)"""
        b, shape = self.form.border, (self.form.taps, self.form.up)
        return self.zz[:b, :b].unflatten(1, shape).unflatten(0, shape)

    def uv(self) -> Tensor:
        """(T, up, low)"""
        b = self.form.border
        return self.zz[:b, b:].unflatten(0, (self.form.taps, self.form.up))

    def vv(self) -> Tensor:
        """(low, low)"""
        return self.zz[self.form.border:, self.form.border:]

    def ut(self) -> Tensor:
        """(T, up, outputs)"""
        return self.zt[:self.form.border].unflatten(
            0, (self.form.taps, self.form.up))

    def vt(self) -> Tensor:
        """(low, outputs)"""
        return self.zt[self.form.border:]

    def unexplained(self, matrix: Tensor) -> float:
        """Share of the target's variance that a linear map leaves (3).

        Args:
            matrix (Tensor): (outputs, size).
        """
        explained = 2 * (matrix.T * self.zt).sum() - (
            (matrix @ self.zz) * matrix).sum()
        return 1 - float(explained / self.variance.sum())
