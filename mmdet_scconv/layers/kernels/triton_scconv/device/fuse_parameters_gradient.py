"""Gradients of the weights and norms behind the squeezes."""
import triton
import triton.language as tl

from .shared import (
    SIZES,
    is_inside,
    load_pooled,
    norm_affine,
    product,
)


@triton.jit(do_not_specialize=SIZES)
def fuse_weight_gradient_kernel(
        dy, squeezed, partial, C, H, W, HO, WO, U, T, N, gc, gp,
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
        d = tl.load(dy + n * C * HO * WO + q[:, None] * gp + c[None, :] * gc,
                    q_mask[:, None] & c_mask[None, :], 0.)
        iy = (oy * SH)[:, None] + offset_y[None, :]
        ix = (ox * SW)[:, None] + offset_x[None, :]
        seen = is_inside(q_mask[:, None] & k_mask[None, :], iy, ix, H, W)
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
