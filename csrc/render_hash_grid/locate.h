// Position and density scale of each sample of a hash-grid field on a GPU.
#pragma once

#include "../hash_grid.h"

namespace dietnerf {

// Computes of each sample: its ray, its position in the unit cube, the scale of its density, and
// the length of its interval in scene units.
struct LocateSamples {
  const float *rays_o, *rays_d, *ts, *deltas, *aabb;
  const int64_t* ray_offsets;
  int64_t n_rays;
  bool is_unbounded;
  int32_t* rays;
  float *units, *scales, *lengths;  // (n_samples, 3), (n_samples,), (n_samples,)

  DIETNERF_HD void operator()(int64_t sample) const {
    if (sample >= ray_offsets[n_rays]) {
      write_padding(sample);
      return;
    }
    int64_t low = 0, high = n_rays;  // bounds of the last ray that begins at or before the sample
    while (high - low > 1) {
      const int64_t middle = (low + high) / 2;
      (ray_offsets[middle] <= sample ? low : high) = middle;
    }
    const float* d = rays_d + 3 * low;
    float position[3];
    for (int axis = 0; axis < 3; ++axis) {
      position[axis] = rays_o[3 * low + axis] + ts[sample] * d[axis];
    }
    const UnitCube<float> cube = unit_cube(aabb, is_unbounded);
    const bool is_inside = cube.map(position, units + 3 * sample);
    const float* inv = cube.inv_half;
    const float least = inv[0] < inv[1] ? inv[0] : inv[1];
    scales[sample] = is_inside ? (least < inv[2] ? least : inv[2]) : 0.0f;
    lengths[sample] = deltas[sample] * sqrtf(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
    rays[sample] = static_cast<int32_t>(low);
  }

  // A sample of no ray: no density, and no gradient.
  DIETNERF_HD void write_padding(int64_t sample) const {
    for (int axis = 0; axis < 3; ++axis) units[3 * sample + axis] = 0;
    scales[sample] = lengths[sample] = 0;
    rays[sample] = -1;  // not 0: there may be none
  }
};

}  // namespace dietnerf
