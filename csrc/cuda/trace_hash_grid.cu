// Pictures of a hash-grid field on a GPU, in one kernel.
#include "../trace_hash_grid.h"

#include "launch.cuh"
#include "tile_block.cuh"

namespace dietnerf {

namespace {

std::tuple<Tensor, Tensor, Tensor> trace_hash_grid_cuda(
    Tensor table, Tensor levels, Tensor level_weights, Tensor network, Tensor directions,
    Tensor rays_o, Tensor rays_d, Tensor near, Tensor far, Tensor bounds, Tensor grid_bounds,
    Tensor occupied, int64_t resolution, double step, double cone_angle, int64_t width,
    int64_t n_geometry, int64_t colour_layers, bool is_unbounded, double early_stop) {
  const char* op = "trace_hash_grid";
  const MarchRaysInputs march(rays_o, rays_d, near, far, grid_bounds, occupied, resolution, step,
                              cone_angle, std::nullopt, std::nullopt);
  // No samples yet: these only say what must hold of the rest.
  const Tensor none = empty_sized(march.near, {0});
  const Tensor offsets = torch::stable::new_zeros(march.near, {march.n_rays + 1}, ScalarType::Long);
  const RenderHashGridInputs in(op, table, levels, level_weights, network, directions, rays_o,
                                rays_d, none, none, offsets, bounds, width, n_geometry,
                                colour_layers, is_unbounded, early_stop);
  STD_TORCH_CHECK(in.shape.colour_layers + 3 <= kMaxLayers, op, ": at most ", kMaxLayers - 3,
                  " colour layers, got ", in.shape.colour_layers);
  const Tensor rgb = empty_sized(march.near, {march.n_rays, 3});
  const Tensor opacity = empty_sized(march.near, {march.n_rays});
  const Tensor depth = empty_sized(march.near, {march.n_rays});
  const Tensor next_ray = torch::stable::new_zeros(march.near, {1}, ScalarType::Long);
  with_half_type(op, in.table, [&](auto zero) {
    using Entry = decltype(zero);
    TraceHashGrid<Entry> job{};
    job.in.layers = TileLayers::of(in.shape);
    job.memory = TraceMemory::of(job.in.layers);
    job.in.memory = job.memory.tiles;
    job.in.network = readable<float>(in.network);
    job.in.directions = readable<float>(in.directions);
    job.in.n_samples = march.n_rays;  // a block for each 64 rays, or as many as there is room for
    job.marching = march.as<float>(nullptr);
    job.grid.in = {static_cast<const Entry*>(in.table.data_ptr()),
                   nullptr,
                   readable<int64_t>(in.levels),
                   readable<float>(in.level_weights),
                   in.table.size(0),
                   in.n_features,
                   0,
                   in.n_levels};
    job.bounds = readable<float>(in.bounds);
    job.is_unbounded = in.is_unbounded;
    job.early_stop = in.early_stop;
    job.n_rays = march.n_rays;
    job.next_ray = reinterpret_cast<unsigned long long*>(writable<int64_t>(next_ray));
    job.rgb = writable<float>(rgb);
    job.opacity = writable<float>(opacity);
    job.depth = writable<float>(depth);
    spread_tiles(march.near, job, tile_blocks<TraceHashGrid<Entry>>(march.near, job.in));
  });
  return {rgb, opacity, depth};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, m) {
  m.impl("trace_hash_grid", TORCH_BOX(&trace_hash_grid_cuda));
}

}  // namespace dietnerf
