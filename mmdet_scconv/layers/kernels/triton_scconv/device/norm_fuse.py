"""The end of the CRU where its BatchNorms use the statistics of the batch:
both norms, and the fuse.

With v_1 = GWC + PWC1 and v_2 = [PWC2, low], z_i = gamma_i (v_i - mean_i)
rstd_i + beta_i, and beta the softmax over the means of z_1 and z_2 of each
sample: Y = beta_1 z_1 + beta_2 z_2. The strides are those of channels and
pixels: of the maps C wide, of PWC2 (REST wide) and of low (T wide).
"""
import triton
import triton.language as tl

from .shared import SIZES, load_map, store_map, sum_of_blocks


@triton.jit
def load_second(pwc2, low, p, p_mask, c, c_mask, REST, rc, rs, lc, ls):
    """The channels c of [PWC2, low]: (pixels, channels), float32."""
    return load_map(pwc2, p, p_mask, c, c_mask & (c < REST), rc, rs) + \
        load_map(low, p, p_mask, c - REST, c_mask & (c >= REST), lc, ls)


@triton.jit(do_not_specialize=SIZES)
def norm_fuse_moments_kernel(
        gwc, pwc1, pwc2, low, v1, partial, C, REST, pixels, sc, sp, rc, rs,
        lc, ls, BP: tl.constexpr, BK: tl.constexpr):
    """v_1; and for each block of pixels the count, the sums, and the sums of
    squared deviations of v_1 and v_2: (N, blocks, 5, C)."""
    n = tl.program_id(2)
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    c = tl.program_id(0) * BK + tl.arange(0, BK)
    c_mask = c < C
    gwc += n * C * pixels
    pwc1 += n * C * pixels
    v1 += n * C * pixels
    pwc2 += n * REST * pixels
    low += n * (C - REST) * pixels
    p = block * BP + tl.arange(0, BP)
    p_mask = p < pixels
    count = tl.minimum(pixels - block * BP, BP).to(tl.float32)
    # what is near the mean keeps the difference of moments well-conditioned
    origin1 = tl.sum(
        load_map(gwc, p, p_mask, c, c_mask, sc, sp)
        + load_map(pwc1, p, p_mask, c, c_mask, sc, sp), 0) / count
    origin2 = tl.sum(load_second(pwc2, low, p, p_mask, c, c_mask, REST, rc,
                                 rs, lc, ls), 0) / count
    sum1 = tl.zeros([BP, BK], tl.float32)
    sum2 = tl.zeros([BP, BK], tl.float32)
    square1 = tl.zeros([BP, BK], tl.float32)
    square2 = tl.zeros([BP, BK], tl.float32)
    count = 0.
    for start in range(block * BP, pixels, blocks * BP):
        p = start + tl.arange(0, BP)
        p_mask = p < pixels
        first = load_map(gwc, p, p_mask, c, c_mask, sc, sp) + \
            load_map(pwc1, p, p_mask, c, c_mask, sc, sp)
        # as it is read later
        first = first.to(v1.dtype.element_ty)
        store_map(v1, first, p, p_mask, c, c_mask, sc, sp)
        second = load_second(pwc2, low, p, p_mask, c, c_mask, REST, rc, rs,
                             lc, ls)
        d1 = tl.where(p_mask[:, None],
                      first.to(tl.float32) - origin1[None, :], 0.)
        d2 = tl.where(p_mask[:, None], second - origin2[None, :], 0.)
        sum1 += d1
        sum2 += d2
        square1 += d1 * d1
        square2 += d2 * d2
        count += tl.minimum(pixels - start, BP).to(tl.float32)
    total1 = tl.sum(sum1, 0)
    total2 = tl.sum(sum2, 0)
    deviation1 = tl.sum(square1, 0) - total1 * total1 / count
    deviation2 = tl.sum(square2, 0) - total2 * total2 / count
    to = partial + (n * blocks + block) * 5 * C + c
    tl.store(to, origin1 * 0. + count, c_mask)
    tl.store(to + C, total1 + origin1 * count, c_mask)
    tl.store(to + 2 * C, total2 + origin2 * count, c_mask)
    tl.store(to + 3 * C, tl.maximum(deviation1, 0.), c_mask)
    tl.store(to + 4 * C, tl.maximum(deviation2, 0.), c_mask)


@triton.jit
def batch_statistics(partial, branch, c, c_mask, rows, values, eps, C,
                     BB: tl.constexpr, BN: tl.constexpr):
    """Mean, (biased) variance and rstd of a branch over all blocks of all
    samples."""
    mean = sum_of_blocks(partial, branch, c, c_mask, rows, C, 5, BB) / values
    square = tl.zeros([BN], tl.float32)
    for first in range(0, rows, BB):
        b = first + tl.arange(0, BB)
        mask = (b < rows)[:, None] & c_mask[None, :]
        at = partial + b[:, None] * 5 * C + c[None, :]
        count = tl.load(at, mask, 1.)
        total = tl.load(at + branch * C, mask, 0.)
        deviation = total / count - mean[None, :]
        square += tl.sum(tl.where(
            mask, tl.load(at + (branch + 2) * C, mask, 0.)
            + count * deviation * deviation, 0.), 0)
    var = square / values
    return mean, var, 1. / tl.sqrt(var + eps)


@triton.jit
def update_running(running_mean, running_var, tracked, c, c_mask, mean, var,
                   values, momentum):
    """As a BatchNorm does in training: the unbiased variance."""
    old = tl.load(running_mean + c, c_mask, 0.).to(tl.float32)
    tl.store(running_mean + c, (old + momentum * (mean - old)).to(
        running_mean.dtype.element_ty), c_mask)
    old = tl.load(running_var + c, c_mask, 0.).to(tl.float32)
    unbiased = var * (values / (values - 1.))
    tl.store(running_var + c, (old + momentum * (unbiased - old)).to(
        running_var.dtype.element_ty), c_mask)
    if tl.program_id(0) == 0:  # of the channels
        tl.store(tracked, tl.load(tracked) + 1)


@triton.jit
def load_norm(gamma, beta, c, c_mask):
    """Weight and bias, float32."""
    return (tl.load(gamma + c, c_mask, 0.).to(tl.float32),
            tl.load(beta + c, c_mask, 0.).to(tl.float32))


@triton.jit(do_not_specialize=SIZES)
def norm_fuse_coefficients_kernel(
        partial, statistics, coefficients, gamma1, beta1, mean1, var1,
        tracked1, gamma2, beta2, mean2, var2, tracked2, C, N, pixels, blocks,
        eps1, eps2, momentum1, momentum2, BB: tl.constexpr,
        BN: tl.constexpr):
    """Mean and rstd of v_1, then of v_2: (4, C). For each sample Y = A (v_1 -
    mean_1) + B (v_2 - mean_2) + D, beta_1, and the means of v_1 and v_2,
    normalised: (N, 6, C). Updates the running statistics."""
    c = tl.program_id(0) * BN + tl.arange(0, BN)
    c_mask = c < C
    values = (N * pixels).to(tl.float32)
    m1, v1, r1 = batch_statistics(partial, 1, c, c_mask, N * blocks, values,
                                  eps1, C, BB, BN)
    m2, v2, r2 = batch_statistics(partial, 2, c, c_mask, N * blocks, values,
                                  eps2, C, BB, BN)
    if tl.program_id(1) == 0:
        tl.store(statistics + c, m1, c_mask)
        tl.store(statistics + C + c, r1, c_mask)
        tl.store(statistics + 2 * C + c, m2, c_mask)
        tl.store(statistics + 3 * C + c, r2, c_mask)
        update_running(mean1, var1, tracked1, c, c_mask, m1, v1, values,
                       momentum1)
        update_running(mean2, var2, tracked2, c, c_mask, m2, v2, values,
                       momentum2)
    g1, b1 = load_norm(gamma1, beta1, c, c_mask)
    g2, b2 = load_norm(gamma2, beta2, c, c_mask)
    for n in range(tl.program_id(1), N, tl.num_programs(1)):
        of = partial + n * blocks * 5 * C
        q1 = (sum_of_blocks(of, 1, c, c_mask, blocks, C, 5, BB) / pixels
              - m1) * r1
        q2 = (sum_of_blocks(of, 2, c, c_mask, blocks, C, 5, BB) / pixels
              - m2) * r2
        share = tl.sigmoid(g1 * q1 + b1 - g2 * q2 - b2)
        rest = 1. - share
        to = coefficients + n * 6 * C + c
        tl.store(to, share * g1 * r1, c_mask)
        tl.store(to + C, rest * g2 * r2, c_mask)
        tl.store(to + 2 * C, share * b1 + rest * b2, c_mask)
        tl.store(to + 3 * C, share, c_mask)
        tl.store(to + 4 * C, q1, c_mask)
        tl.store(to + 5 * C, q2, c_mask)


@triton.jit(do_not_specialize=SIZES)
def norm_fuse_kernel(v1, pwc2, low, statistics, coefficients, y, C, REST,
                     pixels, sc, sp, rc, rs, lc, ls, BP: tl.constexpr,
                     BK: tl.constexpr):
    """Y."""
    n = tl.program_id(2)
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    c = tl.program_id(0) * BK + tl.arange(0, BK)
    c_mask = c < C
    of = coefficients + n * 6 * C + c
    factor1 = tl.load(of, c_mask, 0.)
    factor2 = tl.load(of + C, c_mask, 0.)
    shift = tl.load(of + 2 * C, c_mask, 0.)
    m1 = tl.load(statistics + c, c_mask, 0.)
    m2 = tl.load(statistics + 2 * C + c, c_mask, 0.)
    v1 += n * C * pixels
    y += n * C * pixels
    pwc2 += n * REST * pixels
    low += n * (C - REST) * pixels
    for start in range(block * BP, pixels, blocks * BP):
        p = start + tl.arange(0, BP)
        p_mask = p < pixels
        first = load_map(v1, p, p_mask, c, c_mask, sc, sp)
        second = load_second(pwc2, low, p, p_mask, c, c_mask, REST, rc, rs,
                             lc, ls)
        first = (first - m1[None, :]) * factor1[None, :]
        second = (second - m2[None, :]) * factor2[None, :]
        store_map(y, first + second + shift[None, :], p, p_mask, c, c_mask,
                  sc, sp)


@triton.jit(do_not_specialize=SIZES)
def norm_fuse_sums_kernel(dy, v1, pwc2, low, statistics, partial, C, REST,
                          pixels, sc, sp, rc, rs, lc, ls, BP: tl.constexpr,
                          BK: tl.constexpr):
    """Sums of dY, and of it times the normalised v_1 and v_2, for each block
    of pixels: (N, blocks, 3, C)."""
    n = tl.program_id(2)
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    c = tl.program_id(0) * BK + tl.arange(0, BK)
    c_mask = c < C
    m1 = tl.load(statistics + c, c_mask, 0.)
    r1 = tl.load(statistics + C + c, c_mask, 0.)
    m2 = tl.load(statistics + 2 * C + c, c_mask, 0.)
    r2 = tl.load(statistics + 3 * C + c, c_mask, 0.)
    dy += n * C * pixels
    v1 += n * C * pixels
    pwc2 += n * REST * pixels
    low += n * (C - REST) * pixels
    total = tl.zeros([BP, BK], tl.float32)
    product1 = tl.zeros([BP, BK], tl.float32)
    product2 = tl.zeros([BP, BK], tl.float32)
    for start in range(block * BP, pixels, blocks * BP):
        p = start + tl.arange(0, BP)
        p_mask = p < pixels
        d = load_map(dy, p, p_mask, c, c_mask, sc, sp)  # 0 outside
        first = load_map(v1, p, p_mask, c, c_mask, sc, sp)
        second = load_second(pwc2, low, p, p_mask, c, c_mask, REST, rc, rs,
                             lc, ls)
        total += d
        product1 += d * (first - m1[None, :])
        product2 += d * (second - m2[None, :])
    to = partial + (n * blocks + block) * 3 * C + c
    tl.store(to, tl.sum(total, 0), c_mask)
    tl.store(to + C, tl.sum(product1, 0) * r1, c_mask)
    tl.store(to + 2 * C, tl.sum(product2, 0) * r2, c_mask)


@triton.jit
def through_mean(share, total, product1, product2, g1, b1, g2, b2):
    """Gradient of the mean of z_1 in a sample, from the sums of dY; that of
    the mean of z_2 is its negative."""
    return share * (1. - share) * (
        g1 * product1 - g2 * product2 + (b1 - b2) * total)


@triton.jit(do_not_specialize=SIZES)
def norm_fuse_gradient_coefficients_kernel(
        partial, statistics, coefficients, gradient, gamma1, beta1, gamma2,
        beta2, d_gamma1, d_beta1, d_gamma2, d_beta2, C, N, pixels, blocks,
        BB: tl.constexpr, BN: tl.constexpr):
    """Gradients of the norms' parameters. For each sample dv_i = A_i dY + D_i
    + F_i (v_i - mean_i): (N, 6, C), A_1, D_1, F_1, A_2, D_2, F_2."""
    c = tl.program_id(0) * BN + tl.arange(0, BN)
    c_mask = c < C
    g1, b1 = load_norm(gamma1, beta1, c, c_mask)
    g2, b2 = load_norm(gamma2, beta2, c, c_mask)
    grad_g1 = tl.zeros([BN], tl.float32)
    grad_b1 = tl.zeros([BN], tl.float32)
    grad_g2 = tl.zeros([BN], tl.float32)
    grad_b2 = tl.zeros([BN], tl.float32)
    for first in range(0, N * blocks, BB):  # linear in the sums of a block
        row = first + tl.arange(0, BB)
        mask = (row < N * blocks)[:, None] & c_mask[None, :]
        at = partial + row[:, None] * 3 * C + c[None, :]
        total = tl.load(at, mask, 0.)
        product1 = tl.load(at + C, mask, 0.)
        product2 = tl.load(at + 2 * C, mask, 0.)
        at = coefficients + (row // blocks)[:, None] * 6 * C + c[None, :]
        share = tl.load(at + 3 * C, mask, 0.)
        q1 = tl.load(at + 4 * C, mask, 0.)
        q2 = tl.load(at + 5 * C, mask, 0.)
        mean = through_mean(share, total, product1, product2, g1[None, :],
                            b1[None, :], g2[None, :], b2[None, :])
        grad_b1 += tl.sum(share * total + mean, 0)
        grad_b2 += tl.sum((1. - share) * total - mean, 0)
        grad_g1 += tl.sum(share * product1 + mean * q1, 0)
        grad_g2 += tl.sum((1. - share) * product2 - mean * q2, 0)
    if tl.program_id(1) == 0:
        tl.store(d_gamma1 + c, grad_g1.to(d_gamma1.dtype.element_ty), c_mask)
        tl.store(d_beta1 + c, grad_b1.to(d_beta1.dtype.element_ty), c_mask)
        tl.store(d_gamma2 + c, grad_g2.to(d_gamma2.dtype.element_ty), c_mask)
        tl.store(d_beta2 + c, grad_b2.to(d_beta2.dtype.element_ty), c_mask)

    values = (N * pixels).to(tl.float32)
    r1 = tl.load(statistics + C + c, c_mask, 0.)
    r2 = tl.load(statistics + 3 * C + c, c_mask, 0.)
    # through the variance
    slope1 = -g1 * r1 * r1 * grad_g1 / values
    slope2 = -g2 * r2 * r2 * grad_g2 / values
    for n in range(tl.program_id(1), N, tl.num_programs(1)):
        of = partial + n * blocks * 3 * C
        share = tl.load(coefficients + (n * 6 + 3) * C + c, c_mask, 0.)
        mean = through_mean(
            share, sum_of_blocks(of, 0, c, c_mask, blocks, C, 3, BB),
            sum_of_blocks(of, 1, c, c_mask, blocks, C, 3, BB),
            sum_of_blocks(of, 2, c, c_mask, blocks, C, 3, BB), g1, b1, g2, b2)
        mean /= pixels
        to = gradient + n * 6 * C + c
        tl.store(to, g1 * r1 * share, c_mask)
        tl.store(to + C, g1 * r1 * (mean - grad_b1 / values), c_mask)
        tl.store(to + 2 * C, slope1, c_mask)
        tl.store(to + 3 * C, g2 * r2 * (1. - share), c_mask)
        tl.store(to + 4 * C, g2 * r2 * (-mean - grad_b2 / values),
                 c_mask)
        tl.store(to + 5 * C, slope2, c_mask)


@triton.jit(do_not_specialize=SIZES)
def norm_fuse_input_gradient_kernel(
        dy, v1, pwc2, low, statistics, gradient, d_v1, d_pwc2, d_low, C, REST,
        pixels, sc, sp, rc, rs, lc, ls, BP: tl.constexpr, BK: tl.constexpr):
    """Gradients of v_1, which are those of GWC and of PWC1, of PWC2 and
    low."""
    n = tl.program_id(2)
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    c = tl.program_id(0) * BK + tl.arange(0, BK)
    c_mask = c < C
    of = gradient + n * 6 * C + c
    a1 = tl.load(of, c_mask, 0.)
    constant1 = tl.load(of + C, c_mask, 0.)
    slope1 = tl.load(of + 2 * C, c_mask, 0.)
    a2 = tl.load(of + 3 * C, c_mask, 0.)
    constant2 = tl.load(of + 4 * C, c_mask, 0.)
    slope2 = tl.load(of + 5 * C, c_mask, 0.)
    m1 = tl.load(statistics + c, c_mask, 0.)
    m2 = tl.load(statistics + 2 * C + c, c_mask, 0.)
    dy += n * C * pixels
    v1 += n * C * pixels
    d_v1 += n * C * pixels
    pwc2 += n * REST * pixels
    d_pwc2 += n * REST * pixels
    low += n * (C - REST) * pixels
    d_low += n * (C - REST) * pixels
    for start in range(block * BP, pixels, blocks * BP):
        p = start + tl.arange(0, BP)
        p_mask = p < pixels
        d = load_map(dy, p, p_mask, c, c_mask, sc, sp)
        first = load_map(v1, p, p_mask, c, c_mask, sc, sp)
        second = load_second(pwc2, low, p, p_mask, c, c_mask, REST, rc, rs,
                             lc, ls)
        grad = d * a1[None, :] + (first - m1[None, :]) * slope1[None, :]
        store_map(d_v1, grad + constant1[None, :], p, p_mask, c, c_mask, sc,
                  sp)
        grad = d * a2[None, :] + (second - m2[None, :]) * slope2[None, :] + \
            constant2[None, :]
        store_map(d_pwc2, grad, p, p_mask, c, c_mask & (c < REST), rc, rs)
        store_map(d_low, grad, p, p_mask, c - REST, c_mask & (c >= REST), lc,
                  ls)
