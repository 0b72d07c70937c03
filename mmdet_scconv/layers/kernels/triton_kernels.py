"""Triton kernels of SCConv with running statistics, forward and backward.

Maps are read and written as few times as the algebra allows. C, H, W are the
input's, HO, WO the output's sizes; ``squeezed`` is the map between SRU and
fuse, (N, H, W, U + T): up, U wide, and low, T wide. Parameters are read as
they are, norms included, so that nothing has to be prepared, or kept up to
date, outside. triton_scconv.py launches the kernels and has the formulas.
"""
import os

import triton
import triton.language as tl

# Triton's interpreter multiplies bfloat16 matrices wrongly (3.9), as integers
INTERPRETED = tl.constexpr(os.environ.get('TRITON_INTERPRET') == '1')

# Arguments that differ from batch to batch: a kernel is compiled once for all
# their values
SIZES = ('H', 'W', 'HO', 'WO', 'N', 'pixels', 'outputs', 'blocks',
         'moment_blocks', 'splits')


# --------------------------------------------------------------------------
# Shared by several kernels
# --------------------------------------------------------------------------
@triton.jit
def product(a, b, acc, PRECISION: tl.constexpr):
    """acc + a b, summed in float32."""
    if INTERPRETED:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def norm_affine(index, mask, weight, bias, mean, var, eps,
                NORM: tl.constexpr):
    """What a BatchNorm with running statistics multiplies and adds, its
    ``rstd`` and its mean. Without a norm (folded into the convolution, whose
    bias then stands in place of the norm's) the bias alone is added."""
    if NORM:
        rstd = 1. / tl.sqrt(tl.load(var + index, mask, 1.).to(tl.float32)
                            + eps)
        mu = tl.load(mean + index, mask, 0.).to(tl.float32)
        scale = tl.load(weight + index, mask, 0.).to(tl.float32) * rstd
        shift = tl.load(bias + index, mask, 0.).to(tl.float32) - mu * scale
    else:
        shift = tl.load(bias + index, mask, 0.).to(tl.float32)
        scale = shift * 0. + 1.
        rstd = scale
        mu = shift * 0.
    return scale, shift, rstd, mu


@triton.jit
def gamma_sum(gn_weight, C, MIN_SUM: tl.constexpr, CP: tl.constexpr):
    """sum(gamma), kept away from 0, and whether it had to be."""
    c = tl.arange(0, CP)
    total = tl.sum(tl.load(gn_weight + c, c < C, 0.).to(tl.float32), 0)
    bounded = tl.where(total < 0, tl.minimum(total, -MIN_SUM),
                       tl.maximum(total, MIN_SUM))
    return bounded, total


@triton.jit
def gate(x1, x2, a1, b1, a2, b2, threshold):
    """Both halves of the SRU's output, from both halves of its input."""
    z1 = x1 * a1 + b1
    z2 = x2 * a2 + b2
    both = tl.where(z1 > threshold, 0., x1 * tl.sigmoid(z1)) + \
        tl.where(z2 > threshold, 0., x2 * tl.sigmoid(z2))
    return (tl.where(z1 > threshold, x1, 0.) + both,
            tl.where(z2 > threshold, x2, 0.) + both)


@triton.jit
def gate_gradients(x, a, b, threshold, grad, both):
    """Gradients of a half's logits, and of its x beside them."""
    z = x * a + b
    s = tl.sigmoid(z)
    return (tl.where(z > threshold, 0., both * x * s * (1. - s)),
            tl.where(z > threshold, grad, both * s))


@triton.jit
def load_halves(x, p, pixel_mask, c1, half_mask, HALF, sc, sp):
    """The channels c1 of both halves: (pixels, channels), float32."""
    at = x + p[:, None] * sp + c1[None, :] * sc
    mask = pixel_mask[:, None] & half_mask[None, :]
    return (tl.load(at, mask, 0.).to(tl.float32),
            tl.load(at + HALF * sc, mask, 0.).to(tl.float32))


@triton.jit
def load_affine(affine, c, mask, C):
    """The gate's logits are a x + b; of the channels c of one sample."""
    return (tl.load(affine + c, mask, 0.), tl.load(affine + C + c, mask, 0.))


@triton.jit
def load_pooled(maps, oy, ox, pixel_mask, column, column_mask, H, W, WIDTH,
                SH: tl.constexpr, SW: tl.constexpr):
    """Columns of a map (H, W, WIDTH), averaged over the windows of the
    stride, those at the border cut off: (outputs, columns)."""
    mask = pixel_mask[:, None] & column_mask[None, :]
    if SH * SW == 1:
        at = (oy * W + ox) * WIDTH
        return tl.load(maps + at[:, None] + column[None, :], mask, 0.)
    else:
        total = tl.zeros([oy.shape[0], column.shape[0]], tl.float32)
        for dy in tl.static_range(SH):
            for dx in tl.static_range(SW):
                y = oy * SH + dy
                x = ox * SW + dx
                seen = mask & ((y < H) & (x < W))[:, None]
                at = (y * W + x) * WIDTH
                total += tl.load(maps + at[:, None] + column[None, :], seen,
                                 0.).to(tl.float32)
        count = tl.minimum(SH, H - oy * SH) * tl.minimum(SW, W - ox * SW)
        count = tl.maximum(count, 1).to(tl.float32)
        return (total / count[:, None]).to(maps.dtype.element_ty)


# --------------------------------------------------------------------------
# Forward
# --------------------------------------------------------------------------
@triton.jit(do_not_specialize=SIZES)
def moments_kernel(x, partial, C, pixels, sn, sc, sp, GROUPS: tl.constexpr,
                   CP: tl.constexpr, GP: tl.constexpr, BP: tl.constexpr):
    """Count, mean and sum of squared deviations of each group, for each
    block of pixels: (N, blocks, 3, GROUPS)."""
    block = tl.program_id(0)
    n = tl.program_id(1)
    blocks = tl.num_programs(0)
    c = tl.arange(0, CP)
    p = block * BP + tl.arange(0, BP)
    at = x + n * sn + c[None, :] * sc
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
def pool_share(p, pixel_mask, H, W, SH: tl.constexpr, SW: tl.constexpr):
    """A pixel's weight in the average pooling of the stride, whose windows
    are cut off at the border."""
    y = p // W
    x = p % W
    count = tl.minimum(SH, H - y // SH * SH) * tl.minimum(
        SW, W - x // SW * SW)
    return tl.where(pixel_mask, 1. / tl.maximum(count, 1).to(tl.float32), 0.)


@triton.jit
def tap_rows(p, pixel_mask, H, W, HO, WO, KH: tl.constexpr, KW: tl.constexpr,
             SH: tl.constexpr, SW: tl.constexpr, PH: tl.constexpr,
             PW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr,
             ROWS: tl.constexpr):
    """(ROWS, pixels): whether a tap of the GWC sees a pixel; the row behind
    the taps has the pixel's weight in the average pooling."""
    r = tl.arange(0, ROWS)[:, None]
    y = (p // W)[None, :]
    x = (p % W)[None, :]
    ny = y + PH - (r // KW) * DH
    nx = x + PW - (r % KW) * DW
    seen = (r < KH * KW) & (ny >= 0) & (nx >= 0) & (ny % SH == 0) & \
        (nx % SW == 0) & (ny // SH < HO) & (nx // SW < WO)
    share = pool_share(p, pixel_mask, H, W, SH, SW)[None, :]
    rows = tl.where(seen, 1., tl.where(r == KH * KW, share, 0.))
    return tl.where(pixel_mask[None, :], rows, 0.)


@triton.jit
def load_squeeze(weight, c, inside, width, in_width, OP: tl.constexpr):
    """Columns c of a squeeze's weights, transposed: (columns, outputs)."""
    o = tl.arange(0, OP)
    return tl.load(weight + o[None, :] * in_width + c[:, None],
                   (o < width)[None, :] & inside[:, None], 0.)


@triton.jit(do_not_specialize=SIZES)
def squeeze_kernel(
        x, moments, affine, squeezed, sums, gn_weight, gn_bias,
        up_weight, up_bias, up_gamma, up_beta, up_mean, up_var,
        low_weight, low_bias, low_gamma, low_beta, low_mean, low_var,
        H, W, HO, WO, up_channels, U, T, moment_blocks, sn, sc, sp, gn_eps,
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
        for k in tl.static_range(0, HALF, BK):
            c1 = k + tl.arange(0, BK)
            c_mask = c1 < HALF
            x1, x2 = load_halves(x + n * sn, p, pixel_mask, c1, c_mask, HALF,
                                 sc, sp)
            if FIRST:
                a1, b1, m1, r1 = channel_affine(
                    c1, c_mask, means, rstds, gn_weight, gn_bias, total_gamma,
                    C // GROUPS, RAW, GP)
                a2, b2, m2, r2 = channel_affine(
                    c1 + HALF, c_mask, means, rstds, gn_weight, gn_bias,
                    total_gamma, C // GROUPS, RAW, GP)
                if start == 0:
                    tl.store(affine_n + c1, a1, c_mask)
                    tl.store(affine_n + HALF + c1, a2, c_mask)
                    tl.store(affine_n + C + c1, b1, c_mask)
                    tl.store(affine_n + C + HALF + c1, b2, c_mask)
                    tl.store(affine_n + 2 * C + c1, m1, c_mask)
                    tl.store(affine_n + 2 * C + HALF + c1, m2, c_mask)
                    tl.store(affine_n + 3 * C + c1, r1, c_mask)
                    tl.store(affine_n + 3 * C + HALF + c1, r2, c_mask)
            else:
                a1, b1 = load_affine(affine_n, c1, c_mask, C)
                a2, b2 = load_affine(affine_n, c1 + HALF, c_mask, C)
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


@triton.jit
def sum_of_blocks(sums, row, column, mask, blocks, WIDTH, ROWS: tl.constexpr,
                  BB: tl.constexpr):
    """A row of the sums over the taps' windows, added over the blocks."""
    total = tl.zeros([column.shape[0]], tl.float32)
    for first in range(0, blocks, BB):
        b = first + tl.arange(0, BB)
        at = sums + (b[:, None] * ROWS + row) * WIDTH + column[None, :]
        total += tl.sum(
            tl.load(at, (b < blocks)[:, None] & mask[None, :], 0.), 0)
    return total


@triton.jit(do_not_specialize=SIZES)
def reduce_kernel(sums, reduced, U, WIDTH, blocks, ROWS: tl.constexpr,
                  BN: tl.constexpr, BB: tl.constexpr):
    """The sums over what the taps see, added over the blocks: (N, ROWS,
    U + T)."""
    row = tl.program_id(0)
    n = tl.program_id(2)
    column = tl.program_id(1) * BN + tl.arange(0, BN)
    # of low there is the row of the pooling alone, the last one
    is_pooling = row == tl.num_programs(0) - 1
    mask = column < tl.where(is_pooling, WIDTH, U)
    total = sum_of_blocks(sums + n * blocks * ROWS * WIDTH, row, column, mask,
                          blocks, WIDTH, ROWS, BB)
    tl.store(reduced + (n * ROWS + row) * WIDTH + column, total, mask)


@triton.jit(do_not_specialize=SIZES)
def softmax_kernel(
        reduced, coefficients, packed, gwc, pwc1, gamma1, beta1, mean1, var1,
        pwc2, pwc2_bias, gamma2, beta2, mean2, var2, post_scale, post_shift,
        C, U, T, REST, outputs, gs0, gs1, gs2, gs3, eps1, eps2,
        KH: tl.constexpr, KW: tl.constexpr, G: tl.constexpr,
        ROWS: tl.constexpr, NORM: tl.constexpr, POST: tl.constexpr,
        BN: tl.constexpr, UP: tl.constexpr, TP: tl.constexpr,
        GP: tl.constexpr):
    """The softmax of both branches' means, which follow from the sums, and
    what they make of the output: with acc_1 = GWC + PWC1 and acc_2 = [PWC2,
    low], Y = A acc_1 + B acc_2 + D. Writes (N, 6, C): A, B, D, softmax of
    the first branch, means of acc_1 and acc_2; and the weights times A or B,
    transposed, (N, KH KW U / G + U + T, C)."""
    n = tl.program_id(1)
    c = tl.program_id(0) * BN + tl.arange(0, BN)
    c_mask = c < C
    UG = U // G
    WIDTH = U + T
    g = tl.arange(0, GP)[None, :]
    u = tl.arange(0, UP)[None, :]
    t = tl.arange(0, TP)[None, :]
    g_mask = c_mask[:, None] & (g < UG)
    u_mask = c_mask[:, None] & (u < U)
    t_mask = (c < REST)[:, None] & (t < T)
    column = (c // (C // G))[:, None] * UG + g
    of_sums = reduced + n * ROWS * WIDTH
    of_gwc = gwc + c[:, None] * gs0 + g * gs1
    products = tl.zeros([BN, GP], tl.float32)
    for tap in tl.static_range(KH * KW):
        s = tl.load(of_sums + tap * WIDTH + column, g_mask, 0.)
        w = tl.load(of_gwc + (tap // KW) * gs2 + (tap % KW) * gs3, g_mask, 0.)
        products += w.to(tl.float32) * s
    of_sums += KH * KW * WIDTH
    w1 = tl.load(pwc1 + c[:, None] * U + u, u_mask, 0.).to(tl.float32)
    acc1 = tl.sum(products, 1) + tl.sum(
        w1 * tl.load(of_sums + u, u < U, 0.), 1)
    w2 = tl.load(pwc2 + c[:, None] * T + t, t_mask, 0.).to(tl.float32)
    w2 += tl.where(t == (c - REST)[:, None], 1., 0.)
    acc2 = tl.sum(w2 * tl.load(of_sums + U + t, t < T, 0.), 1)
    acc1 /= outputs
    acc2 /= outputs

    s1, t1, _, _ = norm_affine(c, c_mask, gamma1, beta1, mean1, var1, eps1,
                               NORM)
    s2, t2, _, _ = norm_affine(c, c_mask, gamma2, beta2, mean2, var2, eps2,
                               NORM)
    if NORM:
        t2 += s2 * tl.load(pwc2_bias + c, c < REST, 0.).to(tl.float32)
    share1 = tl.sigmoid(s1 * acc1 + t1 - s2 * acc2 - t2)
    A = share1 * s1
    B = (1. - share1) * s2
    D = share1 * t1 + (1. - share1) * t2
    if POST:
        post = tl.load(post_scale + c, c_mask, 0.).to(tl.float32)
        A *= post
        B *= post
        D = D * post + tl.load(post_shift + c, c_mask, 0.).to(tl.float32)
    to = coefficients + n * 6 * C + c
    tl.store(to, A, c_mask)
    tl.store(to + C, B, c_mask)
    tl.store(to + 2 * C, D, c_mask)
    tl.store(to + 3 * C, share1, c_mask)
    tl.store(to + 4 * C, acc1, c_mask)
    tl.store(to + 5 * C, acc2, c_mask)

    dtype = packed.dtype.element_ty
    to = packed + n * (KH * KW * UG + WIDTH) * C + c[:, None]
    for tap in tl.static_range(KH * KW):
        w = tl.load(of_gwc + (tap // KW) * gs2 + (tap % KW) * gs3, g_mask, 0.)
        tl.store(to + (tap * UG + g) * C,
                 (w.to(tl.float32) * A[:, None]).to(dtype), g_mask)
    to += KH * KW * UG * C
    tl.store(to + u * C, (w1 * A[:, None]).to(dtype), u_mask)
    tl.store(to + (U + t) * C, (w2 * B[:, None]).to(dtype),
             c_mask[:, None] & (t < T))


@triton.jit(do_not_specialize=SIZES)
def fuse_kernel(
        squeezed, coefficients, packed, y, C, H, W, HO, WO, U, T, REST, on,
        oc, op, KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr,
        SW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr,
        DH: tl.constexpr, DW: tl.constexpr, G: tl.constexpr,
        PRECISION: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
        BK: tl.constexpr, BU: tl.constexpr):
    """Y = A (GWC(up) + PWC1(pooled up)) + B [PWC2(pooled low), pooled low]
    + D. A program's output channels are of one group; of the GWC it takes as
    many taps at a time as fit with BU channels each."""
    n = tl.program_id(2)
    q = tl.program_id(1) * BM + tl.arange(0, BM)
    q_mask = q < HO * WO
    CG = C // G
    UG = U // G
    in_group = tl.cdiv(CG, BN)
    group = tl.program_id(0) // in_group
    i = tl.program_id(0) % in_group * BN
    first = group * CG + i
    c = first + tl.arange(0, BN)
    c_mask = i + tl.arange(0, BN) < CG
    oy = q // WO
    ox = q % WO
    WIDTH = U + T
    maps = squeezed + n * H * W * WIDTH
    weights = packed + n * (KH * KW * UG + WIDTH) * C
    TAPS: tl.constexpr = BK // BU
    parts = tl.cdiv(UG, BU)
    j = tl.arange(0, BK)
    acc = tl.zeros([BM, BN], tl.float32)
    for step in range(tl.cdiv(KH * KW, TAPS) * parts):
        if TAPS == 1:
            tap = step // parts
            k = step % parts * BU + j
            iy = oy * SH - PH + (tap // KW) * DH
            ix = ox * SW - PW + (tap % KW) * DW
            k_mask = k < UG
            row = tap * UG + k
            seen = q_mask & (iy >= 0) & (iy < H) & (ix >= 0) & (ix < W)
            at = (iy * W + ix) * WIDTH + group * UG
            v = tl.load(maps + at[:, None] + k[None, :],
                        seen[:, None] & k_mask[None, :], 0.)
        else:
            tap = step // parts * TAPS + j // BU
            k = step % parts * BU + j % BU
            iy = (oy * SH - PH)[:, None] + ((tap // KW) * DH)[None, :]
            ix = (ox * SW - PW)[:, None] + ((tap % KW) * DW)[None, :]
            k_mask = (k < UG) & (tap < KH * KW)
            row = tap * UG + k
            seen = q_mask[:, None] & k_mask[None, :] & (iy >= 0) & \
                (iy < H) & (ix >= 0) & (ix < W)
            at = (iy * W + ix) * WIDTH + group * UG
            v = tl.load(maps + at + k[None, :], seen, 0.)
        w = tl.load(weights + row[:, None] * C + c[None, :],
                    k_mask[:, None] & c_mask[None, :], 0.)
        acc = product(v, w, acc, PRECISION)
    pointwise = WIDTH
    if first >= REST:  # low is passed on
        pointwise = U
    weights += KH * KW * UG * C
    for k0 in range(0, pointwise, BK):
        k = k0 + j
        v = load_pooled(maps, oy, ox, q_mask, k, k < pointwise, H, W, WIDTH,
                        SH, SW)
        w = tl.load(weights + k[:, None] * C + c[None, :],
                    (k < pointwise)[:, None] & c_mask[None, :], 0.)
        acc = product(v, w, acc, PRECISION)
    of = coefficients + n * 6 * C + c
    if first >= REST:
        passed = load_pooled(maps, oy, ox, q_mask, U + c - REST, c_mask, H, W,
                             WIDTH, SH, SW)
        acc += tl.load(of + C, c_mask, 0.)[None, :] * passed.to(tl.float32)
    out = acc + tl.load(of + 2 * C, c_mask, 0.)[None, :]
    tl.store(y + n * on + q[:, None] * op + c[None, :] * oc,
             out.to(y.dtype.element_ty), q_mask[:, None] & c_mask[None, :])


# --------------------------------------------------------------------------
# Backward
# --------------------------------------------------------------------------
@triton.jit(do_not_specialize=SIZES)
def fuse_weight_gradient_kernel(
        dy, squeezed, partial, C, H, W, HO, WO, U, T, N, gn, gc, gp,
        KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr,
        SW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr,
        DH: tl.constexpr, DW: tl.constexpr, G: tl.constexpr,
        PRECISION: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
        BK: tl.constexpr, BU: tl.constexpr):
    """Products of dY with what the fuse's convolutions see, for each sample
    and split of the pixels: (splits, N, C, KH KW U + U + T + 1), the last
    column the sum of dY. A program has BK columns: of the GWC, as many taps
    as fit with BU columns each, or pointwise ones."""
    tile = tl.program_id(0)
    first = tl.program_id(1) * BC
    splits = tl.num_programs(2) // N
    n = tl.program_id(2) // splits
    split = tl.program_id(2) % splits
    c = first + tl.arange(0, BC)
    c_mask = c < C
    UG = U // G
    CG = C // G
    WIDTH = U + T
    maps = squeezed + n * H * W * WIDTH
    TAPS: tl.constexpr = BK // BU
    # BU may be less than what the tile's groups see
    low_k = first // CG * UG
    high_k = tl.minimum((first + BC - 1) // CG + 1, G) * UG
    parts = tl.cdiv(high_k - low_k, BU)
    tap_tiles = tl.cdiv(KH * KW, TAPS) * parts
    j = tl.arange(0, BK)
    tap = (tile // parts) * TAPS + j // BU
    k = low_k + (tile % parts) * BU + j % BU
    k_mask = (tap < KH * KW) & (k < high_k)
    column = tap * U + k
    offset_y = (tap // KW) * DH - PH
    offset_x = (tap % KW) * DW - PW
    is_point = tile >= tap_tiles
    if tile >= tap_tiles:  # PWC1, then PWC2: like a tap without padding
        k = (tile - tap_tiles) * BK + j
        k_mask = k < U + T
        column = KH * KW * U + k
        offset_y = j * 0
        offset_x = j * 0
    acc = tl.zeros([BC, BK], tl.float32)
    total = tl.zeros([BP, BC], tl.float32)
    for start in range(split * BP, HO * WO, splits * BP):
        q = start + tl.arange(0, BP)
        q_mask = q < HO * WO
        oy = q // WO
        ox = q % WO
        d = tl.load(dy + n * gn + q[:, None] * gp + c[None, :] * gc,
                    q_mask[:, None] & c_mask[None, :], 0.)
        iy = (oy * SH)[:, None] + offset_y[None, :]
        ix = (ox * SW)[:, None] + offset_x[None, :]
        seen = q_mask[:, None] & k_mask[None, :] & (iy >= 0) & (iy < H) & \
            (ix >= 0) & (ix < W)
        v = tl.load(maps + (iy * W + ix) * WIDTH + k[None, :], seen, 0.)
        if SH * SW > 1:
            if is_point:
                v = load_pooled(maps, oy, ox, q_mask, k, k_mask, H, W, WIDTH,
                                SH, SW)
        acc = product(tl.trans(d.to(v.dtype)), v, acc, PRECISION)
        total += d.to(tl.float32)
    columns = KH * KW * U + U + T + 1
    to = partial + ((split * N + n) * C + c) * columns
    tl.store(to[:, None] + column[None, :], acc,
             c_mask[:, None] & k_mask[None, :])
    if tile == 0:
        tl.store(to + columns - 1, tl.sum(total, 0), c_mask)


@triton.jit(do_not_specialize=SIZES)
def fuse_parameters_gradient_kernel(
        partial, reduced, coefficients, gwc, pwc1, gamma1, beta1, mean1, var1,
        pwc2, pwc2_bias, gamma2, beta2, mean2, var2,
        d_gwc, d_pwc1, d_gamma1, d_beta1, d_pwc2, d_pwc2_bias, d_gamma2,
        d_beta2, constants,
        C, U, T, REST, N, splits, outputs, gs0, gs1, gs2, gs3, eps1, eps2,
        KH: tl.constexpr, KW: tl.constexpr, G: tl.constexpr,
        ROWS: tl.constexpr, JP: tl.constexpr, TP: tl.constexpr,
        BS: tl.constexpr):
    """Gradients of the fuse's parameters, for one output channel; and, of
    each sample, what the means add to the gradients of acc_1 and acc_2:
    ``constants``, (N, 2, C)."""
    c = tl.program_id(0)
    UG = U // G
    WIDTH = U + T
    group = c // (C // G)
    in_taps = KH * KW * UG
    j = tl.arange(0, JP)
    is_tap = j < in_taps
    is_point = (j >= in_taps) & (j < in_taps + U)
    tap = j // UG
    k = group * UG + j % UG
    at_gwc = c * gs0 + (j % UG) * gs1 + (tap // KW) * gs2 + (tap % KW) * gs3
    at_pwc1 = c * U + j - in_taps
    w1 = tl.load(gwc + at_gwc, is_tap, 0.).to(tl.float32) + \
        tl.load(pwc1 + at_pwc1, is_point, 0.).to(tl.float32)
    column1 = tl.where(is_tap, tap * U + k, KH * KW * U + j - in_taps)
    at_sum1 = tl.where(is_tap, tap * WIDTH + k,
                       KH * KW * WIDTH + j - in_taps)
    t = tl.arange(0, TP)
    t_mask = t < T
    is_rest = c < REST
    w2 = tl.load(pwc2 + c * T + t, t_mask & (t * 0 + c < REST), 0.).to(
        tl.float32) + \
        tl.where(t == c - REST, 1., 0.)
    s1, t1, rstd1, mu1 = norm_affine(c, c < C, gamma1, beta1, mean1, var1,
                                     eps1, True)
    s2, t2, rstd2, mu2 = norm_affine(c, c < C, gamma2, beta2, mean2, var2,
                                     eps2, True)
    bias2 = tl.load(pwc2_bias + c, is_rest, 0.).to(tl.float32)
    t2 += s2 * bias2
    dw1 = tl.zeros([JP], tl.float32)
    dw2 = tl.zeros([TP], tl.float32)
    ds1 = s1 * 0.
    dt1 = s1 * 0.
    ds2 = s1 * 0.
    dt2 = s1 * 0.
    columns = KH * KW * U + U + T + 1
    for n in range(N):
        g1 = tl.zeros([JP], tl.float32)
        g2 = tl.zeros([TP], tl.float32)
        total = s1 * 0.
        for start in range(0, splits, BS):
            split = start + tl.arange(0, BS)
            inside = split < splits
            row = partial + ((split * N + n) * C + c) * columns
            g1 += tl.sum(
                tl.load(row[:, None] + column1[None, :],
                        inside[:, None] & (is_tap | is_point)[None, :], 0.),
                0)
            g2 += tl.sum(
                tl.load(row[:, None] + KH * KW * U + U + t[None, :],
                        inside[:, None] & t_mask[None, :], 0.), 0)
            total += tl.sum(tl.load(row + columns - 1, inside, 0.), 0)
        of = reduced + n * ROWS * WIDTH
        seen1 = tl.load(of + at_sum1, is_tap | is_point, 0.) / outputs
        seen2 = tl.load(of + KH * KW * WIDTH + U + t, t_mask, 0.) / outputs
        of = coefficients + n * 6 * C + c
        A = tl.load(of)
        B = tl.load(of + C)
        share1 = tl.load(of + 3 * C)
        acc1 = tl.load(of + 4 * C)
        acc2 = tl.load(of + 5 * C)
        sum1 = tl.sum(w1 * g1, 0)  # of dY acc_1
        sum2 = tl.sum(w2 * g2, 0)
        d_mean = share1 * (1. - share1) * (
            s1 * sum1 + t1 * total - s2 * sum2 - t2 * total)
        dw1 += A * g1 + d_mean * s1 * seen1
        dw2 += B * g2 - d_mean * s2 * seen2
        ds1 += share1 * sum1 + d_mean * acc1
        dt1 += share1 * total + d_mean
        ds2 += (1. - share1) * sum2 - d_mean * acc2
        dt2 += (1. - share1) * total - d_mean
        tl.store(constants + n * 2 * C + c, d_mean * s1 / outputs)
        tl.store(constants + n * 2 * C + C + c, -d_mean * s2 / outputs)
    tl.store(d_gwc + at_gwc, dw1.to(d_gwc.dtype.element_ty), is_tap)
    tl.store(d_pwc1 + at_pwc1, dw1.to(d_pwc1.dtype.element_ty), is_point)
    tl.store(d_gamma1 + c, ((ds1 - mu1 * dt1) * rstd1).to(
        d_gamma1.dtype.element_ty))
    tl.store(d_beta1 + c, dt1.to(d_beta1.dtype.element_ty))
    tl.store(d_pwc2 + c * T + t, dw2.to(d_pwc2.dtype.element_ty),
             t_mask & (t * 0 + c < REST))
    tl.store(d_pwc2_bias + c, (s2 * dt2).to(d_pwc2_bias.dtype.element_ty),
             is_rest)
    tl.store(d_gamma2 + c, ((ds2 + (bias2 - mu2) * dt2) * rstd2).to(
        d_gamma2.dtype.element_ty))
    tl.store(d_beta2 + c, dt2.to(d_beta2.dtype.element_ty))


@triton.jit
def constants_kernel(constants, seen_constants, gwc, pwc1, pwc2, C, U, T,
                     REST, gs0, gs1, gs2, gs3, KH: tl.constexpr,
                     KW: tl.constexpr, G: tl.constexpr, ROWS: tl.constexpr,
                     CP: tl.constexpr, BN: tl.constexpr):
    """What ``constants`` add to the gradients of the squeezed maps, for each
    tap that sees a pixel: (N, ROWS, U + T)."""
    row = tl.program_id(0)
    n = tl.program_id(2)
    column = tl.program_id(1) * BN + tl.arange(0, BN)
    c = tl.arange(0, CP)
    is_up = (column < U)[None, :]
    group = (c // (C // G))[:, None]
    UG = U // G
    e1 = tl.load(constants + n * 2 * C + c, c < C, 0.)[:, None]
    e2 = tl.load(constants + n * 2 * C + C + c, c < C, 0.)[:, None]
    o = column - U
    if row < KH * KW:
        w = tl.load(
            gwc + (row // KW) * gs2 + (row % KW) * gs3 + c[:, None] * gs0 +
            (column[None, :] - group * UG) * gs1,
            (c < C)[:, None] & is_up & ((column // UG)[None, :] == group), 0.)
        total = tl.sum(w.to(tl.float32) * e1, 0)
    else:
        w1 = tl.load(pwc1 + c[:, None] * U + column[None, :],
                     (c < C)[:, None] & is_up, 0.)
        w2 = tl.load(pwc2 + c[:, None] * T + o[None, :],
                     (c < REST)[:, None] & (o >= 0)[None, :] &
                     (o < T)[None, :], 0.)
        w2 = w2.to(tl.float32) + tl.where(
            (c[:, None] - REST == o[None, :]) & (o >= 0)[None, :], 1., 0.)
        total = tl.sum(w1.to(tl.float32) * e1 + w2 * e2, 0)
    tl.store(seen_constants + (n * ROWS + row) * (U + T) + column, total,
             column < U + T)


@triton.jit(do_not_specialize=SIZES)
def fuse_input_gradient_kernel(
        dy, coefficients, packed, seen_constants, d_squeezed,
        C, H, W, HO, WO, U, T, REST, gn, gc, gp,
        KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr,
        SW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr,
        DH: tl.constexpr, DW: tl.constexpr, G: tl.constexpr,
        ROWS: tl.constexpr, PRECISION: tl.constexpr, BM: tl.constexpr,
        BN: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr):
    """Gradients of the squeezed maps, (N, H, W, U + T). A program's columns
    are of one group of up, or of low; of the GWC it takes as many taps at a
    time as fit with BC channels each."""
    n = tl.program_id(2)
    p = tl.program_id(1) * BM + tl.arange(0, BM)
    p_mask = p < H * W
    y = p // W
    x = p % W
    CG = C // G
    UG = U // G
    in_group = tl.cdiv(UG, BN)
    group = tl.program_id(0) // in_group
    dtype = d_squeezed.dtype.element_ty
    dy_n = dy + n * gn
    of_constants = seen_constants + n * ROWS * (U + T)
    share = pool_share(p, p_mask, H, W, SH, SW)
    at = y // SH * WO + x // SW
    weights = packed + n * (KH * KW * UG + U + T) * C
    pointwise = weights + KH * KW * UG * C
    j = tl.arange(0, BK)
    acc = tl.zeros([BM, BN], tl.float32)
    if group < G:
        k = tl.program_id(0) % in_group * BN + tl.arange(0, BN)
        o_mask = k < UG
        o = group * UG + k
        for c0 in range(0, C, BK):
            c = c0 + j
            d = tl.load(dy_n + at[:, None] * gp + c[None, :] * gc,
                        p_mask[:, None] & (c < C)[None, :], 0.)
            w = tl.load(pointwise + o[None, :] * C + c[:, None],
                        (c < C)[:, None] & o_mask[None, :], 0.)
            acc = product(d.to(dtype), w, acc, PRECISION)
        acc *= share[:, None]
        TAPS: tl.constexpr = BK // BC
        parts = tl.cdiv(CG, BC)
        for step in range(tl.cdiv(KH * KW, TAPS) * parts):
            if TAPS == 1:
                tap = step // parts
                i = step % parts * BC + j
                ny = y + PH - (tap // KW) * DH
                nx = x + PW - (tap % KW) * DW
                seen = p_mask & (ny >= 0) & (nx >= 0) & (ny % SH == 0) & \
                    (nx % SW == 0) & (ny // SH < HO) & (nx // SW < WO)
                c_mask = i < CG
                q = ny // SH * WO + nx // SW
                d = tl.load(
                    dy_n + q[:, None] * gp + (group * CG + i)[None, :] * gc,
                    seen[:, None] & c_mask[None, :], 0.)
            else:
                tap = step // parts * TAPS + j // BC
                i = step % parts * BC + j % BC
                ny = (y + PH)[:, None] - ((tap // KW) * DH)[None, :]
                nx = (x + PW)[:, None] - ((tap % KW) * DW)[None, :]
                c_mask = (i < CG) & (tap < KH * KW)
                seen = p_mask[:, None] & c_mask[None, :] & (ny >= 0) & \
                    (nx >= 0) & (ny % SH == 0) & (nx % SW == 0) & \
                    (ny // SH < HO) & (nx // SW < WO)
                q = ny // SH * WO + nx // SW
                d = tl.load(dy_n + q * gp + (group * CG + i)[None, :] * gc,
                            seen, 0.)
            w = tl.load(
                weights + ((i * 0 + tap)[:, None] * UG + k[None, :]) * C +
                (group * CG + i)[:, None],
                c_mask[:, None] & o_mask[None, :], 0.)
            acc = product(d.to(dtype), w, acc, PRECISION)
        rows = tap_rows(p, p_mask, H, W, HO, WO, KH, KW, SH, SW, PH, PW, DH,
                        DW, ROWS)
        r = tl.arange(0, ROWS)
        e = tl.load(of_constants + r[:, None] * (U + T) + o[None, :],
                    (r <= KH * KW)[:, None] & o_mask[None, :], 0.)
        acc = product(tl.trans(rows).to(dtype), e.to(dtype), acc, PRECISION)
        tl.store(d_squeezed + (n * H * W + p[:, None]) * (U + T) + o[None, :],
                 acc.to(dtype), p_mask[:, None] & o_mask[None, :])
    else:
        o = (tl.program_id(0) - G * in_group) * BN + tl.arange(0, BN)
        o_mask = o < T
        pointwise += U * C
        for c0 in range(0, REST, BK):
            c = c0 + j
            d = tl.load(dy_n + at[:, None] * gp + c[None, :] * gc,
                        p_mask[:, None] & (c < REST)[None, :], 0.)
            w = tl.load(pointwise + o[None, :] * C + c[:, None],
                        (c < REST)[:, None] & o_mask[None, :], 0.)
            acc = product(d.to(dtype), w, acc, PRECISION)
        c = REST + o
        c_mask = o_mask & (c < C)
        d = tl.load(dy_n + at[:, None] * gp + c[None, :] * gc,
                    p_mask[:, None] & c_mask[None, :], 0.)
        B = tl.load(coefficients + n * 6 * C + C + c, c_mask, 0.)
        acc += B[None, :] * d.to(tl.float32)
        acc += tl.load(of_constants + KH * KW * (U + T) + U + o, o_mask,
                       0.)[None, :]
        acc *= share[:, None]
        tl.store(
            d_squeezed + (n * H * W + p[:, None]) * (U + T) + U + o[None, :],
            acc.to(dtype), p_mask[:, None] & o_mask[None, :])


@triton.jit
def scaled_squeeze(weight, gamma, var, eps, width, c, c_mask, in_width,
                   dtype: tl.constexpr, OP: tl.constexpr):
    """Columns c of a squeeze's weights, its norm's scale multiplied in:
    (outputs, columns)."""
    o = tl.arange(0, OP)
    scale = tl.load(gamma + o, o < width, 0.).to(tl.float32) / tl.sqrt(
        tl.load(var + o, o < width, 1.).to(tl.float32) + eps)
    w = tl.load(weight + o[:, None] * in_width + c[None, :],
                (o < width)[:, None] & c_mask[None, :], 0.).to(tl.float32)
    return (w * scale[:, None]).to(dtype)


@triton.jit
def load_columns(maps, p, p_mask, WIDTH, first, width, OP: tl.constexpr):
    """Columns first to first + width of a map: (pixels, OP)."""
    o = tl.arange(0, OP)
    return tl.load(maps + p[:, None] * WIDTH + first + o[None, :],
                   p_mask[:, None] & (o < width)[None, :], 0.)


@triton.jit
def scaled_squeezes(up_weight, up_gamma, up_var, up_eps, low_weight,
                    low_gamma, low_var, low_eps, c1, half_mask, C,
                    up_channels, U, T, dtype: tl.constexpr,
                    EVEN: tl.constexpr, UP: tl.constexpr, TP: tl.constexpr):
    """:func:`scaled_squeeze` of up for the channels c1 of the first half, of
    low for those of the second, then the other way round (nothing new where
    each half goes to one squeeze)."""
    HALF = C // 2
    up_1 = scaled_squeeze(up_weight, up_gamma, up_var, up_eps, U, c1,
                          half_mask & (c1 < up_channels), up_channels, dtype,
                          UP)
    c2 = c1 + HALF - up_channels
    low_2 = scaled_squeeze(low_weight, low_gamma, low_var, low_eps, T, c2,
                           half_mask & (c2 >= 0), C - up_channels, dtype, TP)
    up_2 = up_1
    low_1 = low_2
    if not EVEN:
        up_2 = scaled_squeeze(up_weight, up_gamma, up_var, up_eps, U,
                              c1 + HALF,
                              half_mask & (c1 + HALF < up_channels),
                              up_channels, dtype, UP)
        c2 = c1 - up_channels
        low_1 = scaled_squeeze(low_weight, low_gamma, low_var, low_eps, T, c2,
                               half_mask & (c2 >= 0), C - up_channels, dtype,
                               TP)
    return up_1, low_2, up_2, low_1


@triton.jit
def gate_output_gradients(maps, p, p_mask, U, T, up_1, low_2, up_2, low_1,
                          EVEN: tl.constexpr, PRECISION: tl.constexpr,
                          UP: tl.constexpr, TP: tl.constexpr):
    """Gradients of both halves of the gate's output, from those of the
    squeezed maps of one sample and :func:`scaled_squeezes`."""
    d_up = load_columns(maps, p, p_mask, U + T, 0, U, UP)
    d_low = load_columns(maps, p, p_mask, U + T, U, T, TP)
    zero = tl.zeros([p.shape[0], up_1.shape[1]], tl.float32)
    d1 = product(d_up, up_1, zero, PRECISION)
    d2 = product(d_low, low_2, zero, PRECISION)
    if not EVEN:
        d1 = product(d_low, low_1, d1, PRECISION)
        d2 = product(d_up, up_2, d2, PRECISION)
    return d1, d2


@triton.jit(do_not_specialize=SIZES)
def gate_sums_kernel(
        x, affine, d_squeezed, partial, up_weight, up_gamma, up_var,
        low_weight, low_gamma, low_var, C, pixels, up_channels, sn, sc, sp,
        up_eps, low_eps, threshold, U, T, UP: tl.constexpr,
        TP: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
        BP: tl.constexpr, BK: tl.constexpr):
    """Sums of the logits' gradients, and of them times the normalised x, for
    each block of pixels: (N, blocks, 2, C)."""
    n = tl.program_id(2)
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    HALF = C // 2
    c1 = tl.program_id(0) * BK + tl.arange(0, BK)
    half_mask = c1 < HALF
    affine_n = affine + n * 4 * C
    a1, b1 = load_affine(affine_n, c1, half_mask, C)
    a2, b2 = load_affine(affine_n, c1 + HALF, half_mask, C)
    m1, r1 = load_affine(affine_n + 2 * C, c1, half_mask, C)
    m2, r2 = load_affine(affine_n + 2 * C, c1 + HALF, half_mask, C)
    up_1, low_2, up_2, low_1 = scaled_squeezes(
        up_weight, up_gamma, up_var, up_eps, low_weight, low_gamma, low_var,
        low_eps, c1, half_mask, C, up_channels, U, T,
        d_squeezed.dtype.element_ty, EVEN, UP, TP)
    sum1 = tl.zeros([BP, BK], tl.float32)
    sum2 = tl.zeros([BP, BK], tl.float32)
    product1 = tl.zeros([BP, BK], tl.float32)
    product2 = tl.zeros([BP, BK], tl.float32)
    for start in range(block * BP, pixels, blocks * BP):
        p = start + tl.arange(0, BP)
        p_mask = p < pixels
        d1, d2 = gate_output_gradients(
            d_squeezed + n * pixels * (U + T), p, p_mask, U, T, up_1, low_2,
            up_2, low_1, EVEN, PRECISION, UP, TP)
        x1, x2 = load_halves(x + n * sn, p, p_mask, c1, half_mask, HALF, sc,
                             sp)
        logit1, _ = gate_gradients(x1, a1[None, :], b1[None, :], threshold,
                                   d1, d1 + d2)
        logit2, _ = gate_gradients(x2, a2[None, :], b2[None, :], threshold,
                                   d2, d1 + d2)
        sum1 += logit1
        sum2 += logit2
        product1 += logit1 * (x1 - m1[None, :])
        product2 += logit2 * (x2 - m2[None, :])
    to = partial + (n * blocks + block) * 2 * C + c1
    tl.store(to, tl.sum(sum1, 0), half_mask)
    tl.store(to + HALF, tl.sum(sum2, 0), half_mask)
    tl.store(to + C, tl.sum(product1, 0) * r1, half_mask)
    tl.store(to + C + HALF, tl.sum(product2, 0) * r2, half_mask)


@triton.jit(do_not_specialize=SIZES)
def group_sums_kernel(partial, affine, channel_sums, group_means, C, pixels,
                      blocks, GROUPS: tl.constexpr, WP: tl.constexpr,
                      BB: tl.constexpr):
    """The sums over all blocks, (N, 2, C), and the means over each group of
    the normalised x's gradient, and of it times the normalised x:
    (N, 2, GROUPS)."""
    n = tl.program_id(1)
    g = tl.program_id(0)
    width = C // GROUPS
    i = tl.arange(0, WP)
    c = g * width + i
    mask = i < width
    sums = sum_of_blocks(partial + n * blocks * 2 * C, 0, c, mask, blocks, C,
                         2, BB)
    products = sum_of_blocks(partial + n * blocks * 2 * C, 1, c, mask, blocks,
                             C, 2, BB)
    tl.store(channel_sums + n * 2 * C + c, sums, mask)
    tl.store(channel_sums + n * 2 * C + C + c, products, mask)
    of = affine + n * 4 * C + c
    weight = tl.load(of, mask, 0.) / tl.load(of + 3 * C, mask, 1.)
    count = (pixels * width).to(tl.float32)
    to = group_means + n * 2 * GROUPS + g
    tl.store(to, tl.sum(weight * sums, 0) / count)
    tl.store(to + GROUPS, tl.sum(weight * products, 0) / count)


@triton.jit
def norm_gradient(x, a, m, r, logit, direct, mean_grad, mean_product):
    """Gradient of x: beside and through the logits' GroupNorm."""
    normalised = (x - m[None, :]) * r[None, :]
    return direct + logit * a[None, :] - r[None, :] * (
        mean_grad[None, :] + normalised * mean_product[None, :])


@triton.jit(do_not_specialize=SIZES)
def gate_input_gradient_kernel(
        x, affine, d_squeezed, group_means, dx, up_weight, up_gamma, up_var,
        low_weight, low_gamma, low_var, C, pixels, up_channels, sn, sc, sp,
        up_eps, low_eps, threshold, U, T, UP: tl.constexpr,
        TP: tl.constexpr, GROUPS: tl.constexpr, EVEN: tl.constexpr,
        PRECISION: tl.constexpr, BP: tl.constexpr, BK: tl.constexpr):
    """Gradient of x, in its layout."""
    n = tl.program_id(2)
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    HALF = C // 2
    c1 = tl.program_id(0) * BK + tl.arange(0, BK)
    half_mask = c1 < HALF
    affine_n = affine + n * 4 * C
    a1, b1 = load_affine(affine_n, c1, half_mask, C)
    a2, b2 = load_affine(affine_n, c1 + HALF, half_mask, C)
    m1, r1 = load_affine(affine_n + 2 * C, c1, half_mask, C)
    m2, r2 = load_affine(affine_n + 2 * C, c1 + HALF, half_mask, C)
    width = C // GROUPS
    means = group_means + n * 2 * GROUPS
    g1, k1 = load_affine(means, c1 // width, half_mask, GROUPS)
    g2, k2 = load_affine(means, (c1 + HALF) // width, half_mask, GROUPS)
    up_1, low_2, up_2, low_1 = scaled_squeezes(
        up_weight, up_gamma, up_var, up_eps, low_weight, low_gamma, low_var,
        low_eps, c1, half_mask, C, up_channels, U, T,
        d_squeezed.dtype.element_ty, EVEN, UP, TP)
    for start in range(block * BP, pixels, blocks * BP):
        p = start + tl.arange(0, BP)
        p_mask = p < pixels
        d1, d2 = gate_output_gradients(
            d_squeezed + n * pixels * (U + T), p, p_mask, U, T, up_1, low_2,
            up_2, low_1, EVEN, PRECISION, UP, TP)
        x1, x2 = load_halves(x + n * sn, p, p_mask, c1, half_mask, HALF, sc,
                             sp)
        logit1, direct1 = gate_gradients(x1, a1[None, :], b1[None, :],
                                         threshold, d1, d1 + d2)
        logit2, direct2 = gate_gradients(x2, a2[None, :], b2[None, :],
                                         threshold, d2, d1 + d2)
        to = dx + n * sn + p[:, None] * sp + c1[None, :] * sc
        mask = p_mask[:, None] & half_mask[None, :]
        grad = norm_gradient(x1, a1, m1, r1, logit1, direct1, g1, k1)
        tl.store(to, grad.to(dx.dtype.element_ty), mask)
        grad = norm_gradient(x2, a2, m2, r2, logit2, direct2, g2, k2)
        tl.store(to + HALF * sc, grad.to(dx.dtype.element_ty), mask)


@triton.jit(do_not_specialize=SIZES)
def squeeze_weight_gradient_kernel(
        x, affine, d_squeezed, partial, C, pixels, up_channels, U, T, N,
        sn, sc, sp, threshold, EVEN: tl.constexpr, PRECISION: tl.constexpr,
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
        a1, b1 = load_affine(affine + n * 4 * C, c1, c_mask, C)
        a2, b2 = load_affine(affine + n * 4 * C, c1 + HALF, c_mask, C)
        for start in range(split * BP, pixels, splits * BP):
            p = start + tl.arange(0, BP)
            p_mask = p < pixels
            x1, x2 = load_halves(x + n * sn, p, p_mask, c1, c_mask, HALF, sc,
                                 sp)
            h1, h2 = gate(x1, x2, a1[None, :], b1[None, :], a2[None, :],
                          b2[None, :], threshold)
            d = tl.load(
                d_squeezed + (n * pixels + p[:, None]) * (U + T)
                + o[None, :], p_mask[:, None] & o_mask[None, :], 0.)
            if EVEN:
                h = tl.where(is_up, h1, h2).to(dtype)
                acc1 = product(tl.trans(d), h, acc1,
                              PRECISION)
            else:
                acc1 = product(tl.trans(d), h1.to(dtype), acc1,
                              PRECISION)
                acc2 = product(tl.trans(d), h2.to(dtype), acc2,
                              PRECISION)
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
        c = tl.arange(0, CP)
        mask = c < C
        d_bias = tl.zeros([CP], tl.float32)
        d_weight = tl.zeros([CP], tl.float32)
        for n in range(N):
            d_bias += tl.load(channel_sums + n * 2 * C + c, mask, 0.)
            d_weight += tl.load(channel_sums + n * 2 * C + C + c, mask, 0.)
        # through w_gamma * weight and w_gamma * bias
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
