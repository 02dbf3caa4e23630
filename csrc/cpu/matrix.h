// Products of small matrices that stay in the cache: what a tiny network is made of.
#pragma once

#include <cstdint>

#include "../common.h"

namespace dietnerf {

// Matrices have rows padded to a multiple of this, so that every product works in whole vectors.
constexpr int64_t kLanes = 16;

constexpr int64_t padded(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// c[m][n] = sum_k a(m, k) b[k][n], or with `adds` added to what is there, where a(m, k) = a[m *
// a_row + k * a_column]: the same kernel multiplies by a and by its transpose.
struct Product {
  const float* a;
  int64_t a_row, a_column;
  const float* b;  // (depth, n_columns), rows `b_row` apart
  int64_t b_row;
  float* c;  // (n_rows, n_columns), rows `c_row` apart
  int64_t c_row;
  int64_t n_rows, n_columns, depth;
  bool adds;
};

#if defined(__GNUC__)
#define DIETNERF_INLINE inline __attribute__((always_inline))
#else
#define DIETNERF_INLINE inline
#endif

// kRows x 16 sums in registers: as many as the processor generation has room for.
template <int kRows, int kVectorBytes>
DIETNERF_INLINE void multiply_tile(const Product& p, int64_t row, int64_t column) {
  typedef float Vector __attribute__((vector_size(kVectorBytes)));
  typedef float Unaligned __attribute__((vector_size(kVectorBytes), aligned(4)));
  constexpr int kVectors = kLanes * sizeof(float) / kVectorBytes;
  constexpr int kWidth = kVectorBytes / sizeof(float);
  const float* a = p.a + row * p.a_row;
  const float* b = p.b + column;
  float* c = p.c + row * p.c_row + column;
  Vector sums[kRows][kVectors] = {};
  if (p.adds) {
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sums[m][v] = *reinterpret_cast<const Unaligned*>(c + m * p.c_row + v * kWidth);
      }
    }
  }
  for (int64_t k = 0; k < p.depth; ++k) {
    Vector row_of_b[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      row_of_b[v] = *reinterpret_cast<const Unaligned*>(b + k * p.b_row + v * kWidth);
    }
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
      const float factor = a[m * p.a_row + k * p.a_column];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[m][v] += factor * row_of_b[v];
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      *reinterpret_cast<Unaligned*>(c + m * p.c_row + v * kWidth) = sums[m][v];
    }
  }
}

template <int kRows, int kVectorBytes>
DIETNERF_INLINE void multiply(const Product& p) {
  for (int64_t column = 0; column < p.n_columns; column += kLanes) {
    int64_t row = 0;
    for (; row + kRows <= p.n_rows; row += kRows) {
      multiply_tile<kRows, kVectorBytes>(p, row, column);
    }
    if (kRows > 4) {
      for (; row + 4 <= p.n_rows; row += 4) multiply_tile<4, kVectorBytes>(p, row, column);
    }
    for (; row < p.n_rows; ++row) multiply_tile<1, kVectorBytes>(p, row, column);
  }
}

using Multiply = void (*)(const Product&);

static void multiply_baseline(const Product& p) { multiply<2, 16>(p); }

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx2,fma"))) static void multiply_avx2(const Product& p) {
  multiply<6, 32>(p);
}

__attribute__((target("avx512f,avx2,fma"))) static void multiply_avx512(const Product& p) {
  multiply<12, 64>(p);
}
#endif

// The version for the processor that this runs on.
inline Multiply choose_multiply() {
#if defined(__x86_64__) && defined(__GNUC__)
  if (__builtin_cpu_supports("avx512f")) return multiply_avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return multiply_avx2;
#endif
  return multiply_baseline;
}

}  // namespace dietnerf
