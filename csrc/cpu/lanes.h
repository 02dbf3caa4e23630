// Several numbers side by side in a vector register: what a kernel computes of one pixel it
// computes of a group. Comparisons give masks, of which ?: chooses lane by lane.
#pragma once

#include "../math.h"

// How vectors are passed between functions depends on the processor, but all of these are inlined.
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

namespace dietnerf {

constexpr int kGroup = 8;

typedef float FloatLanes __attribute__((vector_size(kGroup * sizeof(float))));
typedef double DoubleLanes __attribute__((vector_size(kGroup * sizeof(double))));
typedef uint32_t BitLanes __attribute__((vector_size(kGroup * sizeof(float))));

template <typename T>
struct LanesOf;
template <>
struct LanesOf<float> {
  using Type = FloatLanes;
};
template <>
struct LanesOf<double> {
  using Type = DoubleLanes;
};
template <typename T>
using Lanes = typename LanesOf<T>::Type;

DIETNERF_HD Decay<FloatLanes> decay(FloatLanes tau) {
  return decay_by_polynomial<FloatLanes, BitLanes>(tau);
}

DIETNERF_HD Decay<DoubleLanes> decay(DoubleLanes tau) {
  Decay<DoubleLanes> found{};
  for (int i = 0; i < kGroup; ++i) {
    found.transmitted[i] = std::exp(-tau[i]);
    found.absorbed[i] = -std::expm1(-tau[i]);
  }
  return found;
}

// In a fixed order.
template <typename V>
DIETNERF_HD auto sum_lanes(const V& v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

template <typename V>
DIETNERF_HD auto max_lanes(const V& v) {
  auto largest = v[0];
  for (int i = 1; i < kGroup; ++i) largest = v[i] > largest ? v[i] : largest;
  return largest;
}

}  // namespace dietnerf
