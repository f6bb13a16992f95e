// One element of fo-pooling (fo_pool.h), for both sides.
#pragma once

#include "common/activations.h"
#include "common/numbers.h"
#include "common/portable_math.h"

namespace popnet {

// h_t and the output before the mask.
template <typename T>
POPNET_HOST_DEVICE void pool_element(T z, T f, T o, T before, T& cell, T& output) {
    cell = fused_multiply_add(portable_sigmoid(f), portable_tanh(z) - before, before);
    output = portable_sigmoid(o) * cell;
}

// Replaces the gates (z, f, o) by their gradients; `carried` comes as h_t's gradient from later steps and
// leaves as that of h_{t-1}.
template <typename T>
POPNET_HOST_DEVICE void pool_gradient(T& z, T& f, T& o, T before, T cell, T output_gradient, T& carried) {
    T value = portable_tanh(z), forget = portable_sigmoid(f), out = portable_sigmoid(o);
    T d = fused_multiply_add(output_gradient, out, carried);
    T keep = T(1) - forget;
    carried = d * keep;
    z = d * forget * (T(1) - value * value);
    f = d * (value - before) * forget * keep;
    o = output_gradient * cell * out * (T(1) - out);
}

}  // namespace popnet
