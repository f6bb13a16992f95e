// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC 2011) and
// popnet's convention for its counters. Every draw of popnet is a function of what it is for, never of what
// was drawn before.
#pragma once

#include <cstdint>

#include "common/device.h"

namespace popnet {

// What a stream of numbers is for. Mirrored by popnet.random.Source; numbers never change, or published bits
// would.
enum Source : uint32_t {
    INIT = 1,
    SHUFFLE = 2,
    AUGMENT = 3,
    STOCHASTIC = 4,
    KERNELS = 5,
    BIT = 6,
    BOOTSTRAP = 7,
    GROUPS = 8,
    SUBSET = 9,
};

struct Words {
    uint32_t word[4];
};

POPNET_HOST_DEVICE Words philox4x32(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0,
                                    uint32_t k1) {
    for (int round = 0; round < 10; ++round) {
        uint64_t product0 = static_cast<uint64_t>(0xD2511F53u) * c0;
        uint64_t product1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
        c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ k0;
        c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ k1;
        c1 = static_cast<uint32_t>(product1);
        c3 = static_cast<uint32_t>(product0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return Words{{c0, c1, c2, c3}};
}

// popnet's convention: key = (low, high half of the seed), counter = (index, epoch, block, source). `index`
// is the example, parameter, ... that the words are for; `block` numbers the draws of one such index, four
// words at a time.
POPNET_HOST_DEVICE Words stream_words(uint64_t seed, uint32_t source, uint32_t epoch, uint32_t index,
                                      uint32_t block) {
    return philox4x32(index, epoch, block, source, static_cast<uint32_t>(seed),
                      static_cast<uint32_t>(seed >> 32));
}

// Uniform in 0 .. n-1. The bias is below n / 2^32.
POPNET_HOST_DEVICE uint32_t uniform_integer(uint32_t word, uint32_t n) {
    return static_cast<uint32_t>((static_cast<uint64_t>(word) * n) >> 32);
}

}  // namespace popnet
