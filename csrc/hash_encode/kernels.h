// Multiresolution hash encoding of a block of samples on a block of levels, and its gradients.
// See dietnerf/ops/hash_encode.py for shapes and units.
#pragma once

#include "layout.h"

namespace dietnerf {

// Calls `method<n_features>(...)`, so that the loop over the features of an entry is unrolled.
#define DIETNERF_HASH_SWITCH(n_features, method, ...) \
  switch (n_features) {                               \
    case 1:                                           \
      method<1>(__VA_ARGS__);                         \
      break;                                          \
    case 2:                                           \
      method<2>(__VA_ARGS__);                         \
      break;                                          \
    case 4:                                           \
      method<4>(__VA_ARGS__);                         \
      break;                                          \
    default:                                          \
      method<8>(__VA_ARGS__);                         \
  }

template <typename Entry>
struct HashEncode {
  using T = HashValue<Entry>;
  HashTable<Entry> in;
  HashBlocks blocks;
  T* features;  // (n_samples, n_levels * n_features)

  DIETNERF_HD void operator()(int64_t index) const {
    const HashBlock block(blocks, in, index);
    for (int64_t l = block.first_level; l < block.last_level; ++l) {
      const HashLevel level = in.level(l);
      const T scale = in.level_weights[l];
      const Entry* entries = in.table + level.offset * in.n_features;
      for (int64_t begin = block.begin; begin < block.end; begin += kHashTile) {
        T* out = features + in.row(begin, l);
        const int n = block.tile_size(begin);
        if (scale == 0) {
          for (int i = 0; i < n; ++i) {
            for (int64_t f = 0; f < in.n_features; ++f) out[in.row(i, 0) + f] = 0;
          }
          continue;
        }
        const HashTile<T> tile(in.positions + 3 * begin, n, level);
        DIETNERF_HASH_SWITCH(in.n_features, gather, tile, n, entries, scale, out)
      }
    }
  }

  // One point of the unit cube on one level, (n_features,).
  DIETNERF_HD void encode(const T* position, int64_t l, T* out) const {
    const HashLevel level = in.level(l);
    const HashTile<T> tile(position, 1, level);
    const Entry* entries = in.table + level.offset * in.n_features;
    DIETNERF_HASH_SWITCH(in.n_features, gather, tile, 1, entries, in.level_weights[l], out)
  }

  template <int kFeatures>
  DIETNERF_HD void gather(const HashTile<T>& tile, int n, const Entry* entries, T scale,
                          T* out) const {
    for (int i = 0; i < n; ++i) {
      tile.template fetch_ahead<kFeatures>(entries, i, n);
      T sum[kFeatures] = {};
      DIETNERF_UNROLL
      for (int corner = 0; corner < 8; ++corner) {
        const auto entry = HashFeatures<Entry, kFeatures>::of(
            entries + int64_t{tile.entries[corner][i]} * kFeatures);
        const T weight = tile.weights[corner][i];
        DIETNERF_UNROLL
        for (int f = 0; f < kFeatures; ++f) sum[f] += weight * entry.values[f];
      }
      for (int f = 0; f < kFeatures; ++f) out[in.row(i, 0) + f] = scale * sum[f];
    }
  }
};

// On the host a block has all samples of its levels, so that no other thread writes their entries.
template <typename Entry>
struct HashEncodeTableBackward {
  using T = HashValue<Entry>;
  HashTable<Entry> in;
  HashBlocks blocks;
  const T* grad_features;  // (n_samples, n_levels * n_features)
  T* grad_table;           // (n_entries, n_features), zeros

  DIETNERF_HD void operator()(int64_t index) const {
    const HashBlock block(blocks, in, index);
    for (int64_t l = block.first_level; l < block.last_level; ++l) {
      const HashLevel level = in.level(l);
      const T scale = in.level_weights[l];
      if (scale == 0) continue;
      T* grads = grad_table + level.offset * in.n_features;
      for (int64_t begin = block.begin; begin < block.end; begin += kHashTile) {
        const int n = block.tile_size(begin);
        const HashTile<T> tile(in.positions + 3 * begin, n, level);
        const T* grad = grad_features + in.row(begin, l);
        DIETNERF_HASH_SWITCH(in.n_features, scatter, tile, n, grad, scale, grads)
      }
    }
  }

#if defined(__CUDA_ARCH__)
  // From Hopper on, one instruction adds two or four floats.
  template <int kFeatures>
  static __device__ __forceinline__ void add_entry(T* sum, const T* scaled, T weight) {
#if __CUDA_ARCH__ >= 900
    if constexpr (std::is_same_v<T, float> && kFeatures % 4 == 0) {
      DIETNERF_UNROLL
      for (int f = 0; f < kFeatures; f += 4) {
        atomicAdd(reinterpret_cast<float4*>(sum + f),
                  make_float4(weight * scaled[f], weight * scaled[f + 1], weight * scaled[f + 2],
                              weight * scaled[f + 3]));
      }
      return;
    } else if constexpr (std::is_same_v<T, float> && kFeatures == 2) {
      atomicAdd(reinterpret_cast<float2*>(sum),
                make_float2(weight * scaled[0], weight * scaled[1]));
      return;
    }
#endif
    DIETNERF_UNROLL
    for (int f = 0; f < kFeatures; ++f) atomicAdd(sum + f, weight * scaled[f]);
  }
#endif

  template <int kFeatures>
  DIETNERF_HD void scatter(const HashTile<T>& tile, int n, const T* grad, T scale, T* grads) const {
    for (int i = 0; i < n; ++i) {
      tile.template fetch_ahead<kFeatures>(grads, i, n);
      T scaled[kFeatures];
      bool is_zero = true;
      for (int f = 0; f < kFeatures; ++f) {
        scaled[f] = scale * grad[in.row(i, 0) + f];
        is_zero = is_zero && scaled[f] == 0;
      }
#if defined(__CUDA_ARCH__)
      if (is_zero) continue;  // the sample was culled, or belongs to no ray
#endif
      DIETNERF_UNROLL
      for (int corner = 0; corner < 8; ++corner) {
        T* sum = grads + int64_t{tile.entries[corner][i]} * kFeatures;
        const T weight = tile.weights[corner][i];
#if defined(__CUDA_ARCH__)
        add_entry<kFeatures>(sum, scaled, weight);
#else
        T updated[kFeatures];  // read before anything is written, so that it becomes one vector
        for (int f = 0; f < kFeatures; ++f) updated[f] = sum[f] + weight * scaled[f];
        for (int f = 0; f < kFeatures; ++f) sum[f] = updated[f];
#endif
      }
    }
  }
};

// For each corner and sample of a tile: entry times gradient.
template <typename Entry, typename T>
DIETNERF_HD void hash_products(const HashTable<Entry>& in, const HashTile<T>& tile,
                               const HashLevel& level, const T* grad, int n,
                               T products[8][kHashTile]) {
  const Entry* entries = in.table + level.offset * in.n_features;
  for (int i = 0; i < n; ++i) {
    DIETNERF_UNROLL
    for (int corner = 0; corner < 8; ++corner) {
      const Entry* entry = entries + int64_t{tile.entries[corner][i]} * in.n_features;
      T product = 0;
      for (int64_t f = 0; f < in.n_features; ++f) {
        product += static_cast<T>(entry[f]) * grad[in.row(i, 0) + f];
      }
      products[corner][i] = product;
    }
  }
}

// A block has all levels of its samples.
template <typename Entry>
struct HashEncodePositionsBackward {
  using T = HashValue<Entry>;
  HashTable<Entry> in;
  HashBlocks blocks;
  const T* grad_features;  // (n_samples, n_levels * n_features)
  T* grad_positions;       // (n_samples, 3), zeros

  DIETNERF_HD void operator()(int64_t index) const {
    const HashBlock block(blocks, in, index);
    for (int64_t l = block.first_level; l < block.last_level; ++l) {
      const HashLevel level = in.level(l);
      const T scale = in.level_weights[l] * static_cast<T>(level.resolution);
      if (scale == 0) continue;
      for (int64_t begin = block.begin; begin < block.end; begin += kHashTile) {
        const int n = block.tile_size(begin);
        const HashTile<T> tile(in.positions + 3 * begin, n, level);
        T products[8][kHashTile];
        hash_products(in, tile, level, grad_features + in.row(begin, l), n, products);
        T* __restrict__ grad = grad_positions + 3 * begin;
        DIETNERF_SIMD
        for (int i = 0; i < n; ++i) {
          grad[3 * i] += scale * tile.slope(products, 0, i);
          grad[3 * i + 1] += scale * tile.slope(products, 1, i);
          grad[3 * i + 2] += scale * tile.slope(products, 2, i);
        }
      }
    }
  }
};

// On the host a block has all samples of its levels.
template <typename Entry>
struct HashEncodeWeightsBackward {
  using T = HashValue<Entry>;
  HashTable<Entry> in;
  HashBlocks blocks;
  const T* grad_features;  // (n_samples, n_levels * n_features)
  T* grad_level_weights;   // (n_levels,), zeros

  DIETNERF_HD void operator()(int64_t index) const {
    const HashBlock block(blocks, in, index);
    for (int64_t l = block.first_level; l < block.last_level; ++l) {
      const HashLevel level = in.level(l);
      double total = 0;  // a million float terms would lose digits
      for (int64_t begin = block.begin; begin < block.end; begin += kHashTile) {
        const int n = block.tile_size(begin);
        const HashTile<T> tile(in.positions + 3 * begin, n, level);
        T products[8][kHashTile];
        hash_products(in, tile, level, grad_features + in.row(begin, l), n, products);
        for (int i = 0; i < n; ++i) {
          T sum = 0;
          DIETNERF_UNROLL
          for (int c = 0; c < 8; ++c) sum += tile.weights[c][i] * products[c][i];
          total += sum;
        }
      }
      add_to(grad_level_weights + l, static_cast<T>(total));
    }
  }
};

}  // namespace dietnerf
