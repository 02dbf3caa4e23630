// exp(-tau) and 1 - exp(-tau) together. On the host in float by a polynomial, which the compiler
// vectorizes; calls of libm would keep the loop scalar.
#pragma once

#include <cmath>
#include <cstring>

#include "common.h"

namespace dietnerf {

// The fractions of light that an optical thickness transmits and absorbs.
template <typename T>
struct Decay {
  T transmitted, absorbed;
};

// `Float` is float, or several side by side; `Bits` an unsigned integer of its size.
template <typename Float, typename Bits>
DIETNERF_HD Decay<Float> decay_by_polynomial(Float tau) {
  // exp(x) = 2^n exp(r) with |r| <= ln(2) / 2, and exp(r) - 1 by a polynomial, 2.5e-8 of it off at
  // most. The bounds keep 2^n far from denormal numbers, also after products; NaN passes both.
  const Float low = Float{} - 80.0f, high = Float{} + 80.0f;
  Float x = -tau;
  x = x < low ? low : x;
  x = x > high ? high : x;
  const Float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the low mantissa bits hold n
  const Float n = shifted - 12582912.0f;
  const Float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Float p = Float{} + 0.00139338232f;
  p = p * r + 0.00836329535f;
  p = p * r + 0.041666463f;
  p = p * r + 0.166665763f;
  p = p * r + 0.5f;
  p = p * (r * r) + r;
  Bits bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits << 23) + 0x3F800000u;
  Float scale;
  std::memcpy(&scale, &bits, sizeof(scale));
  const Float scaled = scale * p;
  return {scaled + scale, (1.0f - scale) - scaled};
}

#if defined(__CUDA_ARCH__)
DIETNERF_HD Decay<float> decay(float tau) { return {expf(-tau), -expm1f(-tau)}; }
#else
DIETNERF_HD Decay<float> decay(float tau) { return decay_by_polynomial<float, uint32_t>(tau); }
#endif

DIETNERF_HD Decay<double> decay(double tau) { return {std::exp(-tau), -std::expm1(-tau)}; }

}  // namespace dietnerf
