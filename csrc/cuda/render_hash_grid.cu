// Rendering a hash-grid field on a GPU: locating samples, encoding, the networks in tiles, and
// compositing, one kernel each.
#include "../composite.h"
#include "../render_hash_grid.h"
#include "../render_hash_grid/locate.h"
#include "launch.cuh"
#include "tile_block.cuh"

namespace dietnerf {

namespace {

// The samples, with everything that does not depend on the field's parameters.
struct LocatedSamples {
  Tensor rays, units, scales, lengths;

  explicit LocatedSamples(const RenderHashGridInputs& in)
      : rays(torch::stable::new_empty(in.ts, {in.n_samples}, ScalarType::Int)),
        units(empty_sized(in.ts, {in.n_samples, 3})),
        scales(empty_sized(in.ts, {in.n_samples})),
        lengths(empty_sized(in.ts, {in.n_samples})) {
    STD_TORCH_CHECK(in.shape.color_layers + 3 <= kMaxLayers, "render_hash_grid: at most ",
                    kMaxLayers - 3, " color layers on a GPU, got ", in.shape.color_layers);
    const CudaLauncher launch(in.ts);
    launch(LocateSamples{const_data<float>(in.rays_o), const_data<float>(in.rays_d),
                         const_data<float>(in.ts), const_data<float>(in.deltas),
                         const_data<float>(in.aabb), const_data<int64_t>(in.ray_offsets), in.n_rays,
                         in.is_unbounded, mutable_data<int32_t>(rays), mutable_data<float>(units),
                         mutable_data<float>(scales), mutable_data<float>(lengths)},
           in.n_samples);
  }

  template <typename Entry>
  HashTable<Entry> table(const RenderHashGridInputs& in) const {
    return {static_cast<const Entry*>(in.table.data_ptr()),
            const_data<float>(units),
            const_data<int64_t>(in.levels),
            const_data<float>(in.level_weights),
            in.table.size(0),
            in.n_features,
            in.n_samples,
            in.n_levels};
  }

  TileInputs tiles(const RenderHashGridInputs& in, const Tensor& encoded, bool is_backward) const {
    TileInputs tiles{};
    tiles.layers = TileLayers::of(in.shape);
    tiles.memory = TileMemory::of(tiles.layers, is_backward);
    tiles.network = const_data<float>(in.network);
    tiles.encoded = const_data<float>(encoded);
    tiles.directions = const_data<float>(in.directions);
    tiles.rays = const_data<int32_t>(rays);
    tiles.scales = const_data<float>(scales);
    tiles.n_samples = in.n_samples;
    return tiles;
  }
};

struct MlpOutputs {
  Tensor sigmas, rgbs;

  MlpOutputs(const RenderHashGridInputs& in, const LocatedSamples& samples, const Tensor& encoded)
      : sigmas(empty_sized(in.ts, {in.n_samples})), rgbs(empty_sized(in.ts, {in.n_samples, 3})) {
    const TileForward kernel{samples.tiles(in, encoded, false), mutable_data<float>(sigmas),
                             mutable_data<float>(rgbs)};
    launch_tiles(in.ts, kernel, tile_blocks<TileForward>(in.ts, kernel.in));
  }
};

struct CudaRenderer {
  static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> forward(
      const RenderHashGridInputs& in, bool saves_samples) {
    const char* op = "render_hash_grid";
    const CudaLauncher launch(in.ts);
    const LocatedSamples samples(in);
    const Tensor encoded = empty_sized(in.ts, {in.n_samples, in.shape.n_encoded});
    with_half_type(op, in.table, [&](auto zero) {
      using Entry = decltype(zero);
      launch(
          HashEncode<Entry>{samples.table<Entry>(in), kOnePerThread, mutable_data<float>(encoded)},
          kOnePerThread.count(in.n_samples, in.n_levels));
    });
    const MlpOutputs outputs(in, samples, encoded);
    const CompositeInputs composited(op, outputs.sigmas, outputs.rgbs, samples.lengths, in.ts,
                                     in.ray_offsets);
    const auto [weights, rgb, opacity, depth, trans] = composite(launch, composited, in.early_stop);
    const Tensor saved = saves_samples ? encoded : empty_sized(in.ts, {0, in.shape.n_encoded});
    const Tensor saved_rgbs = saves_samples ? outputs.rgbs : empty_sized(in.ts, {0, 3});
    return {weights, rgb, opacity, depth, trans, saved, saved_rgbs};
  }

  static std::tuple<Tensor, Tensor, Tensor> backward(const RenderHashGridInputs& in,
                                                     int64_t output_mask,
                                                     const CompositeGrads& grads,
                                                     const RenderSaved& saved) {
    const char* op = "render_hash_grid_backward";
    const CudaLauncher launch(in.ts);
    const LocatedSamples samples(in);
    const Tensor encoded =
        check_tensor(op, "encoded", saved.encoded, in.ts, {in.n_samples, in.shape.n_encoded});
    // The gradient of the lengths is not computed, which alone would read densities.
    const CompositeInputs composited(op, samples.lengths, saved.rgbs, samples.lengths, in.ts,
                                     in.ray_offsets);
    const auto [grad_sigmas, grad_rgbs, grad_deltas, grad_ts] =
        composite_backward(launch, 3, grads, saved.weights, saved.trans, composited, in.early_stop);

    const TileInputs tiles = samples.tiles(in, encoded, true);
    const int64_t n_blocks = tile_blocks<TileBackward>(in.ts, tiles);
    const Tensor grad_encoded = empty_sized(in.ts, {in.n_samples, in.shape.n_encoded});
    const Tensor grad_directions =
        zeros_sized(in.ts, {output_mask & 4 ? in.n_rays : 0, in.shape.n_directions});
    const Tensor parts = zeros_sized(in.ts, {n_blocks, tiles.layers.n_padded});
    launch_tiles(in.ts,
                 TileBackward{tiles, const_data<float>(grad_sigmas), const_data<float>(grad_rgbs),
                              mutable_data<float>(grad_encoded),
                              mutable_data<float>(grad_directions), mutable_data<float>(parts)},
                 n_blocks);
    const Tensor grad_network = empty_sized(in.ts, {in.network.numel()});
    launch(SumNetworks{tiles.layers, const_data<float>(parts), n_blocks,
                       mutable_data<float>(grad_network)},
           in.network.numel());
    return {table_grad(in, samples, grad_encoded), grad_network, grad_directions};
  }

 private:
  static Tensor table_grad(const RenderHashGridInputs& in, const LocatedSamples& samples,
                           const Tensor& grad_encoded) {
    const Tensor grad_table = zeros_sized(in.ts, {in.table.size(0), in.n_features});
    with_half_type("render_hash_grid_backward", in.table, [&](auto zero) {
      using Entry = decltype(zero);
      CudaLauncher(in.ts)(HashEncodeTableBackward<Entry>{samples.table<Entry>(in), kOnePerThread,
                                                         const_data<float>(grad_encoded),
                                                         mutable_data<float>(grad_table)},
                          kOnePerThread.count(in.n_samples, in.n_levels));
    });
    return torch::stable::to(grad_table, in.table.scalar_type());
  }
};

}  // namespace

}  // namespace dietnerf

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, library) {
  dietnerf::RenderHashGridOp<dietnerf::CudaRenderer>::register_kernels(library);
}
