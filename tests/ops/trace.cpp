// The kernel of csrc/trace_hash_grid.h on the CPU.
#include "host_block.h"

#include "csrc/trace_hash_grid.h"

struct TraceArguments {
  int64_t width, n_geometry, n_directions, colour_layers, n_rays, n_blocks, n_entries, n_features,
      n_levels, resolution, n_grids;
  double step, cone_angle, early_stop;
  int64_t is_unbounded;
  const float *table, *level_weights, *network, *directions, *rays_o, *rays_d, *near, *far, *bounds,
      *grid_bounds;
  const int64_t* levels;
  const uint8_t* occupied;
};

extern "C" void trace(const TraceArguments* a, float* rgb, float* opacity, float* depth) {
  unsigned long long next_ray = 0;
  TraceHashGrid<float> job{};
  job.in.layers = TileLayers::of(
      {a->n_levels * a->n_features, a->width, a->n_geometry, a->n_directions, a->colour_layers});
  job.memory = TraceMemory::of(job.in.layers);
  job.in.memory = job.memory.tiles;
  job.in.network = a->network;
  job.in.directions = a->directions;
  job.marching = {a->rays_o,
                  a->rays_d,
                  a->near,
                  a->far,
                  a->grid_bounds,
                  a->occupied,
                  nullptr,
                  nullptr,
                  static_cast<int32_t>(a->resolution),
                  static_cast<int32_t>(a->n_grids),
                  static_cast<float>(a->step),
                  static_cast<float>(a->cone_angle)};
  job.grid.in = {a->table,     nullptr,       a->levels, a->level_weights,
                 a->n_entries, a->n_features, 0,         a->n_levels};
  job.bounds = a->bounds;
  job.is_unbounded = a->is_unbounded != 0;
  job.early_stop = static_cast<float>(a->early_stop);
  job.n_rays = a->n_rays;
  job.next_ray = &next_ray;
  job.rgb = rgb;
  job.opacity = opacity;
  job.depth = depth;
  run_blocks(job, a->n_blocks);
}
