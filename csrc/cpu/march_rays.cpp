// Marching on the CPU: chunks of consecutive rays in parallel, each into a vector of its own, which
// are then concatenated.
#include "march_rays_kernels.h"

namespace dietnerf {

namespace {

template <typename Kernel>
void launch_chunks(const Kernel& kernel, int64_t n_chunks) {
  ParallelFor(n_chunks * ParallelFor::kSamplesPerChunk)(kernel, n_chunks);
}

// 1 where both neighbors at `stride` are 1 as well.
std::vector<uint8_t> eroded(const std::vector<uint8_t>& in, int64_t stride) {
  std::vector<uint8_t> out(in);
  const uint8_t* from = in.data();
  uint8_t* to = out.data();
  const int64_t end = static_cast<int64_t>(in.size()) - stride;
  for (int64_t i = stride; i < end; ++i) to[i] = from[i - stride] & from[i] & from[i + stride];
  return out;
}

// See OccupancyMarcher::skip_distance.
std::vector<uint8_t> skip_distances(const MarchRaysInputs& in) {
  const int64_t n = in.resolution / 8, m = n + 2;
  std::vector<uint8_t> is_empty(in.n_levels * m * m * m, 1);
  ParallelFor(in.occupied.numel())(
      FindEmptyBlocks{const_data<uint8_t>(in.occupied), is_empty.data(), n}, in.n_levels * n);
  std::vector<uint8_t> distances(is_empty);
  for (int64_t distance = 1; distance < kMaxSkipDistance; ++distance) {
    is_empty = eroded(eroded(eroded(is_empty, 1), m), m * m);
    std::transform(distances.begin(), distances.end(), is_empty.begin(), distances.begin(),
                   std::plus<>());
  }
  return distances;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> march_rays_cpu(Tensor rays_o, Tensor rays_d, Tensor near,
                                                          Tensor far, Tensor aabb, Tensor occupied,
                                                          int64_t resolution, double step,
                                                          double cone_angle, OptionalTensor jitter,
                                                          std::optional<int64_t> capacity) {
  const MarchRaysInputs in(rays_o, rays_d, near, far, aabb, occupied, resolution, step, cone_angle,
                           jitter, capacity);
  const Tensor ray_offsets = torch::stable::new_zeros(in.near, {in.n_rays + 1}, ScalarType::Long);
  const Tensor n_total = torch::stable::new_empty(ray_offsets, {});
  int64_t* offsets = mutable_data<int64_t>(ray_offsets);
  const int64_t n_chunks = (in.n_rays + kRaysPerChunk - 1) / kRaysPerChunk;
  const std::vector<uint8_t> distances = skip_distances(in);
  Tensor ts, deltas;
  with_floating_type("march_rays", in.near, [&](auto zero) {
    using T = decltype(zero);
    std::vector<std::vector<MarchedSample<T>>> chunks(n_chunks);
    std::atomic<int64_t> n_found{0};
    launch_chunks(MarchChunk<T>{in.marcher<T>(distances.data()), chunks.data(), offsets + 1,
                                in.n_rays, capacity, &n_found},
                  n_chunks);
    for (int64_t ray = 0; ray < in.n_rays; ++ray) offsets[ray + 1] += offsets[ray];
    *n_total.mutable_data_ptr<int64_t>() = offsets[in.n_rays];
    if (capacity) {
      const int64_t last = CapacityLimit{*capacity}.last(offsets, in.n_rays);
      for (int64_t ray = 0; ray <= in.n_rays; ++ray) offsets[ray] = std::min(offsets[ray], last);
    }
    const MarchOutputs out(in.near, offsets[in.n_rays], capacity);
    ts = out.ts;
    deltas = out.deltas;
    launch_chunks(WriteChunk<T>{chunks.data(), offsets, mutable_data<T>(ts),
                                mutable_data<T>(deltas), in.n_rays},
                  n_chunks);
  });
  return {ts, deltas, ray_offsets, n_total};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, library) {
  library.impl("march_rays", TORCH_BOX(&march_rays_cpu));
}

}  // namespace dietnerf
