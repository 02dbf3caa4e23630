// Images of a hash-grid field on a GPU, in one kernel.
#include "../trace_hash_grid.h"

#include "launch.cuh"
#include "tile_block.cuh"

namespace dietnerf {

namespace {

std::tuple<Tensor, Tensor, Tensor> trace_hash_grid_cuda(
    Tensor table, Tensor levels, Tensor level_weights, Tensor network, Tensor directions,
    Tensor rays_o, Tensor rays_d, Tensor aabb, int64_t width, int64_t n_geometry,
    int64_t color_layers, bool is_unbounded, double early_stop, Tensor near, Tensor far,
    Tensor grid_aabb, Tensor occupied, int64_t resolution, double step, double cone_angle) {
  const char* op = "trace_hash_grid";
  const HashGridArgs args{table,        levels,       level_weights, network, directions,
                          rays_o,       rays_d,       aabb,          width,   n_geometry,
                          color_layers, is_unbounded, early_stop};
  const MarchRaysInputs march(rays_o, rays_d, near, far, grid_aabb, occupied, resolution, step,
                              cone_angle, std::nullopt, std::nullopt);
  // There are no samples yet: these are for the checks of the other arguments.
  const Tensor none = empty_sized(march.near, {0});
  const Tensor offsets = torch::stable::new_zeros(march.near, {march.n_rays + 1}, ScalarType::Long);
  const RenderHashGridInputs in(op, args, none, none, offsets);
  STD_TORCH_CHECK(in.shape.color_layers + 3 <= kMaxLayers, op, ": at most ", kMaxLayers - 3,
                  " color layers, got ", in.shape.color_layers);
  const Tensor rgb = empty_sized(march.near, {march.n_rays, 3});
  const Tensor opacity = empty_sized(march.near, {march.n_rays});
  const Tensor depth = empty_sized(march.near, {march.n_rays});
  const Tensor next_ray = torch::stable::new_zeros(march.near, {1}, ScalarType::Long);
  with_half_type(op, in.table, [&](auto zero) {
    using Entry = decltype(zero);
    TraceHashGrid<Entry> kernel{};
    kernel.in.layers = TileLayers::of(in.shape);
    kernel.memory = TraceMemory::of(kernel.in.layers);
    kernel.in.memory = kernel.memory.tiles;
    kernel.in.network = const_data<float>(in.network);
    kernel.in.directions = const_data<float>(in.directions);
    kernel.in.n_samples = march.n_rays;  // one block per 64 rays, at most as many as run at a time
    kernel.marcher = march.marcher<float>(nullptr);
    kernel.grid.in = {static_cast<const Entry*>(in.table.data_ptr()),
                      nullptr,
                      const_data<int64_t>(in.levels),
                      const_data<float>(in.level_weights),
                      in.table.size(0),
                      in.n_features,
                      0,
                      in.n_levels};
    kernel.aabb = const_data<float>(in.aabb);
    kernel.is_unbounded = in.is_unbounded;
    kernel.early_stop = in.early_stop;
    kernel.n_rays = march.n_rays;
    kernel.next_ray = reinterpret_cast<unsigned long long*>(mutable_data<int64_t>(next_ray));
    kernel.rgb = mutable_data<float>(rgb);
    kernel.opacity = mutable_data<float>(opacity);
    kernel.depth = mutable_data<float>(depth);
    launch_tiles(march.near, kernel, tile_blocks<TraceHashGrid<Entry>>(march.near, kernel.in));
  });
  return {rgb, opacity, depth};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, library) {
  library.impl("trace_hash_grid", TORCH_BOX(&trace_hash_grid_cuda));
}

}  // namespace dietnerf
