// Layout of a hash table, blocks of work, and the entries that a tile of samples touches.
#pragma once

#include <type_traits>

#include "../common.h"
#include "../hash_grid.h"

namespace dietnerf {

// Samples are processed in tiles, so that on the host the arithmetic of a tile becomes vector
// instructions. A GPU thread processes them one by one.
#if defined(__CUDA_ARCH__)
constexpr int kHashTile = 1;
#else
constexpr int kHashTile = 64;
#endif

// The type of arithmetic for a table of `Entry`: half precision is for storage only.
template <typename Entry>
using HashValue = std::conditional_t<std::is_same_v<Entry, double>, double, float>;

template <typename T>
DIETNERF_HD void add_to(T* sum, T value) {
#if defined(__CUDA_ARCH__)
  atomicAdd(sum, value);
#else
  *sum += value;
#endif
}

template <typename Entry>
struct HashTable {
  using T = HashValue<Entry>;
  const Entry* table;      // (n_entries, n_features)
  const T* positions;      // (n_samples, 3)
  const int64_t* levels;   // (n_levels, 3)
  const T* level_weights;  // (n_levels,)
  int64_t n_entries, n_features, n_samples, n_levels;

  DIETNERF_HD HashLevel level(int64_t i) const {
    const HashLevel found{levels[3 * i], levels[3 * i + 1], levels[3 * i + 2]};
#if defined(__CUDA_ARCH__)
    assert(0 <= found.offset && found.offset + found.n_entries <= n_entries);
#endif
    return found;
  }

  DIETNERF_HD int64_t row(int64_t sample, int64_t level) const {
    return (sample * n_levels + level) * n_features;
  }
};

// Work is divided into blocks of samples times blocks of levels. A GPU thread processes one of each
// where it can, a CPU core many samples.
struct HashBlocks {
  int64_t samples_per_block, levels_per_block;

  int64_t count(int64_t n_samples, int64_t n_levels) const {
    return divide(n_samples, samples_per_block) * divide(n_levels, levels_per_block);
  }

  DIETNERF_HD static int64_t divide(int64_t n, int64_t size) { return (n + size - 1) / size; }
};

// For a GPU: one sample and one level.
constexpr HashBlocks kOnePerThread{1, 1};

struct HashBlock {
  int64_t begin, end, first_level, last_level;

  template <typename Entry>
  DIETNERF_HD HashBlock(const HashBlocks& blocks, const HashTable<Entry>& in, int64_t index) {
    const int64_t n_blocks = HashBlocks::divide(in.n_samples, blocks.samples_per_block);
    begin = index % n_blocks * blocks.samples_per_block;
    end = least(begin + blocks.samples_per_block, in.n_samples);
    first_level = index / n_blocks * blocks.levels_per_block;
    last_level = least(first_level + blocks.levels_per_block, in.n_levels);
  }

  DIETNERF_HD static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
  DIETNERF_HD int tile_size(int64_t at) const {
#if defined(__CUDA_ARCH__)
    return 1;  // known when compiled, which keeps a tile in registers
#else
    return static_cast<int>(least(end - at, kHashTile));
#endif
  }
};

// The entries that the samples of a tile touch on one level, and their trilinear weights.
template <typename T>
struct HashTile {
  uint32_t entries[8][kHashTile];
  T weights[8][kHashTile], fractions[3][kHashTile];

  DIETNERF_HD HashTile(const T* positions, int n, const HashLevel& level) {
    level.is_dense() ? fill<true>(positions, n, level) : fill<false>(positions, n, level);
  }

  template <bool kDense>
  DIETNERF_HD void fill(const T* __restrict__ positions, int n, HashLevel level) {
    DIETNERF_SIMD
    for (int i = 0; i < n; ++i) {
      const T* unit = positions + 3 * i;
      const HashCell<T> cell = HashCell<T>::of(unit[0], unit[1], unit[2], level.resolution);
      DIETNERF_UNROLL
      for (int corner = 0; corner < 8; ++corner) {
        entries[corner][i] = cell.template entry<kDense>(corner, level);
        weights[corner][i] = cell.weight(corner);
      }
      fractions[0][i] = cell.x.fraction;
      fractions[1][i] = cell.y.fraction;
      fractions[2][i] = cell.z.fraction;
    }
  }

  // Entries are scattered over the table: the host prefetches those of a later sample.
  template <int kFeatures, typename Entry>
  DIETNERF_HD void fetch_ahead(const Entry* from, int i, int n) const {
#if !defined(__CUDA_ARCH__) && defined(__GNUC__)
    constexpr int kAhead = 6;
    if (i + kAhead >= n) return;
    DIETNERF_UNROLL
    for (int corner = 0; corner < 8; ++corner) {
      __builtin_prefetch(from + int64_t{entries[corner][i + kAhead]} * kFeatures);
    }
#endif
  }

  // The derivative of a level along an axis, per cell, given the values at the corners.
  DIETNERF_HD T slope(const T values[8][kHashTile], int axis, int i) const {
    const int u = 1 << (axis + 1) % 3, v = 1 << (axis + 2) % 3, step = 1 << axis;
    const T at_u = fractions[(axis + 1) % 3][i], at_v = fractions[(axis + 2) % 3][i];
    const T low = values[step][i] - values[0][i], high = values[v + step][i] - values[v][i];
    const T low_u = values[u + step][i] - values[u][i];
    const T high_u = values[u + v + step][i] - values[u + v][i];
    return (1 - at_v) * (low + at_u * (low_u - low)) + at_v * (high + at_u * (high_u - high));
  }
};

// The features of one entry. A GPU loads all of them at once, which needs an aligned table.
template <typename Entry, int kFeatures>
struct HashFeatures {
  HashValue<Entry> values[kFeatures];

  DIETNERF_HD static HashFeatures of(const Entry* entry) {
    HashFeatures found;
#if defined(__CUDA_ARCH__)
    struct alignas(kBytes) Vector {
      Entry values[kFeatures];
    };
    const Vector vector = *reinterpret_cast<const Vector*>(entry);
    DIETNERF_UNROLL
    for (int f = 0; f < kFeatures; ++f) {
      found.values[f] = static_cast<HashValue<Entry>>(vector.values[f]);
    }
#else
    for (int f = 0; f < kFeatures; ++f) {
      found.values[f] = static_cast<HashValue<Entry>>(entry[f]);
    }
#endif
    return found;
  }

  static constexpr int kSize = kFeatures * static_cast<int>(sizeof(Entry));
  static constexpr int kBytes = kSize < 16 ? kSize : 16;  // that one instruction loads
};

}  // namespace dietnerf
