"""The CRU behind its squeezes: the softmax's weights, then the output."""
import triton
import triton.language as tl

from .shared import (
    SIZES,
    is_inside,
    load_pooled,
    norm_affine,
    product,
    sum_of_blocks,
)


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
    for y in range(KH):
        for x in tl.static_range(KW):
            s = tl.load(of_sums + (y * KW + x) * WIDTH + column, g_mask, 0.)
            w = tl.load(of_gwc + y * gs2 + x * gs3, g_mask, 0.)
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
    for y in range(KH):
        for x in tl.static_range(KW):
            w = tl.load(of_gwc + y * gs2 + x * gs3, g_mask, 0.)
            tl.store(to + ((y * KW + x) * UG + g) * C,
                     (w.to(tl.float32) * A[:, None]).to(dtype), g_mask)
    to += KH * KW * UG * C
    tl.store(to + u * C, (w1 * A[:, None]).to(dtype), u_mask)
    tl.store(to + (U + t) * C, (w2 * B[:, None]).to(dtype),
             c_mask[:, None] & (t < T))


@triton.jit(do_not_specialize=SIZES)
def fuse_kernel(
        squeezed, coefficients, packed, y, C, H, W, HO, WO, U, T, REST, oc,
        op, KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr,
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
            seen = is_inside(q_mask, iy, ix, H, W)
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
            seen = is_inside(q_mask[:, None] & k_mask[None, :], iy, ix, H, W)
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
    tl.store(y + n * C * HO * WO + q[:, None] * op + c[None, :] * oc,
             out.to(y.dtype.element_ty), q_mask[:, None] & c_mask[None, :])
