// The kernel of csrc/trace_hash_grid.h on the CPU.
#include "host_block.h"

#include "csrc/trace_hash_grid.h"

struct TraceArguments {
  int64_t width, n_geometry, n_directions, color_layers, n_rays, n_blocks, n_entries, n_features,
      n_levels, resolution, n_grids;
  double step, cone_angle, early_stop;
  int64_t is_unbounded;
  const float *table, *level_weights, *network, *directions, *rays_o, *rays_d, *near, *far, *aabb,
      *grid_aabb;
  const int64_t* levels;
  const uint8_t* occupied;
};

extern "C" void trace(const TraceArguments* a, float* rgb, float* opacity, float* depth) {
  unsigned long long next_ray = 0;
  TraceHashGrid<float> kernel{};
  kernel.in.layers = TileLayers::of(
      {a->n_levels * a->n_features, a->width, a->n_geometry, a->n_directions, a->color_layers});
  kernel.memory = TraceMemory::of(kernel.in.layers);
  kernel.in.memory = kernel.memory.tiles;
  kernel.in.network = a->network;
  kernel.in.directions = a->directions;
  kernel.marcher = {a->rays_o,
                    a->rays_d,
                    a->near,
                    a->far,
                    a->grid_aabb,
                    a->occupied,
                    nullptr,
                    nullptr,
                    static_cast<int32_t>(a->resolution),
                    static_cast<int32_t>(a->n_grids),
                    static_cast<float>(a->step),
                    static_cast<float>(a->cone_angle)};
  kernel.grid.in = {a->table,     nullptr,       a->levels, a->level_weights,
                    a->n_entries, a->n_features, 0,         a->n_levels};
  kernel.aabb = a->aabb;
  kernel.is_unbounded = a->is_unbounded != 0;
  kernel.early_stop = static_cast<float>(a->early_stop);
  kernel.n_rays = a->n_rays;
  kernel.next_ray = &next_ray;
  kernel.rgb = rgb;
  kernel.opacity = opacity;
  kernel.depth = depth;
  run_blocks(kernel, a->n_blocks);
}
