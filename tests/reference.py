"""Oracles: what every native kernel computes, in plain, slow, obvious NumPy. Tests compare against these."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from scipy.special import log_softmax, logsumexp
from scipy.stats import pearsonr, spearmanr

SHUFFLE, AUGMENT, STOCHASTIC = 2, 3, 4


# ---- random numbers --------------------------------------------------------------------------------------------------


def philox4x32(counter, key):
    """Philox4x32-10 as the paper's pseudo-code has it, in Python integers."""
    c0, c1, c2, c3 = (int(word) for word in counter)
    k0, k1 = (int(word) for word in key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [c0, c1, c2, c3]


def words(seed, source, epoch, index, block=0):
    return philox4x32([index, epoch, block, source], [seed % 2**32, seed // 2**32])


def uniform_integer(word, n):
    return word * n // 2**32


def permutation(seed, epoch, size, source=SHUFFLE, block=0):
    """Indices sorted by (key, index)."""

    def key(index):
        pair = words(seed, source, epoch, index // 2, block)
        low, high = pair[2 * (index % 2)], pair[2 * (index % 2) + 1]
        return high * 2**32 + low

    return np.array(sorted(range(size), key=lambda index: (key(index), index)), dtype=np.int64)


# ---- floating point --------------------------------------------------------------------------------------------------


def fma(a, b, c):
    """float32 a * b + c rounded once, elementwise.

    The product of two float32 is exact in float64; its sum with c is not always, and rounding that to float32 would
    round twice. So the float64 sum is rounded to odd (Boldo and Melquiond): where it is inexact and its last bit is
    even, it moves to its neighbour towards the error. Rounding that to float32 gives the once-rounded result.
    """
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    c = np.asarray(c, np.float64)
    product, c = np.broadcast_arrays(product, c)
    total = product + c
    # Knuth's two-sum: total + error is exactly product + c.
    part = total - product
    error = (product - (total - part)) + (c - part)
    even = (np.atleast_1d(total).view(np.int64) & 1).reshape(total.shape) == 0
    towards = np.where(error > 0, np.inf, -np.inf)
    odd = np.where((error != 0) & even, np.nextafter(total, towards), total)
    return odd.astype(np.float32)


def bfloat16_bits(values):
    """The bit patterns, uint16, of float32 values rounded to nearest, ties to even."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


# ---- images ----------------------------------------------------------------------------------------------------------


def random_box(height, width, area, aspect, seed, epoch, index):
    """(y, x, height, width) of torchvision's random resized crop, attempt k drawn from block 2 + k."""
    for attempt in range(10):
        draws = words(seed, AUGMENT, epoch, index, 2 + attempt)
        target = height * width * (area[0] + draws[0] / 2**32 * (area[1] - area[0]))
        low, high = math.log(aspect[0]), math.log(aspect[1])
        ratio = math.exp(low + draws[1] / 2**32 * (high - low))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            return uniform_integer(draws[2], height - h + 1), uniform_integer(draws[3], width - w + 1), h, w
    h, w = height, width
    if width / height < aspect[0]:
        h = min(max(round(width / aspect[0]), 1), height)
    elif width / height > aspect[1]:
        w = min(max(round(height * aspect[1]), 1), width)
    return (height - h) // 2, (width - w) // 2, h, w


def shift(image, dy, dx):
    """out[y, x] = image[y + dy, x + dx], zero outside."""
    out = np.zeros_like(image)
    height, width = image.shape[:2]
    for y in range(height):
        for x in range(width):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                out[y, x] = image[y + dy, x + dx]
    return out


def normalise(pixels, mean, std):
    """float32 from uint8 [..., channels]."""
    mean, std = np.array(mean, np.float64), np.array(std, np.float64)
    scale, offset = (1.0 / (255.0 * std)).astype(np.float32), (-mean / std).astype(np.float32)
    return fma(pixels.astype(np.float32), scale, offset)


def augmented_image(image, index, *, seed, epoch, crop=0, flip=False, translate=0, cutout=0, fill=None):
    """One uint8 image [h, w, c], augmented, still uint8."""
    height, width, channels = image.shape
    crop_y, crop_x, flip_word, _ = words(seed, AUGMENT, epoch, index, 0)
    translate_y, translate_x, cutout_y, cutout_x = words(seed, AUGMENT, epoch, index, 1)

    padded = np.pad(image, ((crop, crop), (crop, crop), (0, 0)))
    y, x = uniform_integer(crop_y, 2 * crop + 1), uniform_integer(crop_x, 2 * crop + 1)
    image = padded[y : y + height, x : x + width].copy()
    if flip and uniform_integer(flip_word, 2) == 1:
        image = image[:, ::-1].copy()
    ty = uniform_integer(translate_y, 2 * translate + 1) - translate
    tx = uniform_integer(translate_x, 2 * translate + 1) - translate
    image = shift(image, -ty, -tx)
    if cutout:
        y, x = uniform_integer(cutout_y, height - cutout + 1), uniform_integer(cutout_x, width - cutout + 1)
        image[y : y + cutout, x : x + cutout] = [0] * channels if fill is None else fill
    return image


def augment(images, indices, *, mean, std, **options):
    """float32 [b, h, w, c]."""
    chosen = [augmented_image(images[index], int(index), **options) for index in indices]
    return normalise(np.array(chosen, np.uint8).reshape(len(indices), *images.shape[1:]), mean, std)


def view(images, indices, *, mean, std, dy=0, dx=0, flip=False):
    """float32 [b, h, w, c]."""
    moved = [shift(images[index], dy, dx) for index in indices]
    moved = np.array(moved, np.uint8).reshape(len(indices), *images.shape[1:])
    return normalise(moved[:, :, ::-1] if flip else moved, mean, std)


# ---- training --------------------------------------------------------------------------------------------------------


def sgd(parameters, gradients, momentum_buffer, rows, *, lr, momentum, nesterov):
    """New (parameters, momentum_buffer) after one step; rows are (offset, length, rate multiplier, weight decay)."""
    p, m = parameters.copy(), momentum_buffer.copy()
    momentum = np.float32(momentum)
    for offset, length, multiplier, weight_decay in rows:
        part = slice(offset, offset + length)
        decayed = fma(np.float32(weight_decay), p[part], gradients[part])
        m[part] = fma(momentum, m[part], decayed)
        step = fma(momentum, m[part], decayed) if nesterov else m[part]
        p[part] = fma(-np.float32(lr * multiplier), step, p[part])
    return p, m


def adam(parameters, gradients, first, second, rows, *, lr, beta1, beta2, eps, step):
    """New (parameters, first moment, second moment) after one step."""
    p, m, v = parameters.copy(), first.copy(), second.copy()
    root = np.float32(math.sqrt(1.0 - beta2**step))
    for offset, length, multiplier, weight_decay in rows:
        part = slice(offset, offset + length)
        decayed = fma(np.float32(weight_decay), p[part], gradients[part])
        m[part] = fma(np.float32(1.0 - beta1), decayed - m[part], m[part])
        v[part] = fma(np.float32(1.0 - beta2) * decayed, decayed, np.float32(beta2) * v[part])
        denominator = np.sqrt(v[part]) / root + np.float32(eps)
        rate = np.float32(lr * multiplier / (1.0 - beta1**step))
        p[part] = fma(-rate, m[part] / denominator, p[part])
    return p, m, v


def dropout_mask(example_ids, elements, *, p, seed, step, layer):
    """float32 [examples, elements]."""
    mask = np.zeros((len(example_ids), elements), np.float32)
    for row, example in enumerate(example_ids):
        for e in range(elements):
            counter = [e // 4, int(example), step, layer * 256 + STOCHASTIC]
            word = philox4x32(counter, [seed % 2**32, seed // 2**32])[e % 4]
            if word >= math.floor(p * 2**32):
                mask[row, e] = 1.0 / (1.0 - p)
    return mask


def fo_pool(gates, initial, mask=None):
    """Output and states, float64 [length, batch, hidden], from gates [length, batch, 3 hidden]."""
    length, batch, width = gates.shape
    output, states = np.zeros((2, length, batch, width // 3))
    for b in range(batch):
        for j in range(width // 3):
            h = initial[b, j]
            for t in range(length):
                z, f, o = gates[t, b].reshape(3, -1)[:, j].astype(np.float64)
                forget = 1 / (1 + math.exp(-f))
                h = forget * math.tanh(z) + (1 - forget) * h
                states[t, b, j] = h
                output[t, b, j] = h / (1 + math.exp(-o)) * (1 if mask is None else mask[b, j])
    return output, states


def _halved(sums):
    """sums[0] after adding the second half to the first until one is left."""
    while len(sums) > 1:
        half = len(sums) // 2
        sums = [sums[i] + sums[i + half] for i in range(half)]
    return sums[0]


def sum_rows(rows, channels, add):
    """float64 [channels]: float32 sums of a chunk's lanes, merged in float64, then the chunks (batch_norm_element.h).

    `add(sum, row)` adds a row, by its number, to a lane's float32 [channels].
    """
    lanes = 1024 // 2 ** math.ceil(math.log2(min(channels, 64)))
    chunk = lanes * max(16, math.ceil(rows / (1024 * lanes)))
    series = [np.zeros(channels) for _ in range(32)]
    for number, begin in enumerate(range(0, rows, chunk)):
        sums = [np.zeros(channels, np.float32) for _ in range(lanes)]
        for row in range(begin, min(begin + chunk, rows)):
            lane = (row - begin) % lanes
            sums[lane] = add(sums[lane], row)
        series[number % 32] = series[number % 32] + _halved([s.astype(np.float64) for s in sums])
    return _halved(series)


def batch_norm(x, weight, bias, residual, *, eps, relu):
    """x: float32 [rows, channels]; returns y, mean, variance (float64), inverse_sd."""
    rows, channels = x.shape
    d = x - x[0]
    offset = sum_rows(rows, channels, lambda total, row: total + d[row]) / rows
    squares = sum_rows(rows, channels, lambda total, row: fma(d[row], d[row], total))
    variance = np.maximum(squares / rows - offset * offset, 0.0)
    mean = (x[0] + offset).astype(np.float32)
    inverse_sd = (1.0 / np.sqrt(variance + eps)).astype(np.float32)
    y = fma(x - mean, weight * inverse_sd, bias)
    y = y if residual is None else y + residual
    return np.maximum(y, np.float32(0)) if relu else y, mean, variance, inverse_sd


def batch_norm_gradient(gradient, x, passed, weight, mean, inverse_sd):
    """passed: bool [rows, channels], where the gradient passes the ReLU. Of x, weight and bias."""
    rows, channels = x.shape
    g, centred = np.where(passed, gradient, np.float32(0)), x - mean
    total = sum_rows(rows, channels, lambda sums, row: sums + g[row])
    products = sum_rows(rows, channels, lambda sums, row: fma(g[row], centred[row], sums))
    inverse = inverse_sd.astype(np.float64)
    offset = (total / rows).astype(np.float32)
    slope = (products / rows * (inverse * inverse)).astype(np.float32)
    of_x = (weight * inverse_sd) * fma(-centred, slope, g - offset)
    return of_x, (products * inverse).astype(np.float32), total.astype(np.float32)


def cross_entropy_gradient(logits, labels):
    """The mean loss and its gradient, in float64."""
    logarithms = log_softmax(logits.astype(np.float64), axis=1)
    one_hot = np.eye(logits.shape[1])[labels]
    return -(logarithms * one_hot).sum(axis=1).mean(), (np.exp(logarithms) - one_hot) / len(labels)


# ---- metrics ---------------------------------------------------------------------------------------------------------


def accuracy(z, y):
    return np.array([100.0 * (member.argmax(axis=1) == y).sum() / y.size for member in z])


def cross_entropy(z, y):
    return np.array([-log_softmax(m.astype(np.float64), axis=1)[np.arange(y.size), y].mean() for m in z])


def disagreement_of_pair(a, b):
    return 100.0 * (a.argmax(axis=1) != b.argmax(axis=1)).mean()


def spearman_of_pair(a, b):
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


def pearson_of_pair(a, b):
    return float(pearsonr(a.ravel().astype(np.float64), b.ravel().astype(np.float64)).statistic)


def exact_argmax(rows):
    """The lowest class of the largest exact sum of the rows, each float32 [classes]."""
    sums = [sum((Fraction(float(row[c])) for row in rows), Fraction(0)) for c in range(rows[0].size)]
    return sums.index(max(sums))


def ensemble_delta_of_pair(a, b, y):
    pair = sum(exact_argmax([a[e], b[e]]) == y[e] for e in range(y.size))
    single = [int((member.argmax(axis=1) == y).sum()) for member in (a, b)]
    return 100.0 * (pair - sum(single) / 2) / y.size


def ensemble_cross_entropy_delta_of_pair(a, b, y):
    mean = (a.astype(np.float64) + b.astype(np.float64)) / 2
    return float(cross_entropy(mean[None], y)[0] - cross_entropy(np.stack([a, b]), y).mean())


def perplexity(log_probabilities):
    return np.exp(-log_probabilities.astype(np.float64).mean(axis=1))


def ensemble_perplexity_delta_of_pair(a, b):
    mean = np.logaddexp(a.astype(np.float64), b.astype(np.float64)) - math.log(2)
    return float(perplexity(mean[None])[0] - perplexity(np.stack([a, b])).mean())


def mean_log_probabilities(views, normalised):
    """float64 [rows, columns] of [views, rows, columns]."""
    own = views.astype(np.float64) if normalised else log_softmax(views.astype(np.float64), axis=2)
    return logsumexp(own, axis=0) - math.log(len(views))


def over_pairs(z, of_pair):
    values = [of_pair(a, b) for a, b in pairs(z)]
    return math.fsum(values) / len(values)


def pairs(z):
    for i in range(len(z)):
        for j in range(i + 1, len(z)):
            yield z[i], z[j]


def bootstrap_deviation(values, resample, seed):
    """The standard deviation of `values` over the members that one resample draws."""
    members, bootstrap = len(values), 7
    draws = []
    for block in range((members + 3) // 4):
        draws += words(seed, bootstrap, 0, resample, block)
    picked = np.array([float(values[uniform_integer(draw, members)]) for draw in draws[:members]])
    return float((picked - picked[0]).std())


def linear_cka(a, b):
    """Through the Gram matrices, centred with the centring matrix (Kornblith et al., 2019)."""
    n = len(a)
    x, y = a.reshape(n, -1).astype(np.float64), b.reshape(n, -1).astype(np.float64)
    centring = np.eye(n) - 1.0 / n
    k, m = centring @ x @ x.T @ centring, centring @ y @ y.T @ centring
    return float(np.trace(k @ m) / math.sqrt(np.trace(k @ k) * np.trace(m @ m)))


def unbiased_cka(a, b):
    """With the U-centred Gram matrices of Szekely & Rizzo (2014), whose inner product is N (N - 3) times HSIC_1."""

    def centred(features):
        n = len(features)
        flat = features.reshape(n, -1).astype(np.float64)
        gram = flat @ flat.T
        np.fill_diagonal(gram, 0.0)
        rows = gram.sum(axis=1)
        gram = gram - (rows[:, None] + rows[None, :]) / (n - 2) + gram.sum() / ((n - 1) * (n - 2))
        np.fill_diagonal(gram, 0.0)
        return gram

    k, m = centred(a), centred(b)
    return float((k * m).sum() / math.sqrt((k * k).sum() * (m * m).sum()))


def unbiased_hsic(a, b):
    """HSIC_1 (Song et al., 2012, Equation 5) of linear kernels."""
    n = len(a)
    x, y = a.reshape(n, -1), b.reshape(n, -1)
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0.0)
    np.fill_diagonal(m, 0.0)
    ones = np.ones(n)
    total = np.trace(k @ m) + (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
    return float((total - 2 / (n - 2) * ones @ k @ m @ ones) / (n * (n - 3)))
