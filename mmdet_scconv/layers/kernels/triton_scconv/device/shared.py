"""What several kernels share."""
import os

import triton
import triton.language as tl

# Triton's interpreter multiplies bfloat16 matrices wrongly (3.9), as integers
INTERPRETED = tl.constexpr(os.environ.get('TRITON_INTERPRET') == '1')

# Arguments that differ from batch to batch: a kernel is compiled once for all
# their values
SIZES = ('H', 'W', 'HO', 'WO', 'N', 'pixels', 'outputs', 'blocks',
         'moment_blocks', 'splits')


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
def load_map(of, p, pixel_mask, c, c_mask, sc, sp):
    """The channels c of a map of one sample, in float32: (pixels,
    channels)."""
    return tl.load(of + p[:, None] * sp + c[None, :] * sc,
                   pixel_mask[:, None] & c_mask[None, :], 0.).to(tl.float32)


@triton.jit
def load_halves(x, p, pixel_mask, c1, half_mask, HALF, sc, sp):
    """:func:`load_map` of the channels c1 of both halves."""
    return (load_map(x, p, pixel_mask, c1, half_mask, sc, sp),
            load_map(x, p, pixel_mask, c1 + HALF, half_mask, sc, sp))


@triton.jit
def store_map(to, values, p, pixel_mask, c, c_mask, sc, sp):
    """The channels c of a map of one sample: (pixels, channels)."""
    tl.store(to + p[:, None] * sp + c[None, :] * sc,
             values.to(to.dtype.element_ty),
             pixel_mask[:, None] & c_mask[None, :])


@triton.jit
def load_affine(affine, c, mask, C):
    """The gate's logits are a x + b; of the channels c of one sample."""
    return (tl.load(affine + c, mask, 0.), tl.load(affine + C + c, mask, 0.))


@triton.jit
def load_affines(affine, c1, half_mask, HALF, C):
    """:func:`load_affine` of the channels c1 of both halves."""
    a1, b1 = load_affine(affine, c1, half_mask, C)
    a2, b2 = load_affine(affine, c1 + HALF, half_mask, C)
    return a1, b1, a2, b2


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
def is_inside(mask, y, x, H, W):
    """``mask``, where y, x is in the map."""
    return mask & (y >= 0) & (y < H) & (x >= 0) & (x < W)


@triton.jit
def is_output(mask, y, x, HO, WO, SH: tl.constexpr, SW: tl.constexpr):
    """``mask``, where the stride reaches y, x and the output has a pixel."""
    return mask & (y >= 0) & (x >= 0) & (y % SH == 0) & (x % SW == 0) & \
        (y // SH < HO) & (x // SW < WO)


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
    seen = is_output(r < KH * KW, ny, nx, HO, WO, SH, SW)
    share = pool_share(p, pixel_mask, H, W, SH, SW)[None, :]
    rows = tl.where(seen, 1., tl.where(r == KH * KW, share, 0.))
    return tl.where(pixel_mask[None, :], rows, 0.)


@triton.jit
def sum_of_blocks(sums, row, column, mask, blocks, WIDTH, ROWS: tl.constexpr,
                  BB: tl.constexpr):
    """A row of sums, (blocks, ROWS, WIDTH), added over the blocks."""
    total = tl.zeros([column.shape[0]], tl.float32)
    for first in range(0, blocks, BB):
        b = first + tl.arange(0, BB)
        at = sums + (b[:, None] * ROWS + row) * WIDTH + column[None, :]
        total += tl.sum(
            tl.load(at, (b < blocks)[:, None] & mask[None, :], 0.), 0)
    return total
