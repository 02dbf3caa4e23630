// Rendering a hash-grid field in one go: what must hold, and what one sample's network output
// means. See dietnerf/ops/render_hash_grid.py for shapes and units.
#pragma once

#include <algorithm>

#include "common.h"
#include "hash_encode.h"
#include "hash_grid.h"
#include "math.h"

namespace dietnerf {

// Density = scale * exp(logit), cut off above so that it stays finite; behind the cut, and far
// below zero, the gradient goes on as if the logit were at +-15, so that no sample is stuck
// (instant-ngp).
struct TruncatedExp {
  float value, slope;

  DIETNERF_HD static TruncatedExp of(float logit, float scale) {
    const float cut = logit > 15.0f ? 15.0f : logit;
    const float kept = cut < -15.0f ? -15.0f : cut;
    return {scale * decay(-cut).kept, scale * decay(-kept).kept};
  }
};

DIETNERF_HD float sigmoid(float x) { return 1.0f / (1.0f + decay(x).kept); }

// Sizes of the two networks. Their matrices stand one after the other in `network`, each (n_out,
// n_in): density hidden and out, then the colour layers; the first of these takes the geometry
// features and then the direction features.
struct NetworkShape {
  int64_t n_encoded, width, n_geometry, n_directions, colour_layers;

  int64_t n_weights() const {
    return width * n_encoded + n_geometry * width + width * (n_geometry + n_directions) +
           (colour_layers - 1) * width * width + 3 * width;
  }
};

struct RenderHashGridInputs {
  Tensor table, levels, level_weights, network, directions, rays_o, rays_d, ts, deltas, ray_offsets,
      bounds;
  NetworkShape shape;
  bool is_unbounded;
  float early_stop;
  int64_t n_rays, n_samples, n_levels, n_features;

  RenderHashGridInputs(const char* op, const Tensor& table_, const Tensor& levels_,
                       const Tensor& level_weights_, const Tensor& network_,
                       const Tensor& directions_, const Tensor& rays_o_, const Tensor& rays_d_,
                       const Tensor& ts_, const Tensor& deltas_, const Tensor& ray_offsets_,
                       const Tensor& bounds_, int64_t width, int64_t n_geometry,
                       int64_t colour_layers, bool is_unbounded_, double early_stop_)
      : table(
            aligned(checked(op, "table", table_, table_, {first_size(table_), last_size(table_)}))),
        levels(checked_levels(op, levels_, table)),
        level_weights(checked(op, "level_weights", level_weights_, ts_, {levels.size(0)})),
        network(checked(op, "network", network_, ts_, {network_.numel()})),
        directions(checked(op, "directions", directions_, ts_,
                           {first_size(rays_o_), last_size(directions_)})),
        rays_o(checked(op, "rays_o", rays_o_, ts_, {first_size(rays_o_), 3})),
        rays_d(checked(op, "rays_d", rays_d_, ts_, {first_size(rays_o_), 3})),
        ts(checked(op, "ts", ts_, ts_, {ts_.numel()})),
        deltas(checked(op, "deltas", deltas_, ts_, {ts_.numel()})),
        ray_offsets(checked_offsets(op, ray_offsets_, ts_, ts_.numel(), Behind::kSpare)),
        bounds(checked_bounds(op, bounds_, ts_)),
        is_unbounded(is_unbounded_),
        early_stop(static_cast<float>(early_stop_)),
        n_rays(rays_o_.size(0)),
        n_samples(ts_.numel()),
        n_levels(levels.size(0)),
        n_features(last_size(table_)) {
    shape = {n_levels * n_features, width, n_geometry, directions.size(1), colour_layers};
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
    check_shape(op);
    check_early_stop(op, early_stop_);
    STD_TORCH_CHECK(network.numel() == shape.n_weights(), op, ": network must hold ",
                    shape.n_weights(), " weights, got ", network.numel());
  }

 private:
  // Sizes whose products are numbers of weights, and not what is left of them in 64 bits.
  void check_shape(const char* op) const {
    constexpr int64_t kWidest = 4096, kMostLayers = 64, kMostDirections = 1 << 20;
    const auto is_width = [](int64_t n) { return n >= 16 && n <= kWidest && n % 16 == 0; };
    STD_TORCH_CHECK(is_width(shape.width) && is_width(shape.n_geometry), op,
                    ": width and n_geometry must be multiples of 16 from 16 to ", kWidest, ", got ",
                    shape.width, " and ", shape.n_geometry);
    STD_TORCH_CHECK(1 <= shape.colour_layers && shape.colour_layers <= kMostLayers, op,
                    ": colour_layers must be from 1 to ", kMostLayers, ", got ",
                    shape.colour_layers);
    STD_TORCH_CHECK(shape.n_directions <= kMostDirections, op, ": n_directions must be at most ",
                    kMostDirections, ", got ", shape.n_directions);
  }
};

}  // namespace dietnerf
