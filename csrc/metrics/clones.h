// Marks a loop that is worth compiling twice: for x86-64-v3, our baseline, and for AVX-512, chosen when the
// library is loaded. Bits do not depend on it: contraction is off, and the order of every sum is written out.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#define POPNET_CLONES __attribute__((target_clones("arch=x86-64-v4", "default")))
#else
#define POPNET_CLONES
#endif
