// Marching on a GPU: one thread a ray, once to count its samples and once to write them.
#include "../march_rays.h"

#include <array>

#include "launch.cuh"

namespace dietnerf {

// Counting and writing are one kernel: two would be free to round differently, and a ray could come
// to other samples than were counted.
template <typename T>
struct MarchSamples {
  Marching<T> of;
  int64_t* counts;             // (n_rays,), or null to write
  const int64_t* ray_offsets;  // (n_rays + 1,), or null to count
  T *ts, *deltas;              // (n_samples,), (n_samples,)

  DIETNERF_HD void operator()(int64_t ray) const {
    int64_t i = ray_offsets ? ray_offsets[ray] : 0;
    const int64_t end = ray_offsets ? ray_offsets[ray + 1] : 0;
    if (ray_offsets && i == end) return;  // there are none, or no room for them
    of.march(of.frame(), ray, [&](T t, T delta) {
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

// Where the rays' samples end, as far as there is room for them.
struct FitOffsets {
  const int64_t* wanted;  // (n_rays + 1,)
  int64_t n_rays;
  Fitting fitting;
  int64_t *ray_offsets, *n_wanted;  // (n_rays + 1,), ()

  DIETNERF_HD void operator()(int64_t ray) const {
    const int64_t last = fitting.last(wanted, n_rays);
    ray_offsets[ray] = wanted[ray] < last ? wanted[ray] : last;
    if (ray == n_rays) *n_wanted = wanted[n_rays];
  }
};

namespace {

Tensor cumulated(const Tensor& counts) {
  using torch::stable::detail::from;
  std::array<StableIValue, 3> stack{from(counts), from(int64_t{0}),
                                    from(std::optional<ScalarType>())};
  TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::cumsum", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

int64_t number_in(const Tensor& scalar) {
  const torch::stable::Device cpu(torch::headeronly::DeviceType::CPU);
  return *torch::stable::to(scalar, cpu).const_data_ptr<int64_t>();
}

std::tuple<Tensor, Tensor, Tensor, Tensor> march_rays_cuda(Tensor rays_o, Tensor rays_d,
                                                           Tensor near, Tensor far, Tensor bounds,
                                                           Tensor occupied, int64_t resolution,
                                                           double step, double cone_angle,
                                                           OptionalTensor jitter,
                                                           std::optional<int64_t> capacity) {
  const MarchRaysInputs in(rays_o, rays_d, near, far, bounds, occupied, resolution, step,
                           cone_angle, jitter, capacity);
  const SpreadOverThreads spread{in.near};
  const Tensor counts = torch::stable::new_zeros(in.near, {in.n_rays + 1}, ScalarType::Long);
  const Tensor ray_offsets = torch::stable::new_empty(counts, {in.n_rays + 1});
  const Tensor n_wanted = torch::stable::new_empty(counts, {});
  Tensor ts, deltas;
  with_floating_type("march_rays", in.near, [&](auto zero) {
    using T = decltype(zero);
    const Marching<T> of = in.as<T>(nullptr);
    spread(MarchSamples<T>{of, writable<int64_t>(counts) + 1, nullptr, nullptr, nullptr},
           in.n_rays);
    const Tensor wanted = cumulated(counts);
    const Fitting fitting{capacity.value_or(std::numeric_limits<int64_t>::max())};
    spread(FitOffsets{readable<int64_t>(wanted), in.n_rays, fitting, writable<int64_t>(ray_offsets),
                      writable<int64_t>(n_wanted)},
           in.n_rays + 1);
    // Without a capacity the host waits to hear how many there are.
    const MarchedSamples out(in.near, capacity ? *capacity : number_in(n_wanted), capacity);
    ts = out.ts;
    deltas = out.deltas;
    spread(MarchSamples<T>{of, nullptr, readable<int64_t>(ray_offsets), writable<T>(ts),
                           writable<T>(deltas)},
           in.n_rays);
  });
  return {ts, deltas, ray_offsets, n_wanted};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, m) { m.impl("march_rays", TORCH_BOX(&march_rays_cuda)); }

}  // namespace dietnerf
