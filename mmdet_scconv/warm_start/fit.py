"""The linear map that is nearest to a dense convolution, from moments.

Equations are numbered as in docs/warm_start.md. All systems are solved in
float64.

A 1x1 convolution is such a map itself, so that the fit finds it:

>>> import torch
>>> from mmdet_scconv.layers import SPConv
>>> from mmdet_scconv.warm_start.moments import LinearForm, moments
>>> _ = torch.manual_seed(0)
>>> form = LinearForm.of(SPConv(4, 2, 1))
>>> x, weight = torch.randn(8, 4, 5, 5), torch.randn(2, 4)
>>> target = torch.einsum('oc,nchw->nhwo', weight, x).reshape(-1, 2)
>>> features = form.features(x, torch.arange(len(target)))
>>> sums = moments(features, target)
>>> found = fit(form, sums, sums)
>>> found.held_out < 1e-5
True
>>> torch.allclose(found.map.matrix().float(), weight, atol=1e-2)
True
"""
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .moments import Covariance, FitError, LinearForm, Moments

RIDGES = (1e-3, 1e-2, 1e-1, 1., 10., 100.)
USUAL_RIDGE = 1e-1  # where the search begins
COMPLETION_RIDGE = 1e-4  # of P, if B is nearly singular
JITTER = 1e-10  # of every system that is solved


@dataclass
class LinearMap:
    """The weights in (1).

    Shapes: squeeze A (squeezed, up); taps W (T, outputs, squeezed); low
    (outputs, low), which is [P; I] B where ``pwc2`` P (outputs -
    squeezed_low, squeezed_low) is given.
    """

    squeeze: Tensor
    taps: Tensor
    low: Tensor
    pwc2: Tensor | None = None

    def matrix(self) -> Tensor:
        """(outputs, size)"""
        up = torch.einsum('tow,wc->otc', self.taps, self.squeeze)
        return torch.cat([up.flatten(1), self.low], 1)


@dataclass
class Fit:
    """Result of :func:`fit`.

    ``error`` and ``held_out``: share of the target's variance that is
    unexplained on the samples that were fitted to, and on the others.
    """

    map: LinearMap
    ridge: float
    error: float
    held_out: float


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve a symmetric positive definite system, also a nearly singular one.

    Raises:
        FitError: If the matrix is singular.
    """
    matrix = matrix.clone()
    matrix.diagonal().add_(JITTER * matrix.diagonal().mean())
    try:
        return torch.cholesky_solve(
            right, torch.linalg.cholesky(matrix, out=matrix))
    except torch.linalg.LinAlgError as error:
        raise FitError(
            f'the moments of the features are singular ({error}): fit to '
            'more, or more varied, images') from error


def row_groups(form: LinearForm) -> Iterator[tuple[Tensor, Tensor]]:
    """Groups of outputs that see the same features. Yields the outputs,
    (rows, ), and which features they see, (T, squeezed or up)."""
    same = form.same_group()
    for rows in torch.arange(form.outputs).chunk(form.groups):
        seen = same[rows[0]].repeat(form.taps, 1)
        seen[form.point] = True
        yield rows, seen


def reduced_rank_squeeze(cov: Covariance) -> Tensor:
    """The squeeze A (4): (squeezed, up), its rows orthonormal per group."""
    form = cov.form
    dense = solve(cov.zz, cov.zt)[:form.border].unflatten(
        0, (form.taps, form.up))[:form.kernel]
    mean_tap = torch.einsum('tctd->cd', cov.uu()) / form.taps
    try:
        root = torch.linalg.cholesky(mean_tap)
        parts = []
        for columns in dense.chunk(form.groups, dim=2):
            flat = root.T @ columns.transpose(0, 1).flatten(1)
            _, vectors = torch.linalg.eigh(flat @ flat.T)
            best = vectors[:, -(form.squeezed // form.groups):]
            part = torch.linalg.solve_triangular(root.T, best, upper=True)
            parts.append(torch.linalg.qr(part).Q.T)
    except torch.linalg.LinAlgError as error:
        raise FitError(f'reduced-rank regression failed ({error}): fit to '
                       'more, or more varied, images') from error
    return torch.cat(parts)


def regress(cov: Covariance, squeeze: Tensor,
            low: Tensor | None = None) -> LinearMap:
    """All weights but the squeeze, by least squares (5); the low branch of
    any rank.

    Args:
        cov (Covariance): Of features and target.
        squeeze (Tensor): A.
        low (Tensor | None): (outputs, low), where it is given and not to be
            fitted.
    """
    form = cov.form
    half = torch.einsum('wc,tcsd->twsd', squeeze, cov.uu())
    uu = torch.einsum('twsd,vd->twsv', half, squeeze).flatten(2).flatten(0, 1)
    uv = torch.einsum('wc,tcl->twl', squeeze, cov.uv()).flatten(0, 1)
    ut = torch.einsum('wc,tco->two', squeeze, cov.ut()).flatten(0, 1)
    taps = squeeze.new_zeros(form.taps * len(squeeze), form.outputs)
    found = squeeze.new_zeros(form.outputs, form.low)
    for rows, seen in row_groups(form):
        index = seen.flatten().nonzero().squeeze(1)
        gram, right = uu[index][:, index], ut[index][:, rows]
        if low is not None:
            found[rows] = low[rows]
            taps[index[:, None], rows] = solve(
                gram, right - uv[index] @ low[rows].T)
            continue
        gram = torch.cat([
            torch.cat([gram, uv[index]], 1),
            torch.cat([uv[index].T, cov.vv()], 1)
        ])
        solution = solve(gram, torch.cat([right, cov.vt()[:, rows]]))
        taps[index[:, None], rows] = solution[:len(index)]
        found[rows] = solution[len(index):].T
    taps = taps.unflatten(0, (form.taps, len(squeeze))).transpose(1, 2)
    return LinearMap(squeeze, taps, found)


def complete(cov: Covariance, found: LinearMap) -> LinearMap:
    """Bring the low branch to the form [P; I] B (6).

    B is its lower rows: of the map itself, where its rank can be any, else
    of its best approximation of the squeeze's rank.
    """
    form, vv, low = cov.form, cov.vv(), found.low
    if form.squeezed_low < min(form.low, form.outputs):
        root = torch.linalg.cholesky(vv)
        _, vectors = torch.linalg.eigh((low @ root).T @ (low @ root))
        best = vectors[:, -form.squeezed_low:]
        low = torch.linalg.solve_triangular(
            root.T, best @ (best.T @ (low @ root).T), upper=True).T
    upper, lower = low.split(
        [form.outputs - form.squeezed_low, form.squeezed_low])
    gram = lower @ vv @ lower.T
    gram.diagonal().add_(COMPLETION_RIDGE * gram.diagonal().mean())
    pwc2 = solve(gram, lower @ vv @ upper.T).T
    low = torch.cat([pwc2 @ lower, lower])
    taps = regress(cov, found.squeeze, low).taps
    return LinearMap(found.squeeze, taps, low, pwc2)


def best_map(cov: Covariance) -> LinearMap:
    """The map for moments whose ridge was chosen."""
    form = cov.form
    if form.squeezed is None:
        squeeze = torch.eye(form.up, dtype=cov.zz.dtype, device=cov.zz.device)
        return regress(cov, squeeze)
    found = regress(cov, reduced_rank_squeeze(cov))
    return complete(cov, found)


def best_ridge(form: LinearForm, sample: Moments,
               held_out: Moments) -> tuple[float, float, float]:
    """The ridge whose map leaves least on the samples held out; the errors
    of this map, as in :class:`Fit`."""
    other = Covariance.of(form, held_out)
    errors: dict[int, tuple[float, Tensor]] = {}

    def error_of(i: int) -> float:
        """On the samples held out, with the i-th ridge."""
        if i not in errors:
            matrix = best_map(
                Covariance.of(form, sample, RIDGES[i])).matrix()
            errors[i] = other.unexplained(matrix), matrix
        return errors[i][0]

    # the error has one minimum over the ridges: search from the usual one
    i = RIDGES.index(USUAL_RIDGE)
    step = 1 if error_of(i + 1) < error_of(i) else -1
    while 0 <= i + step < len(RIDGES) and error_of(i + step) < error_of(i):
        i += step
    unexplained, matrix = errors[i]
    error = Covariance.of(form, sample).unexplained(matrix)
    return RIDGES[i], error, unexplained


def fit(form: LinearForm, sample: Moments, held_out: Moments) -> Fit:
    """The best weights: the ridge is chosen on samples held out, then all
    are fitted to.

    Raises:
        FitError: If the moments are singular, or the target is constant.
    """
    ridge, error, unexplained = best_ridge(form, sample, held_out)
    everything = Covariance.of(form, sample + held_out, ridge)
    return Fit(best_map(everything), ridge, error, unexplained)
