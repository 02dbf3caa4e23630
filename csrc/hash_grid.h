// A multiresolution hash grid (instant-ngp, section 3): where a point lies in the unit cube, and
// which entries of the table it touches. Shared by the ops that read one.
#pragma once

#include <cmath>

#include "common.h"

namespace dietnerf {

// One row of the `levels` tensor: the grid has `resolution` cells along each axis, and its vertices
// own `n_entries` entries of the table from `offset` on.
struct HashLevel {
  int64_t resolution, offset, n_entries;

  // Where there is an entry for every vertex, nothing is hashed.
  DIETNERF_HD bool is_dense() const {
    const int64_t n_vertices = resolution + 1;
    return n_vertices * n_vertices * n_vertices <= n_entries;
  }
};

// The cell of a level that a point of the unit cube lies in: its lowest vertex, and where in it.
template <typename T>
struct HashCell {
  uint32_t low[3];
  T fraction[3];

  DIETNERF_HD static HashCell of(const T unit[3], int64_t resolution) {
    HashCell cell;
    for (int axis = 0; axis < 3; ++axis) {
      const T scaled = unit[axis] * static_cast<T>(resolution);
      int32_t low = static_cast<int32_t>(scaled);
      low = low < 0 ? 0 : low;
      low = low > resolution - 1 ? static_cast<int32_t>(resolution - 1) : low;
      cell.low[axis] = static_cast<uint32_t>(low);
      cell.fraction[axis] = scaled - static_cast<T>(low);
    }
    return cell;
  }

  // Corner 0..7: bit 0 is x, bit 1 y, bit 2 z. Its entry within the level, and its trilinear
  // weight.
  template <bool kDense>
  DIETNERF_HD uint32_t entry(int corner, const HashLevel& level) const {
    const uint32_t x = low[0] + (corner & 1), y = low[1] + (corner >> 1 & 1),
                   z = low[2] + (corner >> 2 & 1);
    if (kDense) {
      const uint32_t n_vertices = static_cast<uint32_t>(level.resolution) + 1;
      return x + n_vertices * (y + n_vertices * z);
    }
    // instant-ngp, eq. 4; n_entries is a power of two.
    return (x ^ y * 2654435761u ^ z * 805459861u) & static_cast<uint32_t>(level.n_entries - 1);
  }

  DIETNERF_HD T weight(int corner) const {
    const T x = corner & 1 ? fraction[0] : 1 - fraction[0];
    const T y = corner & 2 ? fraction[1] : 1 - fraction[1];
    const T z = corner & 4 ? fraction[2] : 1 - fraction[2];
    return x * y * z;
  }
};

// From scene units into the unit cube. Contracted (mip-NeRF 360, eq. 10, in the maximum norm), the
// box takes the middle half along each axis and everything outside it the rest.
template <typename T>
struct UnitCube {
  T centre[3], inv_half[3];
  bool contracted;

  DIETNERF_HD void map(const T position[3], T unit[3]) const {
    T largest = 0;
    for (int axis = 0; axis < 3; ++axis) {
      unit[axis] = (position[axis] - centre[axis]) * inv_half[axis];  // the box is [-1, 1]
      const T size = unit[axis] < 0 ? -unit[axis] : unit[axis];
      largest = size > largest ? size : largest;
    }
    T scale = T(0.5);
    if (contracted) {
      scale = largest > 1 ? (2 - 1 / largest) / largest : T(1);
      scale *= T(0.25);
    }
    for (int axis = 0; axis < 3; ++axis) {
      const T value = unit[axis] * scale + T(0.5);
      unit[axis] = value < 0 ? T(0) : (value > 1 ? T(1) : value);
    }
  }
};

// `bounds` is (2, 3) on the CPU or read on the device: the lowest and the highest corner of the
// box.
template <typename T>
DIETNERF_HD UnitCube<T> unit_cube(const T* bounds, bool contracted) {
  UnitCube<T> cube;
  for (int axis = 0; axis < 3; ++axis) {
    cube.centre[axis] = (bounds[axis] + bounds[3 + axis]) / 2;
    cube.inv_half[axis] = 2 / (bounds[3 + axis] - bounds[axis]);
  }
  cube.contracted = contracted;
  return cube;
}

}  // namespace dietnerf
