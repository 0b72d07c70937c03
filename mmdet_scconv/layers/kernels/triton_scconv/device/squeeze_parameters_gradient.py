"""Gradients of the squeezes' and the SRU's parameters."""
import triton
import triton.language as tl

from .shared import (
    SIZES,
    gamma_sum,
    gate,
    load_affines,
    load_halves,
    norm_affine,
    product,
)


@triton.jit(do_not_specialize=SIZES)
def squeeze_weight_gradient_kernel(
        x, affine, d_squeezed, partial, C, pixels, up_channels, U, T, N,
        sc, sp, threshold, EVEN: tl.constexpr, PRECISION: tl.constexpr,
        BP: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Products of the squeezed maps' gradients with the gate's output, for
    each split of the pixels: (splits, U + T, C + 1), the last column the sum
    of the gradients."""
    tile = tl.program_id(0)
    split = tl.program_id(2)
    splits = tl.num_programs(2)
    HALF = C // 2
    c1 = tl.program_id(1) * BK + tl.arange(0, BK)
    c_mask = c1 < HALF
    up_tiles = tl.cdiv(U, BN)
    is_up = tile < up_tiles
    o = tile * BN + tl.arange(0, BN)
    o_mask = o < U
    if tile >= up_tiles:
        o = U + (tile - up_tiles) * BN + tl.arange(0, BN)
        o_mask = o < U + T
    dtype = d_squeezed.dtype.element_ty
    acc1 = tl.zeros([BN, BK], tl.float32)
    acc2 = tl.zeros([BN, BK], tl.float32)
    total = tl.zeros([BP, BN], tl.float32)
    for n in range(N):
        a1, b1, a2, b2 = load_affines(affine + n * 4 * C, c1, c_mask, HALF,
                                      C)
        for start in range(split * BP, pixels, splits * BP):
            p = start + tl.arange(0, BP)
            p_mask = p < pixels
            x1, x2 = load_halves(x + n * C * pixels, p, p_mask, c1, c_mask,
                                 HALF, sc, sp)
            h1, h2 = gate(x1, x2, a1[None, :], b1[None, :], a2[None, :],
                          b2[None, :], threshold)
            d = tl.load(
                d_squeezed + (n * pixels + p[:, None]) * (U + T)
                + o[None, :], p_mask[:, None] & o_mask[None, :], 0.)
            if EVEN:
                h = tl.where(is_up, h1, h2).to(dtype)
                acc1 = product(tl.trans(d), h, acc1, PRECISION)
            else:
                acc1 = product(tl.trans(d), h1.to(dtype), acc1, PRECISION)
                acc2 = product(tl.trans(d), h2.to(dtype), acc2, PRECISION)
            total += d.to(tl.float32)
    to = partial + (split * (U + T) + o) * (C + 1)
    mask = o_mask[:, None] & c_mask[None, :]
    if EVEN:
        column = tl.where(is_up, c1, c1 + HALF)
        tl.store(to[:, None] + column[None, :], acc1, mask)
    else:
        tl.store(to[:, None] + c1[None, :], acc1, mask)
        tl.store(to[:, None] + c1[None, :] + HALF, acc2, mask)
    if tl.program_id(1) == 0:
        tl.store(to + C, tl.sum(total, 0), o_mask)


@triton.jit
def squeeze_row_gradient(
        partial, o, row, splits, ROW_COUNT, C, first_channel, in_width,
        weight, bias, gamma, beta, mean, var, eps, d_weight, d_bias, d_gamma,
        d_beta, CP: tl.constexpr, BS: tl.constexpr):
    """Gradients of one output channel of a squeeze and its norm."""
    c = tl.arange(0, CP)
    mask = c < in_width
    raw = tl.zeros([CP], tl.float32)
    total = 0.
    for first in range(0, splits, BS):
        split = first + tl.arange(0, BS)
        of = partial + (split * ROW_COUNT + row) * (C + 1)
        inside = split < splits
        raw += tl.sum(
            tl.load(of[:, None] + first_channel + c[None, :],
                    inside[:, None] & mask[None, :], 0.), 0)
        total += tl.sum(tl.load(of + C, inside, 0.), 0)
    scale, _, rstd, mu = norm_affine(o, o >= 0, gamma, beta, mean, var, eps,
                                     True)
    w = tl.load(weight + o * in_width + c, mask, 0.).to(tl.float32)
    b = tl.load(bias + o).to(tl.float32)
    d_scale = tl.sum(w * raw, 0) + (b - mu) * total
    tl.store(d_weight + o * in_width + c,
             (scale * raw).to(d_weight.dtype.element_ty), mask)
    tl.store(d_bias + o, (scale * total).to(d_bias.dtype.element_ty))
    tl.store(d_gamma + o, (d_scale * rstd).to(d_gamma.dtype.element_ty))
    tl.store(d_beta + o, total.to(d_beta.dtype.element_ty))


@triton.jit
def sru_parameters_gradient(channel_sums, gn_weight, gn_bias, d_gn_weight,
                            d_gn_bias, C, N, MIN_SUM: tl.constexpr,
                            CP: tl.constexpr):
    """Gradients of the GroupNorm's weight and bias, through w_gamma."""
    c = tl.arange(0, CP)
    mask = c < C
    d_bias = tl.zeros([CP], tl.float32)
    d_weight = tl.zeros([CP], tl.float32)
    for n in range(N):
        d_bias += tl.load(channel_sums + n * 2 * C + c, mask, 0.)
        d_weight += tl.load(channel_sums + n * 2 * C + C + c, mask, 0.)
    gamma = tl.load(gn_weight + c, mask, 0.).to(tl.float32)
    beta = tl.load(gn_bias + c, mask, 0.).to(tl.float32)
    bounded, total = gamma_sum(gn_weight, C, MIN_SUM, CP)
    through_sum = tl.sum(
        gamma * gamma * d_weight + gamma * beta * d_bias, 0)
    through_sum = tl.where(bounded == total,
                           through_sum / (bounded * bounded), 0.)
    d_gamma = (2. * gamma * d_weight + beta * d_bias) / bounded - \
        through_sum
    tl.store(d_gn_weight + c, d_gamma.to(d_gn_weight.dtype.element_ty),
             mask)
    tl.store(d_gn_bias + c,
             (gamma / bounded * d_bias).to(d_gn_bias.dtype.element_ty),
             mask)


@triton.jit(do_not_specialize=SIZES)
def squeeze_parameters_gradient_kernel(
        partial, channel_sums, gn_weight, gn_bias,
        up_weight, up_bias, up_gamma, up_beta, up_mean, up_var,
        low_weight, low_bias, low_gamma, low_beta, low_mean, low_var,
        d_gn_weight, d_gn_bias, d_up_weight, d_up_bias, d_up_gamma, d_up_beta,
        d_low_weight, d_low_bias, d_low_gamma, d_low_beta,
        C, up_channels, U, T, N, splits, up_eps, low_eps,
        MIN_SUM: tl.constexpr, CP: tl.constexpr, BS: tl.constexpr):
    """Gradients of the squeezes' and the SRU's parameters; a program for
    each output channel of the squeezes, and one for the SRU."""
    row = tl.program_id(0)
    if row < U:
        squeeze_row_gradient(
            partial, row, row, splits, U + T, C, 0, up_channels, up_weight,
            up_bias, up_gamma, up_beta, up_mean, up_var, up_eps, d_up_weight,
            d_up_bias, d_up_gamma, d_up_beta, CP, BS)
    elif row < U + T:
        squeeze_row_gradient(
            partial, row - U, row, splits, U + T, C, up_channels,
            C - up_channels, low_weight, low_bias, low_gamma, low_beta,
            low_mean, low_var, low_eps, d_low_weight, d_low_bias, d_low_gamma,
            d_low_beta, CP, BS)
    else:
        sru_parameters_gradient(channel_sums, gn_weight, gn_bias, d_gn_weight,
                                d_gn_bias, C, N, MIN_SUM, CP)
