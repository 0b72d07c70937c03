"""The SRU without what comes behind it: writes the parts that go up and low.

``uc, us`` and ``lc, ls`` are the strides of channels and pixels in both
parts.
"""
import triton
import triton.language as tl

from .gate_gradient import (
    channels_of_program,
    gradients_of_block,
    load_group_means,
    norm_gradient,
    store_sums,
)
from .shared import (
    SIZES,
    gamma_sum,
    gate,
    load_halves,
    load_map,
    store_map,
)
from .squeeze import affine_of_halves, group_statistics
from .squeeze_parameters_gradient import sru_parameters_gradient


@triton.jit(do_not_specialize=SIZES)
def sru_kernel(
        x, moments, affine, up, low, gn_weight, gn_bias, pixels,
        moment_blocks, up_channels, sc, sp, uc, us, lc, ls, gn_eps,
        threshold, C: tl.constexpr, GROUPS: tl.constexpr, GP: tl.constexpr,
        MIN_SUM: tl.constexpr, EVEN: tl.constexpr, CP: tl.constexpr,
        BP: tl.constexpr, BK: tl.constexpr, BB: tl.constexpr):
    """Both parts, and the affine of the gate's logits, (N, 4, C), from the
    moments."""
    n = tl.program_id(2)
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    HALF: tl.constexpr = C // 2
    c1 = tl.program_id(0) * BK + tl.arange(0, BK)
    half_mask = c1 < HALF
    total_gamma, _ = gamma_sum(gn_weight, C, MIN_SUM, CP)
    means, rstds = group_statistics(
        moments + n * moment_blocks * 3 * GROUPS, moment_blocks, gn_eps,
        GROUPS, GP, BB)
    a1, b1, a2, b2 = affine_of_halves(
        affine + n * 4 * C, block == 0, c1, half_mask, means, rstds,
        gn_weight, gn_bias, total_gamma, C, C // GROUPS, True, GP)
    x += n * C * pixels
    up += n * up_channels * pixels
    low += n * (C - up_channels) * pixels
    for start in range(block * BP, pixels, blocks * BP):
        p = start + tl.arange(0, BP)
        p_mask = p < pixels
        x1, x2 = load_halves(x, p, p_mask, c1, half_mask, HALF, sc, sp)
        h1, h2 = gate(x1, x2, a1[None, :], b1[None, :], a2[None, :],
                      b2[None, :], threshold)
        store_parts(up, low, h1, h2, p, p_mask, c1, half_mask, HALF,
                    up_channels, uc, us, lc, ls, EVEN)


@triton.jit
def store_parts(up, low, h1, h2, p, p_mask, c1, half_mask, HALF, up_channels,
                uc, us, lc, ls, EVEN: tl.constexpr):
    """Both halves, (pixels, channels), as both parts; the same where EVEN."""
    c2 = c1 + HALF
    store_map(up, h1, p, p_mask, c1, half_mask & (c1 < up_channels), uc, us)
    store_map(low, h2, p, p_mask, c2 - up_channels,
              half_mask & (c2 >= up_channels), lc, ls)
    if not EVEN:
        store_map(low, h1, p, p_mask, c1 - up_channels,
                  half_mask & (c1 >= up_channels), lc, ls)
        store_map(up, h2, p, p_mask, c2, half_mask & (c2 < up_channels), uc,
                  us)


@triton.jit
def load_parts(up, low, p, p_mask, c1, half_mask, HALF, up_channels, uc, us,
               lc, ls, EVEN: tl.constexpr):
    """Both halves, from both parts."""
    c2 = c1 + HALF
    h1 = load_map(up, p, p_mask, c1, half_mask & (c1 < up_channels), uc, us)
    h2 = load_map(low, p, p_mask, c2 - up_channels,
                  half_mask & (c2 >= up_channels), lc, ls)
    if not EVEN:  # a channel is in one of the parts, 0 is read of the other
        h1 += load_map(low, p, p_mask, c1 - up_channels,
                       half_mask & (c1 >= up_channels), lc, ls)
        h2 += load_map(up, p, p_mask, c2, half_mask & (c2 < up_channels), uc,
                       us)
    return h1, h2


@triton.jit(do_not_specialize=SIZES)
def sru_sums_kernel(x, affine, d_up, d_low, partial, C, pixels, up_channels,
                    sc, sp, uc, us, lc, ls, threshold,
                    EVEN: tl.constexpr, BP: tl.constexpr, BK: tl.constexpr):
    """As gate_sums_kernel, from the gradients of both parts."""
    n = tl.program_id(2)
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    HALF = C // 2
    c1, half_mask, a1, b1, a2, b2, m1, r1, m2, r2 = channels_of_program(
        affine + n * 4 * C, C, BK)
    x += n * C * pixels
    d_up += n * up_channels * pixels
    d_low += n * (C - up_channels) * pixels
    sum1 = tl.zeros([BP, BK], tl.float32)
    sum2 = tl.zeros([BP, BK], tl.float32)
    product1 = tl.zeros([BP, BK], tl.float32)
    product2 = tl.zeros([BP, BK], tl.float32)
    for start in range(block * BP, pixels, blocks * BP):
        p = start + tl.arange(0, BP)
        p_mask = p < pixels
        d1, d2 = load_parts(d_up, d_low, p, p_mask, c1, half_mask, HALF,
                            up_channels, uc, us, lc, ls, EVEN)
        x1, x2, logit1, logit2, _, _ = gradients_of_block(
            x, d1, d2, p, p_mask, c1, half_mask, HALF, sc, sp, a1, b1, a2, b2,
            threshold)
        sum1 += logit1
        sum2 += logit2
        product1 += logit1 * (x1 - m1[None, :])
        product2 += logit2 * (x2 - m2[None, :])
    store_sums(partial + (n * blocks + block) * 2 * C, c1, half_mask, C,
               tl.sum(sum1, 0), tl.sum(sum2, 0), tl.sum(product1, 0) * r1,
               tl.sum(product2, 0) * r2)


@triton.jit(do_not_specialize=SIZES)
def sru_input_gradient_kernel(
        x, affine, d_up, d_low, group_means, dx, C, pixels, up_channels, sc,
        sp, uc, us, lc, ls, threshold, GROUPS: tl.constexpr,
        EVEN: tl.constexpr, BP: tl.constexpr, BK: tl.constexpr):
    """As gate_input_gradient_kernel, from the gradients of both parts."""
    n = tl.program_id(2)
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    HALF = C // 2
    c1, half_mask, a1, b1, a2, b2, m1, r1, m2, r2 = channels_of_program(
        affine + n * 4 * C, C, BK)
    g1, k1, g2, k2 = load_group_means(group_means + n * 2 * GROUPS, c1,
                                      half_mask, C, GROUPS)
    x += n * C * pixels
    dx += n * C * pixels
    d_up += n * up_channels * pixels
    d_low += n * (C - up_channels) * pixels
    for start in range(block * BP, pixels, blocks * BP):
        p = start + tl.arange(0, BP)
        p_mask = p < pixels
        d1, d2 = load_parts(d_up, d_low, p, p_mask, c1, half_mask, HALF,
                            up_channels, uc, us, lc, ls, EVEN)
        x1, x2, logit1, logit2, direct1, direct2 = gradients_of_block(
            x, d1, d2, p, p_mask, c1, half_mask, HALF, sc, sp, a1, b1, a2, b2,
            threshold)
        grad1 = norm_gradient(x1, a1, m1, r1, logit1, direct1, g1, k1)
        grad2 = norm_gradient(x2, a2, m2, r2, logit2, direct2, g2, k2)
        store_map(dx, grad1, p, p_mask, c1, half_mask, sc, sp)
        store_map(dx, grad2, p, p_mask, c1 + HALF, half_mask, sc, sp)


@triton.jit(do_not_specialize=SIZES)
def sru_parameters_gradient_kernel(
        channel_sums, gn_weight, gn_bias, d_gn_weight, d_gn_bias, C, N,
        MIN_SUM: tl.constexpr, CP: tl.constexpr):
    """In one program."""
    sru_parameters_gradient(channel_sums, gn_weight, gn_bias, d_gn_weight,
                            d_gn_bias, C, N, MIN_SUM, CP)
