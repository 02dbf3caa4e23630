// Shared by the forward and the backward rendering of a hash-grid field: groups of rays, buffers,
// and the field as plain pointers.
#pragma once

#include <atomic>
#include <cmath>
#include <vector>

#include "../render_hash_grid.h"
#include "composite_kernels.h"
#include "hash_encode_kernels.h"
#include "tiny_mlp.h"

namespace dietnerf::rendering {

// Samples of a ray that are evaluated before its transmittance is tested.
constexpr int64_t kStride = 8;
// Samples that are evaluated together.
constexpr int64_t kPoints = 128;

// Consecutive rays.
struct Group {
  int64_t first, last;
};

// Divides rays into groups of about `n_samples` samples.
inline std::vector<Group> group_rays(const int64_t* ray_offsets, int64_t n_rays,
                                     int64_t n_samples) {
  std::vector<Group> groups;
  int64_t first = 0;
  for (int64_t ray = 1; ray <= n_rays; ++ray) {
    const bool is_full =
        ray < n_rays && ray_offsets[ray + 1] - ray_offsets[first] > n_samples && ray > first;
    if (ray == n_rays || is_full) {
      groups.push_back({first, ray});
      first = ray;
    }
  }
  return groups;
}

// Grows and never shrinks, so that a thread allocates only a few times.
struct Buffer {
  std::vector<float> values;
  float* resize(int64_t n) {
    if (static_cast<int64_t>(values.size()) < n) values.resize(n);
    return values.data();
  }
};

// The field as plain pointers.
struct FieldView {
  const RenderHashGridInputs& in;
  const TinyMLPs& mlps;
  UnitCube<float> cube;
  float density_scale;
  const float *level_weights, *directions, *rays_o, *rays_d, *ts, *deltas;
  const int64_t* ray_offsets;

  FieldView(const RenderHashGridInputs& inputs, const TinyMLPs& networks)
      : in(inputs),
        mlps(networks),
        cube(unit_cube(inputs.aabb.const_data_ptr<float>(), inputs.is_unbounded)),
        density_scale(std::min({cube.inv_half[0], cube.inv_half[1], cube.inv_half[2]})),
        level_weights(inputs.level_weights.const_data_ptr<float>()),
        directions(inputs.directions.const_data_ptr<float>()),
        rays_o(inputs.rays_o.const_data_ptr<float>()),
        rays_d(inputs.rays_d.const_data_ptr<float>()),
        ts(inputs.ts.const_data_ptr<float>()),
        deltas(inputs.deltas.const_data_ptr<float>()),
        ray_offsets(inputs.ray_offsets.const_data_ptr<int64_t>()) {}

  // False if the sample lies in empty space.
  bool unit_position(int64_t ray, int64_t sample, float* unit) const {
    float position[3];
    for (int axis = 0; axis < 3; ++axis) {
      position[axis] = rays_o[3 * ray + axis] + ts[sample] * rays_d[3 * ray + axis];
    }
    return cube.map(position, unit);
  }

  float length_of(int64_t ray) const {
    const float* d = rays_d + 3 * ray;
    return std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
  }

  // The table with points of the unit cube (n, 3).
  template <typename Entry>
  HashTable<Entry> table(const float* units, int64_t n) const {
    return {static_cast<const Entry*>(in.table.data_ptr()),
            units,
            in.levels.const_data_ptr<int64_t>(),
            level_weights,
            in.table.size(0),
            in.n_features,
            n,
            in.n_levels};
  }

  // Encodes points of the unit cube, (n, 3) to (n, n_encoded).
  void encode(const float* units, const Rows& out) const {
    with_half_type("render_hash_grid", in.table, [&](auto zero) {
      using Entry = decltype(zero);
      run(HashEncode<Entry>{table<Entry>(units, out.n), {out.n, in.n_levels}, out.data}, 0, 1);
    });
  }

  // Contribution of the rays' directions to the first color layer, (n_rays, width).
  void from_directions(const Group& group, const Rows& out) const {
    const int64_t n = in.shape.n_directions;
    mlps.multiply({directions + group.first * n, n, 1, mlps.from_directions.forward.data(),
                   in.shape.width, out.data, out.row, out.n, in.shape.width, n, false});
  }
};

}  // namespace dietnerf::rendering
