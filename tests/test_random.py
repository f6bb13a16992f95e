"""Counter-based random numbers: known answers, the epoch permutation, isolation of the sources."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from popnet import _native, native, random
from popnet.random import Source

needs_gpu = pytest.mark.skipif(
    not (native.cuda_compiled and torch.cuda.is_available()),
    reason="needs a CUDA device and a build with nvcc",
)
word = st.integers(0, 2**32 - 1)
seed64 = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers(counter, key, expected):
    got = random.philox4x32(np.array(counter, np.uint32), np.array(key, np.uint32))
    assert got.dtype == np.uint32
    assert got.tolist() == expected
    assert reference.philox4x32(counter, key) == expected


@given(st.lists(word, min_size=4, max_size=4), st.lists(word, min_size=2, max_size=2))
def test_philox_equals_reference(counter, key):
    assert random.philox4x32(counter, key).tolist() == reference.philox4x32(counter, key)


@given(seed64, st.sampled_from(Source), word, word, word)
def test_words_follow_the_convention(seed, source, epoch, index, block):
    assert random.words(seed, source, epoch, index, block).tolist() == reference.words(
        seed, source, epoch, index, block
    )


def test_sources_mirror_the_native_ones():
    assert {source.name: int(source) for source in Source} == _native.sources


@given(word, st.integers(1, 2**32 - 1))
def test_uniform_integer(word, n):
    got = random.uniform_integer(word, n)
    assert got == reference.uniform_integer(word, n)
    assert 0 <= got < n


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 200), seed64, word, st.sampled_from(Source), word)
def test_permutation_equals_reference(size, seed, epoch, source, block):
    got = random.permutation(seed, epoch, size, source=source, block=block)
    assert got.dtype == np.int64
    assert np.array_equal(got, reference.permutation(seed, epoch, size, source, block))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 2047, 2048, 50_001])
def test_permutation_does_not_depend_on_threads(size):
    one = random.permutation(7, 3, size)
    assert np.array_equal(np.sort(one), np.arange(size))
    for threads in (2, 3, 16):
        assert np.array_equal(one, random.permutation(7, 3, size, threads=threads))


def test_permutation_of_many_resolves_near_ties():
    """Against NumPy's sort; with 600,000 keys about twenty pairs agree in the upper 33 bits, the radix sort's."""
    size, seed, epoch = 600_000, 2**40 + 3, 5
    c = [np.arange(size // 2, dtype=np.uint64), *(np.full(size // 2, x, np.uint64) for x in (epoch, 0, Source.SHUFFLE))]
    k0, k1, mask = seed % 2**32, seed // 2**32, np.uint64(2**32 - 1)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [p1 >> 32 ^ c[1] ^ np.uint64(k0), p1 & mask, p0 >> 32 ^ c[3] ^ np.uint64(k1), p0 & mask]
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    keys = np.stack([c[1] << 32 | c[0], c[3] << 32 | c[2]], axis=1).reshape(-1)
    assert len(np.unique(keys >> np.uint64(31))) < size
    assert np.array_equal(random.permutation(seed, epoch, size), np.argsort(keys, kind="stable"))


def test_permutation_is_pinned():
    """Published orders must never change."""
    assert random.permutation(1, 0, 10).tolist() == [3, 4, 7, 2, 9, 0, 1, 6, 8, 5]


def test_any_epoch_is_entered_directly():
    straight = [random.permutation(5, epoch, 1000) for epoch in range(4)]
    assert np.array_equal(random.permutation(5, 3, 1000), straight[3])
    for a in range(4):
        for b in range(a):
            assert not np.array_equal(straight[a], straight[b])


def test_permutation_differs_by_seed_source_and_block():
    base = random.permutation(1, 0, 1000)
    for other in (
        random.permutation(2, 0, 1000),
        random.permutation(1 + 2**32, 0, 1000),
        random.permutation(1, 0, 1000, source=Source.KERNELS),
        random.permutation(1, 0, 1000, block=1),
    ):
        assert not np.array_equal(base, other)


def test_permutations_are_uniform_over_all_orders():
    """Every order of 4 in 24,000 seeds: chi-square with 23 degrees of freedom stays below its 0.9999 quantile, 57."""
    orders = [tuple(random.permutation(seed, 0, 4)) for seed in range(24_000)]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert ((counts - 1000.0) ** 2 / 1000.0).sum() < 57


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: random.permutation(-1, 0, 3), ValueError, r"seed is -1, but must be in 0 \.\. 2\*\*64 - 1"),
        (lambda: random.permutation(2**64, 0, 3), ValueError, "seed is 18446744073709551616, but must be"),
        (lambda: random.permutation(1.5, 0, 3), TypeError, "seed must be an integer, not float"),
        (lambda: random.permutation(1, -1, 3), ValueError, "epoch is -1, but must be in"),
        (lambda: random.permutation(1, 2**32, 3), ValueError, r"epoch is 4294967296, .* 2\*\*32 - 1"),
        (lambda: random.permutation(1, 0, -3), ValueError, "size is -3, but must be in"),
        (lambda: random.permutation(1, 0, 3, threads=0), ValueError, "threads is 0, but must be in 1"),
        (lambda: random.words(1, Source.INIT, 0, -2), ValueError, "index is -2, but must be in"),
        (
            lambda: random.philox4x32([0] * 3, [0] * 2),
            ValueError,
            r"counter must have shape \[4\], not \[3\]",
        ),
        (lambda: random.philox4x32([0] * 4, [0, 2**32]), ValueError, r"key\[1\] is 4294967296"),
        (
            lambda: random.philox4x32([0.5] * 4, [0, 0]),
            TypeError,
            r"counter\[0\] must be an integer, not float",
        ),
        (lambda: random.uniform_integer(1, 0), ValueError, "n is 0, but must be at least 1"),
        (
            lambda: native.permutation(3, seed=1, epoch=0, source=2, device="meta"),
            ValueError,
            "device must be",
        ),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_numpy_integers_are_integers():
    got = random.permutation(np.uint64(2**63), np.int32(3), np.int64(20))
    assert np.array_equal(got, random.permutation(2**63, 3, 20))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("size", [0, 1, 2, 777, 50_000, 1_281_167])
def test_permutation_on_cuda_is_the_same(size):
    got = native.permutation(size, seed=3, epoch=9, source=Source.SHUFFLE, device="cuda")
    assert np.array_equal(got.cpu().numpy(), random.permutation(3, 9, size))
