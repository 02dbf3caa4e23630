// Kernels of the march on the CPU: chunks of consecutive rays, and the empty blocks of the grid.
#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include "../march_rays.h"
#include "parallel_for.h"

namespace dietnerf {

template <typename T>
struct MarchedSample {
  T t, delta;
};

constexpr int64_t kRaysPerChunk = 256;
constexpr int64_t kMaxSkipDistance = 8;  // in blocks

// Finds the empty blocks of 8^3 cells of a level and z. A row of a block is one byte.
struct FindEmptyBlocks {
  const uint8_t* occupied;  // (n_levels, 8 n, 8 n, n)
  uint8_t* is_empty;        // (n_levels, n + 2, n + 2, n + 2), 1 at first
  int64_t n;

  DIETNERF_HD void operator()(int64_t level_and_z) const {
    const int64_t level = level_and_z / n, z = level_and_z % n, m = n + 2, n_bytes = 8 * n * n;
    const uint8_t* slab = occupied + level_and_z * 8 * n_bytes;
    std::vector<uint8_t> any(slab, slab + n_bytes);  // (n, 8, n)
    for (int64_t i = 1; i < 8; ++i) {
      std::transform(any.begin(), any.end(), slab + i * n_bytes, any.begin(), std::bit_or<>());
    }
    for (int64_t y = 0; y < n; ++y) {
      const uint8_t* rows = any.data() + y * 8 * n;
      uint8_t* found = is_empty + ((level * m + z + 1) * m + y + 1) * m + 1;
      for (int64_t x = 0; x < n; ++x) {
        uint8_t bits = level > 0 && is_inner(x) && is_inner(y) && is_inner(z);
        for (int64_t row = 0; row < 8; ++row) bits |= rows[row * n + x];
        found[x] = bits == 0;
      }
    }
  }

  // Whether a block touches the box of the next smaller level.
  DIETNERF_HD bool is_inner(int64_t block) const {
    return n < 4 * (block + 1) && 4 * block < 3 * n;
  }
};

template <typename T>
struct MarchChunk {
  OccupancyMarcher<T> marcher;
  std::vector<MarchedSample<T>>* chunks;  // (n_chunks)
  int64_t* counts;                        // (n_rays,), zeros
  int64_t n_rays;
  std::optional<int64_t> capacity;
  std::atomic<int64_t>* n_found;  // in all chunks that are done

  DIETNERF_HD void operator()(int64_t chunk) const {
    const OccupancyMarcher<T> own = marcher;  // a copy that no write can alias
    const CellFrame<T> frame = own.frame();
    const int64_t end = std::min(n_rays, (chunk + 1) * kRaysPerChunk);
    std::vector<MarchedSample<T>> found;
    int64_t n = 0;
    for (int64_t ray = chunk * kRaysPerChunk; ray < end && is_needed(n); ++ray) {
      const int64_t before = n;
      if (has_room(n)) {
        own.march(frame, ray, [&](T t, T delta) { found.push_back({t, delta}); });
        n = static_cast<int64_t>(found.size());
      } else {
        own.march(frame, ray, [&](T, T) { ++n; });
      }
      counts[ray] = n - before;
    }
    *n_found += n;
    chunks[chunk] = std::move(found);
  }

  bool has_room(int64_t n) const { return !capacity || n <= *capacity; }

  // Beyond as many as can be indexed only samples that fit are needed.
  bool is_needed(int64_t n) const {
    return (capacity && has_room(n)) || *n_found + n <= std::numeric_limits<int32_t>::max();
  }
};

template <typename T>
struct WriteChunk {
  const std::vector<MarchedSample<T>>* chunks;  // (n_chunks)
  const int64_t* ray_offsets;                   // (n_rays + 1,)
  T *ts, *deltas;                               // (n_samples,), (n_samples,)
  int64_t n_rays;

  DIETNERF_HD void operator()(int64_t chunk) const {
    const int64_t begin = ray_offsets[chunk * kRaysPerChunk];
    const int64_t n = ray_offsets[std::min(n_rays, (chunk + 1) * kRaysPerChunk)] - begin;
    const MarchedSample<T>* samples = chunks[chunk].data();
    for (int64_t i = 0; i < n; ++i) {
      ts[begin + i] = samples[i].t;
      deltas[begin + i] = samples[i].delta;
    }
  }
};

DIETNERF_CPU_KERNEL(FindEmptyBlocks)
DIETNERF_CPU_KERNEL(MarchChunk<float>)
DIETNERF_CPU_KERNEL(MarchChunk<double>)
DIETNERF_CPU_KERNEL(WriteChunk<float>)
DIETNERF_CPU_KERNEL(WriteChunk<double>)

}  // namespace dietnerf
