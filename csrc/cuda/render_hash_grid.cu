// Rendering a hash-grid field on a GPU: what is known of the samples, their encoding, the networks
// in tiles, and compositing, one kernel each.
#include "../render_hash_grid.h"

#include "../composite.h"
#include "launch.cuh"
#include "tile_block.cuh"

namespace dietnerf {

// Of each sample: its ray, its place in the unit cube, the scale of its density, and the length of
// its interval in scene units.
struct PlaceSamples {
  const float *rays_o, *rays_d, *ts, *deltas, *bounds;
  const int64_t* ray_offsets;
  int64_t n_rays;
  bool is_unbounded;
  int32_t* rays;
  float *units, *scales, *lengths;  // (n_samples, 3), (n_samples,), (n_samples,)

  DIETNERF_HD void operator()(int64_t sample) const {
    if (sample >= ray_offsets[n_rays]) {
      belongs_to_none(sample);
      return;
    }
    int64_t low = 0, high = n_rays;  // the last ray that does not begin behind the sample
    while (high - low > 1) {
      const int64_t middle = (low + high) / 2;
      (ray_offsets[middle] <= sample ? low : high) = middle;
    }
    const float* d = rays_d + 3 * low;
    float position[3];
    for (int axis = 0; axis < 3; ++axis) {
      position[axis] = rays_o[3 * low + axis] + ts[sample] * d[axis];
    }
    const UnitCube<float> cube = unit_cube(bounds, is_unbounded);
    const bool is_inside = cube.map(position, units + 3 * sample);
    const float* inv = cube.inv_half;
    const float least = inv[0] < inv[1] ? inv[0] : inv[1];
    scales[sample] = is_inside ? (least < inv[2] ? least : inv[2]) : 0.0f;
    lengths[sample] = deltas[sample] * sqrtf(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
    rays[sample] = static_cast<int32_t>(low);
  }

  // Where there is nothing, nothing is found, and no gradient comes back.
  DIETNERF_HD void belongs_to_none(int64_t sample) const {
    for (int axis = 0; axis < 3; ++axis) units[3 * sample + axis] = 0;
    scales[sample] = lengths[sample] = 0;
    rays[sample] = -1;  // not 0: there may be none
  }
};

namespace {

// Samples with what does not depend on the field's parameters.
struct Placed {
  Tensor rays, units, scales, lengths;

  explicit Placed(const RenderHashGridInputs& in)
      : rays(torch::stable::new_empty(in.ts, {in.n_samples}, ScalarType::Int)),
        units(empty_sized(in.ts, {in.n_samples, 3})),
        scales(empty_sized(in.ts, {in.n_samples})),
        lengths(empty_sized(in.ts, {in.n_samples})) {
    STD_TORCH_CHECK(in.shape.colour_layers + 3 <= kMaxLayers, "render_hash_grid: at most ",
                    kMaxLayers - 3, " colour layers on a GPU, got ", in.shape.colour_layers);
    const SpreadOverThreads spread{in.ts};
    spread(PlaceSamples{readable<float>(in.rays_o), readable<float>(in.rays_d),
                        readable<float>(in.ts), readable<float>(in.deltas),
                        readable<float>(in.bounds), readable<int64_t>(in.ray_offsets), in.n_rays,
                        in.is_unbounded, writable<int32_t>(rays), writable<float>(units),
                        writable<float>(scales), writable<float>(lengths)},
           in.n_samples);
  }

  template <typename Entry>
  HashTable<Entry> table(const RenderHashGridInputs& in) const {
    return {static_cast<const Entry*>(in.table.data_ptr()),
            readable<float>(units),
            readable<int64_t>(in.levels),
            readable<float>(in.level_weights),
            in.table.size(0),
            in.n_features,
            in.n_samples,
            in.n_levels};
  }

  TileInputs tiles(const RenderHashGridInputs& in, const Tensor& encoded, bool is_backward) const {
    TileInputs tiles{};
    tiles.layers = TileLayers::of(in.shape);
    tiles.memory = TileMemory::of(tiles.layers, is_backward);
    tiles.network = readable<float>(in.network);
    tiles.encoded = readable<float>(encoded);
    tiles.directions = readable<float>(in.directions);
    tiles.rays = readable<int32_t>(rays);
    tiles.scales = readable<float>(scales);
    tiles.n_samples = in.n_samples;
    return tiles;
  }
};

struct Answers {
  Tensor sigmas, rgbs;

  Answers(const RenderHashGridInputs& in, const Placed& placed, const Tensor& encoded)
      : sigmas(empty_sized(in.ts, {in.n_samples})), rgbs(empty_sized(in.ts, {in.n_samples, 3})) {
    const TileForward job{placed.tiles(in, encoded, false), writable<float>(sigmas),
                          writable<float>(rgbs)};
    spread_tiles(in.ts, job, tile_blocks<TileForward>(in.ts, job.in));
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> render_hash_grid_cuda(
    Tensor table, Tensor levels, Tensor level_weights, Tensor network, Tensor directions,
    Tensor rays_o, Tensor rays_d, Tensor ts, Tensor deltas, Tensor ray_offsets, Tensor bounds,
    int64_t width, int64_t n_geometry, int64_t colour_layers, bool is_unbounded, double early_stop,
    bool keeps_samples) {
  const char* op = "render_hash_grid";
  const RenderHashGridInputs in(op, table, levels, level_weights, network, directions, rays_o,
                                rays_d, ts, deltas, ray_offsets, bounds, width, n_geometry,
                                colour_layers, is_unbounded, early_stop);
  const SpreadOverThreads spread{in.ts};
  const Placed placed(in);
  const Tensor encoded = empty_sized(in.ts, {in.n_samples, in.shape.n_encoded});
  with_half_type(op, in.table, [&](auto zero) {
    using Entry = decltype(zero);
    spread(HashEncode<Entry>{placed.table<Entry>(in), kOneByOne, writable<float>(encoded)},
           kOneByOne.count(in.n_samples, in.n_levels));
  });
  const Answers answers(in, placed, encoded);
  const auto [weights, rgb, opacity, depth, trans] = composite(
      spread,
      CompositeInputs(op, answers.sigmas, answers.rgbs, placed.lengths, in.ts, in.ray_offsets),
      early_stop);
  if (keeps_samples) return {weights, rgb, opacity, depth, trans, encoded, answers.rgbs};
  return {weights,
          rgb,
          opacity,
          depth,
          trans,
          empty_sized(in.ts, {0, in.shape.n_encoded}),
          empty_sized(in.ts, {0, 3})};
}

std::tuple<Tensor, Tensor, Tensor> render_hash_grid_backward_cuda(
    int64_t wanted, OptionalTensor grad_weights, OptionalTensor grad_rgb,
    OptionalTensor grad_opacity, OptionalTensor grad_depth, OptionalTensor grad_trans,
    OptionalTensor /*grad_encoded*/, OptionalTensor /*grad_rgbs*/, Tensor weights, Tensor trans,
    Tensor encoded, Tensor rgbs, Tensor table, Tensor levels, Tensor level_weights, Tensor network,
    Tensor directions, Tensor rays_o, Tensor rays_d, Tensor ts, Tensor deltas, Tensor ray_offsets,
    Tensor bounds, int64_t width, int64_t n_geometry, int64_t colour_layers, bool is_unbounded,
    double early_stop, bool keeps_samples) {
  const char* op = "render_hash_grid_backward";
  const RenderHashGridInputs in(op, table, levels, level_weights, network, directions, rays_o,
                                rays_d, ts, deltas, ray_offsets, bounds, width, n_geometry,
                                colour_layers, is_unbounded, early_stop);
  const SpreadOverThreads spread{in.ts};
  const Placed placed(in);
  const Tensor encoded_ =
      checked(op, "encoded", encoded, in.ts, {in.n_samples, in.shape.n_encoded});
  // No gradient in the lengths is wanted, for which alone densities would be read.
  const CompositeInputs composited(op, placed.lengths, rgbs, placed.lengths, in.ts, in.ray_offsets);
  const auto [grad_sigmas, grad_rgbs, grad_deltas, grad_ts] =
      composite_backward(spread, 3, {grad_weights, grad_rgb, grad_opacity, grad_depth, grad_trans},
                         weights, trans, composited, early_stop);

  const TileInputs tiles = placed.tiles(in, encoded_, true);
  const int64_t n_blocks = tile_blocks<TileBackward>(in.ts, tiles);
  const Tensor grad_encoded = empty_sized(in.ts, {in.n_samples, in.shape.n_encoded});
  const Tensor grad_directions =
      zeros_sized(in.ts, {wanted & 4 ? in.n_rays : 0, in.shape.n_directions});
  const Tensor parts = zeros_sized(in.ts, {n_blocks, tiles.layers.n_padded});
  spread_tiles(in.ts,
               TileBackward{tiles, readable<float>(grad_sigmas), readable<float>(grad_rgbs),
                            writable<float>(grad_encoded), writable<float>(grad_directions),
                            writable<float>(parts)},
               n_blocks);
  const Tensor grad_network = empty_sized(in.ts, {in.network.numel()});
  spread(SumNetworks{tiles.layers, readable<float>(parts), n_blocks, writable<float>(grad_network)},
         in.network.numel());

  const Tensor grad_table = zeros_sized(in.ts, {in.table.size(0), in.n_features});
  with_half_type(op, in.table, [&](auto zero) {
    using Entry = decltype(zero);
    spread(
        HashEncodeTableBackward<Entry>{placed.table<Entry>(in), kOneByOne,
                                       readable<float>(grad_encoded), writable<float>(grad_table)},
        kOneByOne.count(in.n_samples, in.n_levels));
  });
  return {torch::stable::to(grad_table, in.table.scalar_type()), grad_network, grad_directions};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, m) {
  m.impl("render_hash_grid", TORCH_BOX(&render_hash_grid_cuda));
  m.impl("render_hash_grid_backward", TORCH_BOX(&render_hash_grid_backward_cuda));
}

}  // namespace dietnerf
