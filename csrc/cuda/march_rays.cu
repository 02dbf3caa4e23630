// Marching on a GPU: one thread per ray, once to count its samples and once to write them.
#include "../march_rays.h"

#include "launch.cuh"

namespace dietnerf {

// Counting and writing are one kernel: two could round differently, and write other samples than
// were counted.
template <typename T>
struct MarchSamples {
  OccupancyMarcher<T> marcher;
  int64_t* counts;             // (n_rays,), or null to write
  const int64_t* ray_offsets;  // (n_rays + 1,), or null to count
  T *ts, *deltas;              // (n_samples,), (n_samples,)

  DIETNERF_HD void operator()(int64_t ray) const {
    int64_t i = ray_offsets ? ray_offsets[ray] : 0;
    const int64_t end = ray_offsets ? ray_offsets[ray + 1] : 0;
    if (ray_offsets && i == end) return;  // there are none, or they do not fit
    marcher.march(marcher.frame(), ray, [&](T t, T delta) {
      if (i < end) {
        ts[i] = t;
        deltas[i] = delta;
      }
      ++i;
    });
    if (counts) {
      counts[ray] = i;
    } else {
      assert(i == end);
    }
  }
};

// Clips the ends of the rays' samples to those that fit.
struct FitOffsets {
  const int64_t* sample_ends;  // (n_rays + 1,), without a capacity
  int64_t n_rays;
  CapacityLimit limit;
  int64_t *ray_offsets, *n_total;  // (n_rays + 1,), ()

  DIETNERF_HD void operator()(int64_t ray) const {
    const int64_t last = limit.last(sample_ends, n_rays);
    ray_offsets[ray] = sample_ends[ray] < last ? sample_ends[ray] : last;
    if (ray == n_rays) *n_total = sample_ends[n_rays];
  }
};

namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor> march_rays_cuda(Tensor rays_o, Tensor rays_d,
                                                           Tensor near, Tensor far, Tensor aabb,
                                                           Tensor occupied, int64_t resolution,
                                                           double step, double cone_angle,
                                                           OptionalTensor jitter,
                                                           std::optional<int64_t> capacity) {
  const MarchRaysInputs in(rays_o, rays_d, near, far, aabb, occupied, resolution, step, cone_angle,
                           jitter, capacity);
  const CudaLauncher launch{in.near};
  const Tensor counts = torch::stable::new_zeros(in.near, {in.n_rays + 1}, ScalarType::Long);
  const Tensor ray_offsets = torch::stable::new_empty(counts, {in.n_rays + 1});
  const Tensor n_total = torch::stable::new_empty(counts, {});
  Tensor ts, deltas;
  with_floating_type("march_rays", in.near, [&](auto zero) {
    using T = decltype(zero);
    const OccupancyMarcher<T> marcher = in.marcher<T>(nullptr);
    launch(MarchSamples<T>{marcher, mutable_data<int64_t>(counts) + 1, nullptr, nullptr, nullptr},
           in.n_rays);
    const Tensor sample_ends = cumulated(counts);
    const CapacityLimit limit{capacity.value_or(std::numeric_limits<int64_t>::max())};
    launch(FitOffsets{const_data<int64_t>(sample_ends), in.n_rays, limit,
                      mutable_data<int64_t>(ray_offsets), mutable_data<int64_t>(n_total)},
           in.n_rays + 1);
    // Without a capacity the host synchronizes to read how many there are.
    const MarchOutputs out(in.near, capacity ? *capacity : number_in(n_total), capacity);
    ts = out.ts;
    deltas = out.deltas;
    launch(MarchSamples<T>{marcher, nullptr, const_data<int64_t>(ray_offsets), mutable_data<T>(ts),
                           mutable_data<T>(deltas)},
           in.n_rays);
  });
  return {ts, deltas, ray_offsets, n_total};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, library) {
  library.impl("march_rays", TORCH_BOX(&march_rays_cuda));
}

}  // namespace dietnerf
