// Multiresolution hash encoding: what must hold, and what is done with a few samples on one level.
// See dietnerf/ops/hash_encode.py for shapes and units.
#pragma once

#include <type_traits>

#include "common.h"
#include "hash_grid.h"

namespace dietnerf {

// Samples are taken in tiles, so that on the host the arithmetic of a tile becomes vector
// instructions. A GPU thread takes them one by one.
#if defined(__CUDA_ARCH__)
constexpr int kHashTile = 1;
#else
constexpr int kHashTile = 64;
#endif

// What is computed in for a table of `Entry`: half precision is only how entries are stored.
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

// Jobs are numbered over blocks of samples, and over blocks of levels. A GPU thread gets one of
// each where it can, a core many samples.
struct HashJobs {
  int64_t samples_each, levels_each;

  int64_t count(int64_t n_samples, int64_t n_levels) const {
    return blocks(n_samples, samples_each) * blocks(n_levels, levels_each);
  }

  DIETNERF_HD static int64_t blocks(int64_t n, int64_t each) { return (n + each - 1) / each; }
};

// For a GPU: one sample on one level.
constexpr HashJobs kOneByOne{1, 1};

struct HashJob {
  int64_t begin, end, first_level, last_level;

  template <typename Entry>
  DIETNERF_HD HashJob(const HashJobs& jobs, const HashTable<Entry>& in, int64_t number) {
    const int64_t n_blocks = HashJobs::blocks(in.n_samples, jobs.samples_each);
    begin = number % n_blocks * jobs.samples_each;
    end = least(begin + jobs.samples_each, in.n_samples);
    first_level = number / n_blocks * jobs.levels_each;
    last_level = least(first_level + jobs.levels_each, in.n_levels);
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

// The entries that the samples of a tile touch on one level, and how much of each.
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

  // Entries lie all over the table: the host asks for those of a later sample while it works.
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

  // How fast a level changes along an axis, in cells, where the corners have the values given.
  DIETNERF_HD T slope(const T values[8][kHashTile], int axis, int i) const {
    const int u = 1 << (axis + 1) % 3, v = 1 << (axis + 2) % 3, step = 1 << axis;
    const T at_u = fractions[(axis + 1) % 3][i], at_v = fractions[(axis + 2) % 3][i];
    const T low = values[step][i] - values[0][i], high = values[v + step][i] - values[v][i];
    const T low_u = values[u + step][i] - values[u][i];
    const T high_u = values[u + v + step][i] - values[u + v][i];
    return (1 - at_v) * (low + at_u * (low_u - low)) + at_v * (high + at_u * (high_u - high));
  }
};

// The features of one entry. A GPU moves all of them at once, which needs tables that begin where a
// vector may.
template <typename Entry, int kFeatures>
struct HashFeatures {
  HashValue<Entry> values[kFeatures];

  DIETNERF_HD static HashFeatures of(const Entry* entry) {
    HashFeatures found;
#if defined(__CUDA_ARCH__)
    struct alignas(kBytes) Moved {
      Entry values[kFeatures];
    };
    const Moved moved = *reinterpret_cast<const Moved*>(entry);
    DIETNERF_UNROLL
    for (int f = 0; f < kFeatures; ++f) {
      found.values[f] = static_cast<HashValue<Entry>>(moved.values[f]);
    }
#else
    for (int f = 0; f < kFeatures; ++f) {
      found.values[f] = static_cast<HashValue<Entry>>(entry[f]);
    }
#endif
    return found;
  }

  static constexpr int kSize = kFeatures * static_cast<int>(sizeof(Entry));
  static constexpr int kBytes = kSize < 16 ? kSize : 16;  // that one instruction moves
};

// Calls `method<n_features>(...)`, so that the loop over the features of an entry has no end.
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
  HashJobs jobs;
  T* features;  // (n_samples, n_levels * n_features)

  DIETNERF_HD void operator()(int64_t number) const {
    const HashJob job(jobs, in, number);
    for (int64_t l = job.first_level; l < job.last_level; ++l) {
      const HashLevel level = in.level(l);
      const T scale = in.level_weights[l];
      const Entry* entries = in.table + level.offset * in.n_features;
      for (int64_t begin = job.begin; begin < job.end; begin += kHashTile) {
        T* out = features + in.row(begin, l);
        const int n = job.tile_size(begin);
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

// On the host a job has all samples of its levels, and nobody else writes into their entries.
template <typename Entry>
struct HashEncodeTableBackward {
  using T = HashValue<Entry>;
  HashTable<Entry> in;
  HashJobs jobs;
  const T* grad_features;  // (n_samples, n_levels * n_features)
  T* grad_table;           // (n_entries, n_features), zeros

  DIETNERF_HD void operator()(int64_t number) const {
    const HashJob job(jobs, in, number);
    for (int64_t l = job.first_level; l < job.last_level; ++l) {
      const HashLevel level = in.level(l);
      const T scale = in.level_weights[l];
      if (scale == 0) continue;
      T* grads = grad_table + level.offset * in.n_features;
      for (int64_t begin = job.begin; begin < job.end; begin += kHashTile) {
        const int n = job.tile_size(begin);
        const HashTile<T> tile(in.positions + 3 * begin, n, level);
        const T* grad = grad_features + in.row(begin, l);
        DIETNERF_HASH_SWITCH(in.n_features, scatter, tile, n, grad, scale, grads)
      }
    }
  }

#if defined(__CUDA_ARCH__)
  // From Hopper on, two or four floats are added at once.
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
      bool is_nothing = true;
      for (int f = 0; f < kFeatures; ++f) {
        scaled[f] = scale * grad[in.row(i, 0) + f];
        is_nothing = is_nothing && scaled[f] == 0;
      }
#if defined(__CUDA_ARCH__)
      if (is_nothing) continue;  // the sample was culled, or belongs to no ray
#endif
      DIETNERF_UNROLL
      for (int corner = 0; corner < 8; ++corner) {
        T* sum = grads + int64_t{tile.entries[corner][i]} * kFeatures;
        const T weight = tile.weights[corner][i];
#if defined(__CUDA_ARCH__)
        add_entry<kFeatures>(sum, scaled, weight);
#else
        T moved[kFeatures];  // read before anything is written, so that it becomes one vector
        for (int f = 0; f < kFeatures; ++f) moved[f] = sum[f] + weight * scaled[f];
        for (int f = 0; f < kFeatures; ++f) sum[f] = moved[f];
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

// A job has all levels of its samples.
template <typename Entry>
struct HashEncodePositionsBackward {
  using T = HashValue<Entry>;
  HashTable<Entry> in;
  HashJobs jobs;
  const T* grad_features;  // (n_samples, n_levels * n_features)
  T* grad_positions;       // (n_samples, 3), zeros

  DIETNERF_HD void operator()(int64_t number) const {
    const HashJob job(jobs, in, number);
    for (int64_t l = job.first_level; l < job.last_level; ++l) {
      const HashLevel level = in.level(l);
      const T scale = in.level_weights[l] * static_cast<T>(level.resolution);
      if (scale == 0) continue;
      for (int64_t begin = job.begin; begin < job.end; begin += kHashTile) {
        const int n = job.tile_size(begin);
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

// On the host a job has all samples of its levels.
template <typename Entry>
struct HashEncodeWeightsBackward {
  using T = HashValue<Entry>;
  HashTable<Entry> in;
  HashJobs jobs;
  const T* grad_features;  // (n_samples, n_levels * n_features)
  T* grad_level_weights;   // (n_levels,), zeros

  DIETNERF_HD void operator()(int64_t number) const {
    const HashJob job(jobs, in, number);
    for (int64_t l = job.first_level; l < job.last_level; ++l) {
      const HashLevel level = in.level(l);
      double total = 0;  // a million float terms would lose digits
      for (int64_t begin = job.begin; begin < job.end; begin += kHashTile) {
        const int n = job.tile_size(begin);
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

// Levels on the GPU are not looked at: that would wait for it. The kernels assert the range
// instead.
inline Tensor checked_levels(const char* op, const Tensor& levels_, const Tensor& table) {
  check_memory(op, "levels", levels_);
  STD_TORCH_CHECK(levels_.dim() == 2 && levels_.size(1) == 3, op, ": levels must be (n_levels, 3)");
  STD_TORCH_CHECK(levels_.scalar_type() == ScalarType::Long, op, ": levels must be int64");
  STD_TORCH_CHECK(levels_.device() == table.device(), op,
                  ": levels must be on the device of the other arguments");
  const Tensor levels = levels_.is_contiguous() ? levels_ : torch::stable::contiguous(levels_);
  if (!levels.is_cpu()) return levels;
  const int64_t* rows = readable<int64_t>(levels);
  const int64_t n_entries = first_size(table), n_levels = levels.size(0);
  int64_t end = 0;
  bool fits = true;
  for (int64_t i = 0; fits && i < n_levels; ++i) {
    const HashLevel level{rows[3 * i], rows[3 * i + 1], rows[3 * i + 2]};
    fits = 1 <= level.resolution && level.resolution <= 1 << 20 && end <= level.offset &&
           1 <= level.n_entries && level.n_entries <= n_entries - level.offset;
    if (!fits) break;
    fits = level.is_dense() || (level.n_entries & (level.n_entries - 1)) == 0;
    STD_TORCH_CHECK(level.n_entries <= int64_t{1} << 32, op, ": level ", i, " has ",
                    level.n_entries, " entries, more than the 2^32 that can be told apart");
    end = level.offset + level.n_entries;
  }
  STD_TORCH_CHECK(fits, op,
                  ": levels must be slices of the table in order, with (resolution + 1)^3 entries "
                  "or more, or else a power of two");
  return levels;
}

// A table that begins where a GPU may load a whole entry at once, which a slice may not.
inline Tensor aligned(const Tensor& table) {
  const bool begins_there = reinterpret_cast<uintptr_t>(table.data_ptr()) % 16 == 0;
  return table.is_cpu() || begins_there ? table : torch::stable::clone(table);
}

struct HashEncodeInputs {
  Tensor table, positions, levels, level_weights;

  HashEncodeInputs(const char* op, const Tensor& table_, const Tensor& positions_,
                   const Tensor& levels_, const Tensor& level_weights_)
      : table(
            aligned(checked(op, "table", table_, table_, {first_size(table_), last_size(table_)}))),
        positions(checked(op, "positions", positions_, positions_, {first_size(positions_), 3})),
        levels(checked_levels(op, levels_, table)),
        level_weights(checked(op, "level_weights", level_weights_, positions, {levels.size(0)})) {
    const int64_t f = n_features();
    STD_TORCH_CHECK(f == 1 || f == 2 || f == 4 || f == 8, op,
                    ": n_features must be 1, 2, 4 or 8, got ", f);
    STD_TORCH_CHECK(positions.device() == table.device(), op,
                    ": positions must be on the device of the other arguments");
    const bool is_double = table.scalar_type() == ScalarType::Double;
    STD_TORCH_CHECK(positions.scalar_type() == (is_double ? ScalarType::Double : ScalarType::Float),
                    op, ": positions must be ", is_double ? "float64 like" : "float32 with such a",
                    " table");
  }

  int64_t n_features() const { return last_size(table); }
  int64_t n_samples() const { return positions.size(0); }
  int64_t n_levels() const { return levels.size(0); }

  template <typename Entry>
  HashTable<Entry> read() const {
    using T = HashValue<Entry>;
    return {readable<Entry>(table),
            readable<T>(positions),
            readable<int64_t>(levels),
            readable<T>(level_weights),
            table.size(0),
            n_features(),
            n_samples(),
            n_levels()};
  }
};

// Both entries take `spread(job, n)`, which calls job(number) for every number below n on the
// device at hand, and how much a job has to do there.
template <typename Spread>
Tensor hash_encode(const Spread& spread, const HashEncodeInputs& in, const HashJobs& jobs) {
  const int64_t n_samples = in.n_samples(), n_levels = in.n_levels();
  const Tensor features = empty_sized(in.positions, {n_samples, n_levels * in.n_features()});
  with_stored_type("hash_encode", in.table, [&](auto zero) {
    using Entry = decltype(zero);
    spread(HashEncode<Entry>{in.read<Entry>(), jobs, writable<HashValue<Entry>>(features)},
           jobs.count(n_samples, n_levels));
  });
  return features;
}

struct HashBackwardJobs {
  HashJobs of_table, of_positions, of_level_weights;
};

template <typename Spread>
std::tuple<Tensor, Tensor, Tensor> hash_encode_backward(const Spread& spread, int64_t wanted,
                                                        const OptionalTensor& grad_features_,
                                                        const HashEncodeInputs& in,
                                                        const HashBackwardJobs& jobs) {
  const char* op = "hash_encode_backward";
  const int64_t n = in.n_samples(), n_levels = in.n_levels();
  const auto grad_features =
      checked(op, "grad_features", grad_features_, in.positions, {n, n_levels * in.n_features()});
  const auto gradient = [&](int bit, std::initializer_list<int64_t> sizes) {
    return wanted >> bit & 1 ? zeros_sized(in.positions, sizes) : empty_sized(in.table, {0});
  };
  const Tensor grad_table = gradient(0, {in.table.size(0), in.n_features()});
  const Tensor grad_positions = gradient(1, {n, 3});
  const Tensor grad_weights = gradient(2, {n_levels});
  with_stored_type(op, in.table, [&](auto zero) {
    using Entry = decltype(zero);
    using T = HashValue<Entry>;
    const HashTable<Entry> table = in.read<Entry>();
    const T* grad = readable<T>(grad_features);
    if (grad && wanted & 1) {
      spread(HashEncodeTableBackward<Entry>{table, jobs.of_table, grad, writable<T>(grad_table)},
             jobs.of_table.count(n, n_levels));
    }
    if (grad && wanted & 2) {
      spread(HashEncodePositionsBackward<Entry>{table, jobs.of_positions, grad,
                                                writable<T>(grad_positions)},
             jobs.of_positions.count(n, n_levels));
    }
    if (grad && wanted & 4) {
      spread(HashEncodeWeightsBackward<Entry>{table, jobs.of_level_weights, grad,
                                              writable<T>(grad_weights)},
             jobs.of_level_weights.count(n, n_levels));
    }
  });
  return {torch::stable::to(grad_table, in.table.scalar_type()), grad_positions, grad_weights};
}

}  // namespace dietnerf
