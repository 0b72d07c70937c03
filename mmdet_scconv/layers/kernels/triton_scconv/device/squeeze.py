"""The SRU and both squeezes."""
import triton
import triton.language as tl

from .shared import (
    SIZES,
    gamma_sum,
    gate,
    load_affines,
    load_halves,
    norm_affine,
    pool_share,
    product,
    tap_rows,
)


@triton.jit(do_not_specialize=SIZES)
def moments_kernel(x, partial, C, pixels, sc, sp, GROUPS: tl.constexpr,
                   CP: tl.constexpr, GP: tl.constexpr, BP: tl.constexpr):
    """Count, mean and sum of squared deviations of each group, for each
    block of pixels: (N, blocks, 3, GROUPS)."""
    block = tl.program_id(0)
    n = tl.program_id(1)
    blocks = tl.num_programs(0)
    c = tl.arange(0, CP)
    p = block * BP + tl.arange(0, BP)
    at = x + n * C * pixels + c[None, :] * sc
    mask = (p < pixels)[:, None] & (c < C)[None, :]
    v = tl.load(at + p[:, None] * sp, mask, 0.).to(tl.float32)
    # what is near the mean keeps the difference of moments well-conditioned
    origin = tl.sum(v, 0) / tl.minimum(pixels - block * BP, BP).to(tl.float32)
    sums = tl.zeros([BP, CP], tl.float32)
    squares = tl.zeros([BP, CP], tl.float32)
    count = 0.
    for start in range(block * BP, pixels, blocks * BP):
        p = start + tl.arange(0, BP)
        mask = (p < pixels)[:, None] & (c < C)[None, :]
        v = tl.load(at + p[:, None] * sp, mask, 0.).to(tl.float32)
        v = tl.where(mask, v - origin[None, :], 0.)
        sums += v
        squares += v * v
        count += tl.minimum(pixels - start, BP).to(tl.float32)
    total = tl.sum(sums, 0)
    mean = origin + total / count
    square = tl.maximum(tl.sum(squares, 0) - total * total / count, 0.)
    width = C // GROUPS
    g = tl.arange(0, GP)
    member = ((c // width)[None, :] == g[:, None]) & (c < C)[None, :]
    group_mean = tl.sum(tl.where(member, mean[None, :], 0.), 1) / width
    deviation = tl.where(member, mean[None, :] - group_mean[:, None], 0.)
    group_square = tl.sum(tl.where(member, square[None, :], 0.), 1) + \
        count * tl.sum(deviation * deviation, 1)
    to = partial + (n * blocks + block) * 3 * GROUPS + g
    tl.store(to, tl.zeros([GP], tl.float32) + count * width, g < GROUPS)
    tl.store(to + GROUPS, group_mean, g < GROUPS)
    tl.store(to + 2 * GROUPS, group_square, g < GROUPS)


@triton.jit
def group_statistics(moments, blocks, eps, GROUPS: tl.constexpr,
                     GP: tl.constexpr, BB: tl.constexpr):
    """Mean and rstd of each group of one sample, from its moments."""
    b = tl.arange(0, BB)[:, None]
    g = tl.arange(0, GP)[None, :]
    mask = (b < blocks) & (g < GROUPS)
    at = moments + b * 3 * GROUPS + g
    count = tl.load(at, mask, 0.)
    means = tl.load(at + GROUPS, mask, 0.)
    squares = tl.load(at + 2 * GROUPS, mask, 0.)
    total = tl.maximum(tl.sum(count, 0), 1.)
    mean = tl.sum(count * means, 0) / total
    deviation = means - mean[None, :]
    square = tl.sum(squares + count * deviation * deviation, 0)
    return mean, 1. / tl.sqrt(square / total + eps)


@triton.jit
def channel_affine(c, mask, mean, rstd, gn_weight, gn_bias, total_gamma,
                   WIDTH: tl.constexpr, RAW: tl.constexpr, GP: tl.constexpr):
    """Of channels: a and b of the gate's logits a x + b, mean and rstd."""
    member = (c // WIDTH)[:, None] == tl.arange(0, GP)[None, :]
    mean = tl.sum(tl.where(member, mean[None, :], 0.), 1)
    rstd = tl.sum(tl.where(member, rstd[None, :], 0.), 1)
    weight = tl.load(gn_weight + c, mask, 0.).to(tl.float32)
    bias = tl.load(gn_bias + c, mask, 0.).to(tl.float32)
    if RAW:  # w_gamma = gamma / sum(gamma)
        bias *= weight / total_gamma
        weight *= weight / total_gamma
    a = weight * rstd
    return a, bias - mean * a, mean, rstd


@triton.jit
def load_squeeze(weight, c, inside, width, in_width, OP: tl.constexpr):
    """Columns c of a squeeze's weights, transposed: (columns, outputs)."""
    o = tl.arange(0, OP)
    return tl.load(weight + o[None, :] * in_width + c[:, None],
                   (o < width)[None, :] & inside[:, None], 0.)


@triton.jit
def store_halves(to, c1, half_mask, HALF: tl.constexpr, first, second):
    """Values of the channels c1 of both halves, each (channels, )."""
    tl.store(to + c1, first, half_mask)
    tl.store(to + HALF + c1, second, half_mask)


@triton.jit
def affine_of_halves(to, is_first, c1, half_mask, means, rstds, gn_weight,
                     gn_bias, total_gamma, C: tl.constexpr,
                     WIDTH: tl.constexpr, RAW: tl.constexpr,
                     GP: tl.constexpr):
    """a and b of :func:`channel_affine`, of the channels c1 of the first half
    and of those of the second; the first block writes it all, (4, C)."""
    HALF: tl.constexpr = C // 2
    a1, b1, m1, r1 = channel_affine(c1, half_mask, means, rstds, gn_weight,
                                    gn_bias, total_gamma, WIDTH, RAW, GP)
    a2, b2, m2, r2 = channel_affine(c1 + HALF, half_mask, means, rstds,
                                    gn_weight, gn_bias, total_gamma, WIDTH,
                                    RAW, GP)
    if is_first:
        store_halves(to, c1, half_mask, HALF, a1, a2)
        store_halves(to + C, c1, half_mask, HALF, b1, b2)
        store_halves(to + 2 * C, c1, half_mask, HALF, m1, m2)
        store_halves(to + 3 * C, c1, half_mask, HALF, r1, r2)
    return a1, b1, a2, b2


@triton.jit(do_not_specialize=SIZES)
def squeeze_kernel(
        x, moments, affine, squeezed, sums, gn_weight, gn_bias,
        up_weight, up_bias, up_gamma, up_beta, up_mean, up_var,
        low_weight, low_bias, low_gamma, low_beta, low_mean, low_var,
        H, W, HO, WO, up_channels, U, T, moment_blocks, sc, sp, gn_eps,
        up_eps, low_eps, threshold, C: tl.constexpr, KH: tl.constexpr,
        KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
        PH: tl.constexpr, PW: tl.constexpr, DH: tl.constexpr,
        DW: tl.constexpr, ROWS: tl.constexpr, GROUPS: tl.constexpr,
        GP: tl.constexpr, RAW: tl.constexpr, MIN_SUM: tl.constexpr,
        NORM: tl.constexpr, FIRST: tl.constexpr, EVEN: tl.constexpr,
        PRECISION: tl.constexpr, CP: tl.constexpr, UP: tl.constexpr,
        TP: tl.constexpr, BP: tl.constexpr, BK: tl.constexpr,
        BB: tl.constexpr):
    """SRU and both squeezes. ``FIRST``: from the moments, also writing the
    gate's affine, (N, 4, C), and the sums over what the taps see, (N,
    blocks, ROWS, U + T); else from the affine, for the backward pass."""
    block = tl.program_id(0)
    n = tl.program_id(1)
    blocks = tl.num_programs(0)
    pixels = H * W
    x += n * C * pixels
    HALF: tl.constexpr = C // 2
    dtype = squeezed.dtype.element_ty
    u = tl.arange(0, UP)
    t = tl.arange(0, TP)
    up_scale, up_shift, _, _ = norm_affine(u, u < U, up_gamma, up_beta,
                                           up_mean, up_var, up_eps, NORM)
    low_scale, low_shift, _, _ = norm_affine(
        t, t < T, low_gamma, low_beta, low_mean, low_var, low_eps, NORM)
    if NORM:
        up_shift += tl.load(up_bias + u, u < U, 0.).to(tl.float32) * up_scale
        low_shift += tl.load(low_bias + t, t < T, 0.).to(tl.float32) * \
            low_scale
    affine_n = affine + n * 4 * C
    if FIRST:
        total_gamma, _ = gamma_sum(gn_weight, C, MIN_SUM, CP)
        means, rstds = group_statistics(
            moments + n * moment_blocks * 3 * GROUPS, moment_blocks, gn_eps,
            GROUPS, GP, BB)
        up_sums = tl.zeros([ROWS, UP], tl.float32)
        low_sums = tl.zeros([BP, TP], tl.float32)
    if EVEN and HALF <= BK:
        c1 = tl.arange(0, BK)
        w_up = load_squeeze(up_weight, c1, c1 < HALF, U, HALF, UP).to(dtype)
        w_low = load_squeeze(low_weight, c1, c1 < HALF, T, HALF, TP).to(
            dtype)
    for start in range(block * BP, pixels, blocks * BP):
        p = start + tl.arange(0, BP)
        pixel_mask = p < pixels
        up = tl.zeros([BP, UP], tl.float32)
        low = tl.zeros([BP, TP], tl.float32)
        for k in range(0, HALF, BK):
            c1 = k + tl.arange(0, BK)
            c_mask = c1 < HALF
            x1, x2 = load_halves(x, p, pixel_mask, c1, c_mask, HALF, sc, sp)
            if FIRST:
                a1, b1, a2, b2 = affine_of_halves(
                    affine_n, start == 0, c1, c_mask, means, rstds, gn_weight,
                    gn_bias, total_gamma, C, C // GROUPS, RAW, GP)
            else:
                a1, b1, a2, b2 = load_affines(affine_n, c1, c_mask, HALF, C)
            h1, h2 = gate(x1, x2, a1[None, :], b1[None, :], a2[None, :],
                          b2[None, :], threshold)
            h1 = h1.to(dtype)
            h2 = h2.to(dtype)
            if not (EVEN and HALF <= BK):
                w_up = load_squeeze(up_weight, c1,
                                    c_mask & (c1 < up_channels), U,
                                    up_channels, UP).to(dtype)
                c2 = c1 + HALF - up_channels
                w_low = load_squeeze(low_weight, c2, c_mask & (c2 >= 0), T,
                                     C - up_channels, TP).to(dtype)
            up = product(h1, w_up, up, PRECISION)
            low = product(h2, w_low, low, PRECISION)
            if not EVEN:
                w = load_squeeze(up_weight, c1 + HALF,
                                 c_mask & (c1 + HALF < up_channels), U,
                                 up_channels, UP)
                up = product(h2, w.to(dtype), up, PRECISION)
                c2 = c1 - up_channels
                w = load_squeeze(low_weight, c2, c_mask & (c2 >= 0), T,
                                 C - up_channels, TP)
                low = product(h1, w.to(dtype), low, PRECISION)
        up = (up * up_scale[None, :] + up_shift[None, :]).to(dtype)
        low = (low * low_scale[None, :] + low_shift[None, :]).to(dtype)
        to = squeezed + (n * pixels + p[:, None]) * (U + T)
        tl.store(to + u[None, :], up, pixel_mask[:, None] & (u < U)[None, :])
        tl.store(to + U + t[None, :], low,
                 pixel_mask[:, None] & (t < T)[None, :])
        if FIRST:
            rows = tap_rows(p, pixel_mask, H, W, HO, WO, KH, KW, SH, SW, PH,
                            PW, DH, DW, ROWS)
            up_sums = product(rows.to(dtype), up, up_sums, PRECISION)
            share = pool_share(p, pixel_mask, H, W, SH, SW)
            low_sums += low.to(tl.float32) * share[:, None]
    if FIRST:
        r = tl.arange(0, ROWS)[:, None]
        to = sums + (n * blocks + block) * ROWS * (U + T)
        tl.store(to + r * (U + T) + u[None, :], up_sums,
                 (r <= KH * KW) & (u < U)[None, :])
        tl.store(to + KH * KW * (U + T) + U + t, tl.sum(low_sums, 0), t < T)
