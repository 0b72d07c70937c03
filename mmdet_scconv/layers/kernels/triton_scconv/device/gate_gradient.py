"""Gradient of the input, through squeezes and gate."""
import triton
import triton.language as tl

from .shared import (
    SIZES,
    load_affine,
    load_affines,
    load_halves,
    product,
    store_map,
    sum_of_blocks,
)


@triton.jit
def gate_gradients(x, a, b, threshold, grad, both):
    """Gradients of a half's logits, and of its x beside them."""
    z = x * a + b
    s = tl.sigmoid(z)
    return (tl.where(z > threshold, 0., both * x * s * (1. - s)),
            tl.where(z > threshold, grad, both * s))


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


@triton.jit
def gradients_of_block(x, d1, d2, p, p_mask, c1, half_mask, HALF, sc, sp, a1,
                       b1, a2, b2, threshold):
    """x, gradients of the logits, and of x beside them, of both halves of
    the pixels p of one sample; from those of the gate's output."""
    x1, x2 = load_halves(x, p, p_mask, c1, half_mask, HALF, sc, sp)
    logit1, direct1 = gate_gradients(x1, a1[None, :], b1[None, :], threshold,
                                     d1, d1 + d2)
    logit2, direct2 = gate_gradients(x2, a2[None, :], b2[None, :], threshold,
                                     d2, d1 + d2)
    return x1, x2, logit1, logit2, direct1, direct2


@triton.jit
def channels_of_program(affine, C, BK: tl.constexpr):
    """The first half's channels of this program and their mask; scales,
    offsets, means and inverse deviations of a sample's logits: scale and
    offset of the first half, then of the second, then the others alike."""
    HALF = C // 2
    c1 = tl.program_id(0) * BK + tl.arange(0, BK)
    half_mask = c1 < HALF
    a1, b1, a2, b2 = load_affines(affine, c1, half_mask, HALF, C)
    m1, r1, m2, r2 = load_affines(affine + 2 * C, c1, half_mask, HALF, C)
    return c1, half_mask, a1, b1, a2, b2, m1, r1, m2, r2


@triton.jit
def store_sums(to, c1, half_mask, C, sum1, sum2, product1, product2):
    """Those of a block for the channels c1 of both halves: (2, C)."""
    HALF = C // 2
    tl.store(to + c1, sum1, half_mask)
    tl.store(to + HALF + c1, sum2, half_mask)
    tl.store(to + C + c1, product1, half_mask)
    tl.store(to + C + HALF + c1, product2, half_mask)


@triton.jit(do_not_specialize=SIZES)
def gate_sums_kernel(
        x, affine, d_squeezed, partial, up_weight, up_gamma, up_var,
        low_weight, low_gamma, low_var, C, pixels, up_channels, sc, sp,
        up_eps, low_eps, threshold, U, T, UP: tl.constexpr,
        TP: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
        BP: tl.constexpr, BK: tl.constexpr):
    """Sums of the logits' gradients, and of them times the normalised x, for
    each block of pixels: (N, blocks, 2, C)."""
    n = tl.program_id(2)
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    HALF = C // 2
    x += n * C * pixels
    c1, half_mask, a1, b1, a2, b2, m1, r1, m2, r2 = channels_of_program(
        affine + n * 4 * C, C, BK)
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


@triton.jit
def load_group_means(means, c1, half_mask, C, GROUPS: tl.constexpr):
    """Of group_sums_kernel, both for the channels c1 of the first half, then
    for those of the second."""
    width = C // GROUPS
    g1, k1 = load_affine(means, c1 // width, half_mask, GROUPS)
    g2, k2 = load_affine(means, (c1 + C // 2) // width, half_mask, GROUPS)
    return g1, k1, g2, k2


@triton.jit(do_not_specialize=SIZES)
def gate_input_gradient_kernel(
        x, affine, d_squeezed, group_means, dx, up_weight, up_gamma, up_var,
        low_weight, low_gamma, low_var, C, pixels, up_channels, sc, sp,
        up_eps, low_eps, threshold, U, T, UP: tl.constexpr,
        TP: tl.constexpr, GROUPS: tl.constexpr, EVEN: tl.constexpr,
        PRECISION: tl.constexpr, BP: tl.constexpr, BK: tl.constexpr):
    """Gradient of x, in its layout."""
    n = tl.program_id(2)
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    HALF = C // 2
    x += n * C * pixels
    dx += n * C * pixels
    c1, half_mask, a1, b1, a2, b2, m1, r1, m2, r2 = channels_of_program(
        affine + n * 4 * C, C, BK)
    g1, k1, g2, k2 = load_group_means(group_means + n * 2 * GROUPS, c1,
                                      half_mask, C, GROUPS)
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
        x1, x2, logit1, logit2, direct1, direct2 = gradients_of_block(
            x, d1, d2, p, p_mask, c1, half_mask, HALF, sc, sp, a1, b1, a2, b2,
            threshold)
        grad1 = norm_gradient(x1, a1, m1, r1, logit1, direct1, g1, k1)
        grad2 = norm_gradient(x2, a2, m2, r2, logit2, direct2, g2, k2)
        store_map(dx, grad1, p, p_mask, c1, half_mask, sc, sp)
        store_map(dx, grad2, p, p_mask, c1 + HALF, half_mask, sc, sp)
