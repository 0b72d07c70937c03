"""Closed-form fit of an SCConv to the dense convolution that it replaces.

Behind the SRU, and up to the softmax of the fuse, SCConv is linear. With both
branches of equal mean the softmax gives each 1/2, and with the inner norms
set to pass on what they get, its output is (T taps of the up branch, the
last or the central one point-wise)

    y = sum_t W_t A x_up[t] + [P; I] B x_low,

A and B the squeezes, W_t the GWC (block-diagonal) and the PWC1 (full), P the
PWC2. Which y is nearest to the dense convolution's output follows from second
moments alone: W and P from least squares, A from a reduced-rank regression
(Izenman 1975) over all taps of a group, refined in turns with W (alternating
least squares, its step for A by preconditioned conjugate gradients).

Everything is float64; a ridge keeps few images from being learnt by heart,
its strength and the number of turns chosen on images held out.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..layers import SCConv
from ..layers.scconv import CRU

RIDGES = (1e-3, 1e-2, 1e-1, 1.)
TURNS = 5
COMPLETION = 1e-4  # relative ridge of P, for a B that is near singular
CG_STEPS = 8
JITTER = 1e-10  # share of the mean variance that numerics need
FLOOR = 1e-12  # variances are kept above this share of their mean


class FitError(ValueError):
    """A convolution that cannot be fitted, and why."""


def check_fits(conv: nn.Module) -> None:
    """Check that a convolution is one that :func:`fit` can set.

    Raises:
        FitError: If it is no SCConv, has other units than 'S+C' or 'C', or
            inner norms other than affine BatchNorms with statistics.
    """
    if not isinstance(conv, SCConv) or conv.units not in ('S+C', 'C'):
        raise FitError(
            f'only SCConv of units S+C or C can be fitted, not {conv}')
    cru = conv.cru
    for norm in (cru.squeeze_up_bn, cru.squeeze_low_bn, cru.bn1, cru.bn2):
        if not (isinstance(norm, _BatchNorm) and norm.affine
                and norm.track_running_stats):
            raise FitError('only inner norms that are affine BatchNorms with '
                           f'running statistics can be set, not {norm}')


class Layout:
    """How the CRU's input is seen by its linear map.

    ``taps``: T, those of the GWC and, where it has a stride, the pooled
    input of PWC1 as one more (else PWC1 sees the central tap).

    Args:
        cru (CRU): Its sizes are read.
    """

    def __init__(self, cru: CRU) -> None:
        self.cru = cru
        gwc = cru.gwc
        self.up, self.low = cru.up_channels, cru.low_channels
        self.squeezed, self.groups = gwc.in_channels, gwc.groups
        self.outputs = gwc.out_channels
        self.squeezed_low = cru.squeeze_low.out_channels
        self.kernel = gwc.kernel_size[0] * gwc.kernel_size[1]
        self.strided = gwc.stride != (1, 1)
        self.taps = self.kernel + self.strided
        self.point = self.kernel if self.strided else self.kernel // 2

    @property
    def size(self) -> int:
        return self.taps * self.up + self.low

    def within_groups(self) -> Tensor:
        """Which outputs see which squeezed channels in the GWC: (outputs,
        squeezed)."""
        rows = torch.arange(self.outputs) * self.groups // self.outputs
        columns = torch.arange(self.squeezed) * self.groups // self.squeezed
        return rows[:, None] == columns

    def mask(self) -> Tensor:
        """Which of the W_t may differ from 0: (T, outputs, squeezed)."""
        mask = self.within_groups().repeat(self.taps, 1, 1)
        mask[self.point] = True
        return mask

    def features(self, x: Tensor) -> Tensor:
        """What the linear map sees at each output position.

        Shape: (N, C, H, W), output of the SRU -> (N, positions, size), the
        taps outermost.
        """
        up, low = self.cru.split(x)
        gwc = self.cru.gwc
        patches = F.unfold(up, gwc.kernel_size, gwc.dilation, gwc.padding,
                           gwc.stride)
        patches = patches.unflatten(1, (self.up, self.kernel)).transpose(1, 2)
        if self.strided:
            pooled = self.cru.pool(up).flatten(2).unsqueeze(1)
            patches = torch.cat([patches, pooled], 1)
        low = self.cru.pool(low).flatten(2)
        return torch.cat([patches.flatten(1, 2), low], 1).transpose(1, 2)


class Moments:
    """First and second moments of an SCConv's features and of its target.

    Args:
        conv (SCConv): Its SRU, as it is, gives the input of the CRU.
        scale (Tensor | None): (outputs, ), what the target's channels are
            multiplied with before they are compared: the slope of the norm
            behind. Defaults to 1.
    """

    def __init__(self, conv: SCConv, scale: Tensor | None = None) -> None:
        self.conv, self.layout = conv, Layout(conv.cru)
        size, outputs = self.layout.size, self.layout.outputs
        self.count, self.up_count = 0, 0
        device = conv.cru.gwc.weight.device
        self.zz, self.zt, self.z, self.t, self.tt, self.up, self.upup = (
            torch.zeros(shape, dtype=torch.float64, device=device)
            for shape in ((size, size), (size, outputs), (size, ),
                          (outputs, ), (outputs, ), (self.layout.up, ),
                          (self.layout.up, self.layout.up)))
        self.scale = torch.ones_like(self.t)
        if scale is not None:
            scale = scale.detach().double().abs()
            self.scale = scale.clamp(min=1e-3 * max(float(scale.max()), 1e-9))

    @torch.no_grad()
    def update(self, x: Tensor, target: Tensor,
               positions: int | None = None) -> None:
        """Add a batch.

        Args:
            x (Tensor): (N, C, H, W), input of the convolution.
            target (Tensor): (N, outputs, H', W'), what it should give.
            positions (int | None): At most so many output positions, drawn
                at random. Defaults to all.
        """
        if self.conv.units == 'S+C':
            x = self.conv.sru(x)
        z = self.layout.features(x).flatten(0, 1)
        t = target.flatten(2).transpose(1, 2).flatten(0, 1)
        if positions is not None and positions < len(z):
            chosen = torch.randperm(len(z), device=z.device)[:positions]
            z, t = z[chosen], t[chosen]
        z, t = z.double(), t.double() * self.scale
        self.count += len(z)
        self.zz.addmm_(z.T, z)
        self.zt.addmm_(z.T, t)
        self.z += z.sum(0)
        self.t += t.sum(0)
        self.tt += t.square().sum(0)
        up = x[:, :self.layout.up].transpose(0, 1).flatten(1)
        if positions is not None and positions < up.shape[1]:
            up = up[:, torch.randperm(up.shape[1],
                                      device=up.device)[:positions]]
        up = up.double()
        self.up_count += up.shape[1]
        self.up += up.sum(1)
        self.upup.addmm_(up, up.T)

    def central(self) -> 'Central':
        """Means and covariances.

        Raises:
            FitError: If there is nothing to compute them from, or if they
                are not finite.
        """
        if not self.count:
            raise FitError('no images to fit to')
        z, t = self.z / self.count, self.t / self.count
        up = self.up / self.up_count
        central = Central(
            self.layout, z, t, up,
            (self.zz / self.count).addr_(z, z, alpha=-1),
            (self.zt / self.count).addr_(z, t, alpha=-1),
            self.tt / self.count - t.square(),
            self.upup / self.up_count - torch.outer(up, up), self.scale)
        if not all(v.isfinite().all() for v in (central.zz, central.zt)):
            raise FitError('the features of the images are not finite: are '
                           'the weights of the source?')
        if central.variance.sum() <= 0:
            raise FitError('the dense convolution gives a constant: nothing '
                           'to fit')
        return central


@dataclass
class Central:
    """Means and covariances of features z, target t and unpatched input up.

    ``variance``: of the target; ``scale``: see :class:`Moments`.
    """

    layout: Layout
    z: Tensor
    t: Tensor
    up: Tensor
    zz: Tensor
    zt: Tensor
    variance: Tensor
    upup: Tensor
    scale: Tensor

    def with_ridge(self, ridge: float) -> 'Central':
        """With ``ridge`` times the mean variance added to all features'."""
        zz = self.zz.clone()
        diagonal = zz.diagonal()
        diagonal += ridge * diagonal.mean() + torch.finfo(zz.dtype).tiny
        return Central(self.layout, self.z, self.t, self.up, zz, self.zt,
                       self.variance, self.upup, self.scale)

    # blocks of zz and zt: up features as (T, up), low features
    @property
    def border(self) -> int:
        return self.layout.taps * self.layout.up

    def up_up(self) -> Tensor:
        shape = (self.layout.taps, self.layout.up)
        return self.zz[:self.border, :self.border].unflatten(
            1, shape).unflatten(0, shape)

    def up_low(self) -> Tensor:
        return self.zz[:self.border, self.border:].unflatten(
            0, (self.layout.taps, self.layout.up))

    def low_low(self) -> Tensor:
        return self.zz[self.border:, self.border:]

    def up_target(self) -> Tensor:
        return self.zt[:self.border].unflatten(
            0, (self.layout.taps, self.layout.up))

    def low_target(self) -> Tensor:
        return self.zt[self.border:]

    def missed(self, matrix: Tensor) -> float:
        """Share of the target's variance that a linear map misses.

        Args:
            matrix (Tensor): (outputs, size).
        """
        explained = 2 * (matrix.T * self.zt).sum() - (
            (matrix @ self.zz) * matrix).sum()
        return 1 - float(explained / self.variance.sum())


@dataclass
class LinearCRU:
    """The weights of the linear map, in the target's scaled units.

    Shapes: squeeze (squeezed, up), taps (T, outputs, squeezed), low
    (outputs, low), which is [pwc2; I] times its lower rows where ``pwc2``
    is given.
    """

    squeeze: Tensor
    taps: Tensor
    low: Tensor
    pwc2: Tensor | None = None

    def matrix(self) -> Tensor:
        up = torch.einsum('tow,wc->otc', self.taps, self.squeeze)
        return torch.cat([up.flatten(1), self.low], 1)


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve a symmetric positive definite system, also a nearly singular one
    (groups that see the same make one).

    Raises:
        FitError: If the matrix is singular.
    """
    jitter = JITTER * matrix.diagonal().mean() * torch.eye(
        len(matrix), dtype=matrix.dtype, device=matrix.device)
    try:
        return torch.cholesky_solve(right,
                                    torch.linalg.cholesky(matrix + jitter))
    except torch.linalg.LinAlgError as error:
        raise FitError(
            f'the moments of the features are singular ({error}): fit to '
            'more, or more varied, images') from error


def first_squeeze(moments: Central) -> Tensor:
    """The squeeze of the up branch by reduced-rank regression, each group's
    part over all its taps: (squeezed, up)."""
    layout = moments.layout
    dense = solve(moments.zz, moments.zt)[:moments.border].unflatten(
        0, (layout.taps, layout.up))[:layout.kernel]
    blocks = torch.einsum('tctd->cd', moments.up_up()) / layout.taps
    try:
        root = torch.linalg.cholesky(blocks)
        parts = []
        for columns in dense.chunk(layout.groups, dim=2):
            flat = root.T @ columns.transpose(0, 1).flatten(1)
            _, vectors = torch.linalg.eigh(flat @ flat.T)
            best = vectors[:, -(layout.squeezed // layout.groups):]
            parts.append(torch.linalg.solve_triangular(
                root.T, best, upper=True).T)
    except torch.linalg.LinAlgError as error:
        raise FitError(f'reduced-rank regression failed ({error}): fit to '
                       'more, or more varied, images') from error
    return orthonormal(torch.cat(parts), layout.groups)


class Reduced:
    """Moments behind a given squeeze of the up branch."""

    def __init__(self, moments: Central, squeeze: Tensor) -> None:
        self.moments, self.squeeze = moments, squeeze
        half = torch.einsum('wc,tcsd->twsd', squeeze, moments.up_up())
        self.up_up = torch.einsum('twsd,vd->twsv', half, squeeze)
        self.up_low = torch.einsum('wc,tcl->twl', squeeze, moments.up_low())
        self.up_target = torch.einsum('wc,tco->two', squeeze,
                                      moments.up_target())

    def regress(self, rows: Tensor, seen: Tensor,
                low: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Least squares of some outputs that see the same features.

        Args:
            rows (Tensor): Indices of the outputs.
            seen (Tensor): (T, squeezed), features of the up branch that
                they see.
            low (Tensor | None): (rows, low), their map of the low branch,
                where it is given and not to be fitted.

        Returns:
            tuple: Weights (T, rows, squeezed) and (rows, low).
        """
        moments = self.moments
        index = seen.flatten().nonzero().squeeze(1)
        gram = self.up_up.flatten(2).flatten(0, 1)[index][:, index]
        right = self.up_target.flatten(0, 1)[index][:, rows]
        up_low = self.up_low.flatten(0, 1)[index]
        if low is not None:
            weights = solve(gram, right - up_low @ low.T).T
        else:
            gram = torch.cat([
                torch.cat([gram, up_low], 1),
                torch.cat([up_low.T, moments.low_low()], 1)
            ])
            right = torch.cat([right, moments.low_target()[:, rows]])
            weights, low = solve(gram, right).T.split(
                [len(index), moments.layout.low], dim=1)
        taps = weights.new_zeros(len(rows), seen.numel())
        taps[:, index] = weights
        return taps.unflatten(1, seen.shape).transpose(0, 1), low


def fit_rows(reduced: Reduced, low: Tensor | None = None) -> LinearCRU:
    """All weights but the squeeze (and ``low``, where it is given), with a
    low branch of any rank."""
    layout, squeeze = reduced.moments.layout, reduced.squeeze
    mask = layout.mask().to(squeeze.device)
    taps = squeeze.new_zeros(mask.shape)
    found = squeeze.new_zeros(layout.outputs, layout.low)
    for rows in torch.arange(layout.outputs,
                             device=squeeze.device).chunk(layout.groups):
        taps[:, rows], found[rows] = reduced.regress(
            rows, mask[:, rows[0]], None if low is None else low[rows])
    return LinearCRU(squeeze, taps, found)


def orthonormal(squeeze: Tensor, groups: int) -> Tensor:
    """Another basis of what each group's part of a squeeze sees, which
    changes nothing but the numerical condition."""
    return torch.cat([torch.linalg.qr(part.T).Q.T
                      for part in squeeze.chunk(groups)])


def improve_squeeze(moments: Central, found: LinearCRU) -> Tensor:
    """The squeeze for given other weights: conjugate gradients on the normal
    equations, preconditioned by the Kronecker product of their means."""
    taps = found.taps
    up_up = moments.up_up()
    gram = torch.einsum('sow,tov->stwv', taps, taps)

    def normal(squeeze: Tensor) -> Tensor:
        half = torch.einsum('vc,tcsd->tsvd', squeeze, up_up)
        return torch.einsum('stwv,tsvd->wd', gram, half)

    right = torch.einsum(
        'tow,tco->wc', taps, moments.up_target() - torch.einsum(
            'tcl,ol->tco', moments.up_low(), found.low))
    left = torch.einsum('ttwv->wv', gram)
    left.diagonal().add_(1e-6 * left.diagonal().mean())
    channels = torch.einsum('tctd->cd', up_up) / len(taps)

    def precondition(residual: Tensor) -> Tensor:
        return solve(channels, solve(left, residual).T).T

    squeeze = found.squeeze.clone()
    residual = right - normal(squeeze)
    direction = conditioned = precondition(residual)
    product = (residual * conditioned).sum()
    for _ in range(CG_STEPS):
        image = normal(direction)
        curvature = (direction * image).sum()
        if not curvature > 0:
            break
        step = product / curvature
        squeeze += step * direction
        residual -= step * image
        conditioned = precondition(residual)
        previous, product = product, (residual * conditioned).sum()
        direction = conditioned + product / previous * direction
    return orthonormal(squeeze, moments.layout.groups)


def complete(moments: Central, found: LinearCRU) -> LinearCRU:
    """Bring the low branch's map to the form [P; I] B.

    B is its lower rows: of the map itself, where its rank can be any, else
    of its best approximation of the squeeze's rank.
    """
    layout, low_low = moments.layout, moments.low_low()
    low = found.low
    if layout.squeezed_low < min(layout.low, layout.outputs):
        root = torch.linalg.cholesky(low_low)
        _, vectors = torch.linalg.eigh((low @ root).T @ (low @ root))
        best = vectors[:, -layout.squeezed_low:]
        low = torch.linalg.solve_triangular(
            root.T, best @ (best.T @ (low @ root).T), upper=True).T
    upper, lower = low.split([layout.outputs - layout.squeezed_low,
                              layout.squeezed_low])
    gram = lower @ low_low @ lower.T
    gram.diagonal().add_(COMPLETION * gram.diagonal().mean())
    pwc2 = solve(gram, lower @ low_low @ upper.T).T
    low = torch.cat([pwc2 @ lower, lower])
    best = fit_rows(Reduced(moments, found.squeeze), low)
    return LinearCRU(best.squeeze, best.taps, low, pwc2)


@dataclass
class Fit:
    """Result of :func:`fit`.

    ``error``: share of the target's variance missed on the images that were
    fitted to; ``held_out``: on the others.
    """

    weights: LinearCRU
    ridge: float
    error: float
    held_out: float


def fit_moments(moments: Central, held_out: Central) -> Fit:
    """The best weights for the first moments, by the second ones' measure.

    Raises:
        FitError: If the moments are singular.
    """
    best = None

    def keep(ridge: float, found: LinearCRU) -> bool:
        nonlocal best
        missed = held_out.missed(found.matrix())
        if best is not None and not missed < best.held_out:
            return False
        best = Fit(found, ridge, moments.missed(found.matrix()), missed)
        return True

    for ridge in RIDGES:
        damped = moments.with_ridge(ridge)
        keep(ridge, fit_rows(Reduced(damped, first_squeeze(damped))))
    damped = moments.with_ridge(best.ridge)
    for _ in range(TURNS):
        squeeze = improve_squeeze(damped, best.weights)
        if not keep(best.ridge, fit_rows(Reduced(damped, squeeze))):
            break
    ridge, weights = best.ridge, complete(damped, best.weights)
    best = None
    keep(ridge, weights)
    return best


def set_norm(norm: _BatchNorm, mean: Tensor, variance: Tensor, slope: Tensor,
             offset: Tensor) -> None:
    """Let a BatchNorm give ``slope * (x - mean) + offset`` for inputs of
    these statistics; all of shape (channels, )."""
    variance = variance.clamp(min=0)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_(slope * (variance + norm.eps).sqrt())
    norm.bias.copy_(offset)


def deviation(variance: Tensor) -> Tensor:
    """Standard deviations, none so small that dividing by it hurts."""
    floor = FLOOR * variance.mean() + torch.finfo(variance.dtype).tiny
    return variance.clamp(min=floor).sqrt()


@torch.no_grad()
def write(conv: SCConv, moments: Central, found: LinearCRU) -> None:
    """Set an SCConv's weights to those of the linear map.

    All inner convolutions give unit variance, as far as the moments tell;
    the norms behind hold the scales, and the statistics that make the
    forward with running statistics the linear map. Y1 and Y2 have the
    target's mean both, for equal weights of the fuse.

    Args:
        conv (SCConv): Changed in place; not its SRU.
        moments (Central): What the weights were fitted to.
        found (LinearCRU): With ``pwc2``.
    """
    cru, layout = conv.cru, moments.layout
    target = moments.t / moments.scale
    narrow = layout.outputs - layout.squeezed_low
    ones, zeros = torch.ones_like, torch.zeros_like
    if conv.bias is not None:
        conv.bias.zero_()

    # what the norm subtracts it adds again: padding stays 0 behind it
    variance = torch.einsum('wc,cd,wd->w', found.squeeze, moments.upup,
                            found.squeeze)
    width = deviation(variance)
    squeeze = found.squeeze / width[:, None]
    mean = squeeze @ moments.up
    cru.squeeze_up.weight.copy_(squeeze[:, :, None, None])
    cru.squeeze_up.bias.zero_()
    set_norm(cru.squeeze_up_bn, mean, variance / width**2, ones(mean), mean)

    taps = found.taps * width
    up = torch.einsum('tow,wc->otc', taps, squeeze).flatten(1)
    border = moments.border
    variance = ((up @ moments.zz[:border, :border]) * up).sum(1)
    size = deviation(variance)
    mean = up @ moments.z[:border] / size
    taps = taps / size[:, None]
    set_norm(cru.bn1, mean, variance / size**2, 2 * size / moments.scale,
             target)
    point, kernel = taps[layout.point].clone(), taps[:layout.kernel]
    if not layout.strided:
        # the central tap of GWC and PWC1 are the same: half each
        inside = layout.within_groups().to(point.device)
        point[inside] /= 2
        kernel = kernel.clone()
        kernel[layout.point] = point * inside
    gwc = cru.gwc.weight
    for rows, columns in zip(
            torch.arange(layout.outputs, device=gwc.device).chunk(
                layout.groups),
            torch.arange(layout.squeezed, device=gwc.device).chunk(
                layout.groups)):
        gwc[rows] = kernel[:, rows][:, :, columns].permute(1, 2, 0).reshape(
            gwc[rows].shape).to(gwc.dtype)
    cru.pwc1.weight.copy_(point[:, :, None, None])

    low = found.low[narrow:]
    low_low, low_mean = moments.low_low(), moments.z[border:]
    variance = torch.einsum('wc,cd,wd->w', low, low_low, low)
    width = deviation(variance)
    squeeze = low / width[:, None]
    mean = squeeze @ low_mean
    cru.squeeze_low.weight.copy_(squeeze[:, :, None, None])
    cru.squeeze_low.bias.zero_()
    set_norm(cru.squeeze_low_bn, mean, variance / width**2, ones(mean),
             zeros(mean))
    pwc2 = found.pwc2 * width
    variance = torch.cat([
        ((pwc2 @ squeeze @ low_low) * (pwc2 @ squeeze)).sum(1),
        variance / width**2
    ])
    size = deviation(variance)
    size[narrow:] = 1
    cru.pwc2.weight.copy_((pwc2 / size[:narrow, None])[:, :, None, None])
    cru.pwc2.bias.zero_()
    slope = torch.cat([size[:narrow], width])
    set_norm(cru.bn2, zeros(slope), variance / size**2,
             2 * slope / moments.scale, target)


def fit(conv: SCConv, moments: Moments, held_out: Moments) -> Fit:
    """Fit an SCConv to moments, and set its weights.

    Args:
        conv (SCConv): Changed in place; its SRU is left as it is.
        moments (Moments): Of the images to fit to.
        held_out (Moments): Of others, to choose the ridge by.

    Raises:
        FitError: If the convolution cannot be fitted, or the moments are
            singular or not finite; names the reason.
    """
    check_fits(conv)
    moments, held_out = moments.central(), held_out.central()
    found = fit_moments(moments, held_out)
    write(conv, moments, found.weights)
    return found
