"""Gradients of the squeezed maps."""
import triton
import triton.language as tl

from .shared import (
    SIZES,
    is_output,
    pool_share,
    product,
    tap_rows,
)


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
        C, H, W, HO, WO, U, T, REST, gc, gp,
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
    dy_n = dy + n * C * HO * WO
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
                seen = is_output(p_mask, ny, nx, HO, WO, SH, SW)
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
                seen = is_output(p_mask[:, None] & c_mask[None, :], ny, nx,
                                 HO, WO, SH, SW)
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
