// Rendering a hash-grid field in one go: input checks, and what one sample's network output
// means. See dietnerf/ops/render_hash_grid.py for shapes and units.
#pragma once

#include <algorithm>

#include "common.h"
#include "composite.h"
#include "hash_encode.h"
#include "hash_grid.h"
#include "math.h"

namespace dietnerf {

// Density = scale * exp(logit), clamped above so that it stays finite; beyond +-15 the gradient is
// that at +-15, so that no sample is stuck (instant-ngp).
struct TruncatedExp {
  float value, slope;

  DIETNERF_HD static TruncatedExp of(float logit, float scale) {
    const float cut = logit > 15.0f ? 15.0f : logit;
    const float clamped = cut < -15.0f ? -15.0f : cut;
    return {scale * decay(-cut).transmitted, scale * decay(-clamped).transmitted};
  }
};

DIETNERF_HD float sigmoid(float x) { return 1.0f / (1.0f + decay(x).transmitted); }

// Sizes of the two networks. Their matrices are concatenated in `network`, each (n_out,
// n_in): density hidden and out, then the color layers; the first of these takes the geometry
// features and then the direction features.
struct NetworkShape {
  int64_t n_encoded, width, n_geometry, n_directions, color_layers;

  int64_t n_weights() const {
    return width * n_encoded + n_geometry * width + width * (n_geometry + n_directions) +
           (color_layers - 1) * width * width + 3 * width;
  }
};

// The arguments that the fused ops share: the field and the rays, see HashGridArgs in
// dietnerf/ops/_arguments.py.
struct HashGridArgs {
  Tensor table, levels, level_weights, network, directions, rays_o, rays_d, aabb;
  int64_t width, n_geometry, color_layers;
  bool is_unbounded;
  double early_stop;
};

struct RenderHashGridInputs {
  Tensor table, levels, level_weights, network, directions, rays_o, rays_d, ts, deltas, ray_offsets,
      aabb;
  NetworkShape shape;
  bool is_unbounded;
  float early_stop;
  int64_t n_rays, n_samples, n_levels, n_features;

  RenderHashGridInputs(const char* op, const HashGridArgs& args, const Tensor& ts_,
                       const Tensor& deltas_, const Tensor& ray_offsets_)
      : table(aligned(check_tensor(op, "table", args.table, args.table,
                                   {first_size(args.table), last_size(args.table)}))),
        levels(check_levels(op, args.levels, table)),
        level_weights(check_tensor(op, "level_weights", args.level_weights, ts_, {levels.size(0)})),
        network(check_tensor(op, "network", args.network, ts_, {args.network.numel()})),
        directions(check_tensor(op, "directions", args.directions, ts_,
                                {first_size(args.rays_o), last_size(args.directions)})),
        rays_o(check_tensor(op, "rays_o", args.rays_o, ts_, {first_size(args.rays_o), 3})),
        rays_d(check_tensor(op, "rays_d", args.rays_d, ts_, {first_size(args.rays_o), 3})),
        ts(check_tensor(op, "ts", ts_, ts_, {ts_.numel()})),
        deltas(check_tensor(op, "deltas", deltas_, ts_, {ts_.numel()})),
        ray_offsets(check_offsets(op, ray_offsets_, ts_, ts_.numel(), Padding::kTrailing)),
        aabb(check_aabb(op, args.aabb, ts_)),
        is_unbounded(args.is_unbounded),
        early_stop(static_cast<float>(args.early_stop)),
        n_rays(args.rays_o.size(0)),
        n_samples(ts_.numel()),
        n_levels(levels.size(0)),
        n_features(last_size(args.table)) {
    shape = {n_levels * n_features, args.width, args.n_geometry, directions.size(1),
             args.color_layers};
    check_early_stop(op, args.early_stop);
    check_shape(op);
    check_field(op);
  }

 private:
  void check_field(const char* op) const {
    STD_TORCH_CHECK(ts.scalar_type() == ScalarType::Float, op, ": ts must be float32");
    const ScalarType stored = table.scalar_type();
    STD_TORCH_CHECK(
        stored == ScalarType::Float || stored == ScalarType::Half || stored == ScalarType::BFloat16,
        op, ": table must be float32, float16 or bfloat16");
    STD_TORCH_CHECK(n_features == 1 || n_features == 2 || n_features == 4 || n_features == 8, op,
                    ": table must be (n_entries, 1, 2, 4 or 8)");
    STD_TORCH_CHECK(table.device() == ts.device(), op,
                    ": table must be on the device of the other arguments");
    STD_TORCH_CHECK(ray_offsets.size(0) == n_rays + 1, op, ": ray_offsets must be (n_rays+1,)");
    STD_TORCH_CHECK(network.numel() == shape.n_weights(), op, ": network must hold ",
                    shape.n_weights(), " weights, got ", network.numel());
  }

  // Bounds the sizes, so that their products do not overflow 64 bits.
  void check_shape(const char* op) const {
    constexpr int64_t kMaxWidth = 4096, kMaxColorLayers = 64, kMaxDirections = 1 << 20;
    const auto is_width = [](int64_t n) { return n >= 16 && n <= kMaxWidth && n % 16 == 0; };
    STD_TORCH_CHECK(is_width(shape.width) && is_width(shape.n_geometry), op,
                    ": width and n_geometry must be multiples of 16 from 16 to ", kMaxWidth,
                    ", got ", shape.width, " and ", shape.n_geometry);
    STD_TORCH_CHECK(1 <= shape.color_layers && shape.color_layers <= kMaxColorLayers, op,
                    ": color_layers must be from 1 to ", kMaxColorLayers, ", got ",
                    shape.color_layers);
    STD_TORCH_CHECK(shape.n_directions <= kMaxDirections, op, ": n_directions must be at most ",
                    kMaxDirections, ", got ", shape.n_directions);
  }
};

// Outputs of the forward op that the backward op takes.
struct RenderSaved {
  Tensor weights, trans, encoded, rgbs;
};

// The op on the device of `Renderer`, which has a forward and a backward on checked inputs.
template <typename Renderer>
struct RenderHashGridOp {
  static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> forward(
      Tensor table, Tensor levels, Tensor level_weights, Tensor network, Tensor directions,
      Tensor rays_o, Tensor rays_d, Tensor aabb, int64_t width, int64_t n_geometry,
      int64_t color_layers, bool is_unbounded, double early_stop, Tensor ts, Tensor deltas,
      Tensor ray_offsets, bool saves_samples) {
    const HashGridArgs args{table,        levels,       level_weights, network, directions,
                            rays_o,       rays_d,       aabb,          width,   n_geometry,
                            color_layers, is_unbounded, early_stop};
    const RenderHashGridInputs in("render_hash_grid", args, ts, deltas, ray_offsets);
    return Renderer::forward(in, saves_samples);
  }

  static std::tuple<Tensor, Tensor, Tensor> backward(
      int64_t output_mask, OptionalTensor grad_weights, OptionalTensor grad_rgb,
      OptionalTensor grad_opacity, OptionalTensor grad_depth, OptionalTensor grad_trans,
      OptionalTensor /*grad_encoded*/, OptionalTensor /*grad_rgbs*/, Tensor weights, Tensor trans,
      Tensor encoded, Tensor rgbs, Tensor table, Tensor levels, Tensor level_weights,
      Tensor network, Tensor directions, Tensor rays_o, Tensor rays_d, Tensor aabb, int64_t width,
      int64_t n_geometry, int64_t color_layers, bool is_unbounded, double early_stop, Tensor ts,
      Tensor deltas, Tensor ray_offsets, bool /*saves_samples*/) {
    const HashGridArgs args{table,        levels,       level_weights, network, directions,
                            rays_o,       rays_d,       aabb,          width,   n_geometry,
                            color_layers, is_unbounded, early_stop};
    const RenderHashGridInputs in("render_hash_grid_backward", args, ts, deltas, ray_offsets);
    return Renderer::backward(in, output_mask,
                              {grad_weights, grad_rgb, grad_opacity, grad_depth, grad_trans},
                              {weights, trans, encoded, rgbs});
  }

  static void register_kernels(torch::stable::detail::StableLibrary& library) {
    library.impl("render_hash_grid", TORCH_BOX(&RenderHashGridOp::forward));
    library.impl("render_hash_grid_backward", TORCH_BOX(&RenderHashGridOp::backward));
  }
};

}  // namespace dietnerf
