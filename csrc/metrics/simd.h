// Eight doubles and sixteen floats, for one instruction set: included once for each, inside that set's
// namespace, with POPNET_SIMD 512 (AVX-512), 256 (AVX2 and FMA) or 0 (plain C++). All three give the same
// bits.

#if POPNET_SIMD == 512
struct Doubles {
    __m512d v;
    static Doubles load(const double* p) { return {_mm512_loadu_pd(p)}; }
    void store(double* p) const { _mm512_storeu_pd(p, v); }
    static Doubles times(Doubles a, Doubles b) { return {_mm512_mul_pd(a.v, b.v)}; }
    static Doubles times(Doubles a, double b) { return {_mm512_mul_pd(a.v, _mm512_set1_pd(b))}; }
    static Doubles fma(Doubles a, double b, Doubles c) {
        return {_mm512_fmadd_pd(a.v, _mm512_set1_pd(b), c.v)};
    }
};
struct Floats {
    __m512 v;
    static Floats sum(const float* p, float b) {
        return {_mm512_add_ps(_mm512_loadu_ps(p), _mm512_set1_ps(b))};
    }
    static Floats max(Floats a, Floats b) { return {_mm512_mask_max_ps(a.v, 0xffff, a.v, b.v)}; }
    static uint32_t greater(Floats a, Floats b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ); }
    static uint32_t equal(Floats a, Floats b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ); }
};
#elif POPNET_SIMD == 256
struct Doubles {
    __m256d low, high;
    static Doubles load(const double* p) { return {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }
    void store(double* p) const {
        _mm256_storeu_pd(p, low);
        _mm256_storeu_pd(p + 4, high);
    }
    static Doubles times(Doubles a, Doubles b) {
        return {_mm256_mul_pd(a.low, b.low), _mm256_mul_pd(a.high, b.high)};
    }
    static Doubles times(Doubles a, double b) {
        __m256d factor = _mm256_set1_pd(b);
        return {_mm256_mul_pd(a.low, factor), _mm256_mul_pd(a.high, factor)};
    }
    static Doubles fma(Doubles a, double b, Doubles c) {
        __m256d factor = _mm256_set1_pd(b);
        return {_mm256_fmadd_pd(a.low, factor, c.low), _mm256_fmadd_pd(a.high, factor, c.high)};
    }
};
struct Floats {
    __m256 low, high;
    static Floats sum(const float* p, float b) {
        __m256 term = _mm256_set1_ps(b);
        return {_mm256_add_ps(_mm256_loadu_ps(p), term), _mm256_add_ps(_mm256_loadu_ps(p + 8), term)};
    }
    static Floats max(Floats a, Floats b) {
        return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
    }
    static uint32_t bits(__m256 low, __m256 high) {
        return static_cast<uint32_t>(_mm256_movemask_ps(low)) |
               static_cast<uint32_t>(_mm256_movemask_ps(high)) << 8;
    }
    static uint32_t greater(Floats a, Floats b) {
        return bits(_mm256_cmp_ps(a.low, b.low, _CMP_GT_OQ), _mm256_cmp_ps(a.high, b.high, _CMP_GT_OQ));
    }
    static uint32_t equal(Floats a, Floats b) {
        return bits(_mm256_cmp_ps(a.low, b.low, _CMP_EQ_OQ), _mm256_cmp_ps(a.high, b.high, _CMP_EQ_OQ));
    }
};
#else
struct Doubles {
    double v[8];
    static Doubles load(const double* p) {
        Doubles r;
        for (int i = 0; i < 8; ++i) r.v[i] = p[i];
        return r;
    }
    void store(double* p) const {
        for (int i = 0; i < 8; ++i) p[i] = v[i];
    }
    static Doubles times(Doubles a, Doubles b) {
        for (int i = 0; i < 8; ++i) a.v[i] *= b.v[i];
        return a;
    }
    static Doubles times(Doubles a, double b) {
        for (int i = 0; i < 8; ++i) a.v[i] *= b;
        return a;
    }
    static Doubles fma(Doubles a, double b, Doubles c) {
        for (int i = 0; i < 8; ++i) c.v[i] = fused_multiply_add(a.v[i], b, c.v[i]);
        return c;
    }
};
struct Floats {
    float v[16];
    static Floats sum(const float* p, float b) {
        Floats r;
        for (int i = 0; i < 16; ++i) r.v[i] = p[i] + b;
        return r;
    }
    static Floats max(Floats a, Floats b) {
        for (int i = 0; i < 16; ++i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
        return a;
    }
    static uint32_t greater(Floats a, Floats b) {
        uint32_t bits = 0;
        for (int i = 0; i < 16; ++i) bits |= static_cast<uint32_t>(a.v[i] > b.v[i]) << i;
        return bits;
    }
    static uint32_t equal(Floats a, Floats b) {
        uint32_t bits = 0;
        for (int i = 0; i < 16; ++i) bits |= static_cast<uint32_t>(a.v[i] == b.v[i]) << i;
        return bits;
    }
};
#endif
