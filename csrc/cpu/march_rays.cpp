// Marching on the CPU: parts of consecutive rays in parallel, each into a vector of its own, which
// are then put one after the other.
#include "../march_rays.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "spread.h"

namespace dietnerf {

template <typename T>
struct MarchedSample {
  T t, delta;
};

constexpr int64_t kRaysPerPart = 256;
constexpr int64_t kLongestLeap = 8;  // in blocks

// Of a level and a z, which blocks of 8^3 cells are empty. A row of a block is one byte.
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
struct MarchPart {
  Marching<T> of;
  std::vector<MarchedSample<T>>* parts;  // (n_parts)
  int64_t* counts;                       // (n_rays,), zeros
  int64_t n_rays;
  std::optional<int64_t> capacity;
  std::atomic<int64_t>* n_found;  // in all parts that are done

  DIETNERF_HD void operator()(int64_t part) const {
    const Marching<T> marching = of;  // a copy that no write can alias
    const CellFrame<T> frame = marching.frame();
    const int64_t end = std::min(n_rays, (part + 1) * kRaysPerPart);
    std::vector<MarchedSample<T>> found;
    int64_t n = 0;
    for (int64_t ray = part * kRaysPerPart; ray < end && is_asked_for(n); ++ray) {
      const int64_t before = n;
      if (has_room(n)) {
        marching.march(frame, ray, [&](T t, T delta) { found.push_back({t, delta}); });
        n = static_cast<int64_t>(found.size());
      } else {
        marching.march(frame, ray, [&](T, T) { ++n; });
      }
      counts[ray] = n - before;
    }
    *n_found += n;
    parts[part] = std::move(found);
  }

  bool has_room(int64_t n) const { return !capacity || n <= *capacity; }

  // Behind more than can be indexed, only what may find room.
  bool is_asked_for(int64_t n) const {
    return (capacity && has_room(n)) || *n_found + n <= std::numeric_limits<int32_t>::max();
  }
};

template <typename T>
struct PlacePart {
  const std::vector<MarchedSample<T>>* parts;  // (n_parts)
  const int64_t* ray_offsets;                  // (n_rays + 1,)
  T *ts, *deltas;                              // (n_samples,), (n_samples,)
  int64_t n_rays;

  DIETNERF_HD void operator()(int64_t part) const {
    const int64_t begin = ray_offsets[part * kRaysPerPart];
    const int64_t n_fitting = ray_offsets[std::min(n_rays, (part + 1) * kRaysPerPart)] - begin;
    const MarchedSample<T>* samples = parts[part].data();
    for (int64_t i = 0; i < n_fitting; ++i) {
      ts[begin + i] = samples[i].t;
      deltas[begin + i] = samples[i].delta;
    }
  }
};

DIETNERF_CPU_JOB(FindEmptyBlocks)
DIETNERF_CPU_JOB(MarchPart<float>)
DIETNERF_CPU_JOB(MarchPart<double>)
DIETNERF_CPU_JOB(PlacePart<float>)
DIETNERF_CPU_JOB(PlacePart<double>)

namespace {

template <typename Job>
void spread_parts(const Job& job, int64_t n_parts) {
  SpreadOverCores{n_parts * SpreadOverCores::kSamplesPerPart}(job, n_parts);
}

// What is 1 and has ones beside it, `stride` before and after.
std::vector<uint8_t> eroded(const std::vector<uint8_t>& in, int64_t stride) {
  std::vector<uint8_t> out(in);
  const uint8_t* from = in.data();
  uint8_t* to = out.data();
  const int64_t end = static_cast<int64_t>(in.size()) - stride;
  for (int64_t i = stride; i < end; ++i) to[i] = from[i - stride] & from[i] & from[i + stride];
  return out;
}

// See Marching::leaps_from.
std::vector<uint8_t> leaps_of(const MarchRaysInputs& in) {
  const int64_t n = in.resolution / 8, m = n + 2;
  std::vector<uint8_t> is_empty(in.n_levels * m * m * m, 1);
  SpreadOverCores{in.occupied.numel()}(
      FindEmptyBlocks{readable<uint8_t>(in.occupied), is_empty.data(), n}, in.n_levels * n);
  std::vector<uint8_t> leaps(is_empty);
  for (int64_t leap = 1; leap < kLongestLeap; ++leap) {
    is_empty = eroded(eroded(eroded(is_empty, 1), m), m * m);
    std::transform(leaps.begin(), leaps.end(), is_empty.begin(), leaps.begin(), std::plus<>());
  }
  return leaps;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> march_rays_cpu(Tensor rays_o, Tensor rays_d, Tensor near,
                                                          Tensor far, Tensor bounds,
                                                          Tensor occupied, int64_t resolution,
                                                          double step, double cone_angle,
                                                          OptionalTensor jitter,
                                                          std::optional<int64_t> capacity) {
  const MarchRaysInputs in(rays_o, rays_d, near, far, bounds, occupied, resolution, step,
                           cone_angle, jitter, capacity);
  const Tensor ray_offsets = torch::stable::new_zeros(in.near, {in.n_rays + 1}, ScalarType::Long);
  const Tensor n_wanted = torch::stable::new_empty(ray_offsets, {});
  int64_t* offsets = writable<int64_t>(ray_offsets);
  const int64_t n_parts = (in.n_rays + kRaysPerPart - 1) / kRaysPerPart;
  const std::vector<uint8_t> leaps = leaps_of(in);
  Tensor ts, deltas;
  with_floating_type("march_rays", in.near, [&](auto zero) {
    using T = decltype(zero);
    std::vector<std::vector<MarchedSample<T>>> parts(n_parts);
    std::atomic<int64_t> n_found{0};
    spread_parts(MarchPart<T>{in.as<T>(leaps.data()), parts.data(), offsets + 1, in.n_rays,
                              capacity, &n_found},
                 n_parts);
    for (int64_t ray = 0; ray < in.n_rays; ++ray) offsets[ray + 1] += offsets[ray];
    *n_wanted.mutable_data_ptr<int64_t>() = offsets[in.n_rays];
    if (capacity) {
      const int64_t last = Fitting{*capacity}.last(offsets, in.n_rays);
      for (int64_t ray = 0; ray <= in.n_rays; ++ray) offsets[ray] = std::min(offsets[ray], last);
    }
    const MarchedSamples out(in.near, offsets[in.n_rays], capacity);
    ts = out.ts;
    deltas = out.deltas;
    spread_parts(
        PlacePart<T>{parts.data(), offsets, writable<T>(ts), writable<T>(deltas), in.n_rays},
        n_parts);
  });
  return {ts, deltas, ray_offsets, n_wanted};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, m) { m.impl("march_rays", TORCH_BOX(&march_rays_cpu)); }

}  // namespace dietnerf
