// A multiresolution hash grid (instant-ngp, section 3): mapping a point to the unit cube, and to
// the entries of the table that it touches. Shared by the ops on hash grids.
#pragma once

#include <cmath>

#include "common.h"

namespace dietnerf {

// One row of the `levels` tensor: the grid has `resolution` cells along each axis, and its vertices
// own `n_entries` entries of the table from `offset` on.
struct HashLevel {
  int64_t resolution, offset, n_entries;

  // With an entry for every vertex, nothing is hashed.
  DIETNERF_HD bool is_dense() const {
    const int64_t n_vertices = resolution + 1;
    return n_vertices * n_vertices * n_vertices <= n_entries;
  }
};

// Position of a coordinate in [0, 1] on one axis of a grid: the vertex below, and the fraction of a
// cell above it.
template <typename T>
struct AxisCell {
  uint32_t low;
  T fraction;

  DIETNERF_HD static AxisCell of(T unit, int64_t resolution) {
    const T cells = static_cast<T>(static_cast<int32_t>(resolution)), last = cells - 1;
    const T scaled = unit * cells;
    T inside = scaled > 0 ? scaled : T(0);  // NaN as well, which is no int32_t
    inside = inside < last ? inside : last;
    const int32_t low = static_cast<int32_t>(inside);
    return {static_cast<uint32_t>(low), scaled - static_cast<T>(low)};
  }
};

// The cell of a level that a point of the unit cube lies in. No arrays: they would keep the
// compiler from putting many cells into vector registers.
template <typename T>
struct HashCell {
  AxisCell<T> x, y, z;

  DIETNERF_HD static HashCell of(T unit_x, T unit_y, T unit_z, int64_t resolution) {
    return {AxisCell<T>::of(unit_x, resolution), AxisCell<T>::of(unit_y, resolution),
            AxisCell<T>::of(unit_z, resolution)};
  }

  // Corner 0..7: bit 0 is x, bit 1 y, bit 2 z. Its entry within the level, and its trilinear
  // weight.
  template <bool kDense>
  DIETNERF_HD uint32_t entry(int corner, const HashLevel& level) const {
    const uint32_t i = x.low + (corner & 1), j = y.low + (corner >> 1 & 1),
                   k = z.low + (corner >> 2 & 1);
    if (kDense) {
      const uint32_t n_vertices = static_cast<uint32_t>(level.resolution) + 1;
      return i + n_vertices * (j + n_vertices * k);
    }
    // instant-ngp, eq. 4; n_entries is a power of two.
    return (i ^ j * 2654435761u ^ k * 805459861u) & static_cast<uint32_t>(level.n_entries - 1);
  }

  DIETNERF_HD T weight(int corner) const {
    return (corner & 1 ? x.fraction : 1 - x.fraction) * (corner & 2 ? y.fraction : 1 - y.fraction) *
           (corner & 4 ? z.fraction : 1 - z.fraction);
  }
};

// From scene units to the unit cube. Contracted (mip-NeRF 360, eq. 10, in the maximum norm), the
// box is mapped to the middle half along each axis, and space outside of it to the rest.
template <typename T>
struct UnitCube {
  T center[3], inv_half[3];
  bool contracted;

  // False outside the box of a bounded scene, which is empty there.
  DIETNERF_HD bool map(const T position[3], T unit[3]) const {
    T largest = 0;
    for (int axis = 0; axis < 3; ++axis) {
      unit[axis] = (position[axis] - center[axis]) * inv_half[axis];  // the box is [-1, 1]
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
    return contracted || largest <= 1;
  }
};

// `aabb` is (2, 3) on the CPU or read on the device: the lowest and the highest corner of the
// box.
template <typename T>
DIETNERF_HD UnitCube<T> unit_cube(const T* aabb, bool contracted) {
  UnitCube<T> cube;
  for (int axis = 0; axis < 3; ++axis) {
    cube.center[axis] = (aabb[axis] + aabb[3 + axis]) / 2;
    cube.inv_half[axis] = 2 / (aabb[3 + axis] - aabb[axis]);
  }
  cube.contracted = contracted;
  return cube;
}

}  // namespace dietnerf
