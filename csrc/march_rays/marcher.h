// The march along one ray through nested occupancy grids. See dietnerf/ops/march_rays.py for shapes
// and units.
//
// t is the distance along a ray in units of its direction. Positions are in cells of level 0,
// counted from the center of the box; `edge` is the size of a level's cells in that unit.
#pragma once

#include <cmath>
#include <limits>

#include "../common.h"

namespace dietnerf {

// Intervals of a ray, at most: float32 counts no further.
constexpr int32_t kMaxIntervals = 1 << 24;

// Coordinates in cells of level 0 along each axis, from the center of the box.
template <typename T>
struct CellFrame {
  T center[3], cells_per_unit[3];
  T cell_size;  // longest edge, in scene units

  DIETNERF_HD static CellFrame of(const T* aabb, int32_t resolution) {
    CellFrame frame;
    T longest = 0;
    for (int axis = 0; axis < 3; ++axis) {
      const T low = aabb[axis], high = aabb[3 + axis];
      frame.center[axis] = (low + high) / 2;
      frame.cells_per_unit[axis] = static_cast<T>(resolution) / (high - low);
      longest = high - low > longest ? high - low : longest;
    }
    frame.cell_size = longest / static_cast<T>(resolution);
    return frame;
  }
};

template <typename T>
struct CellRay {
  T origin[3], direction[3];  // in the frame; the direction per unit of t
  T t_per_cell[3];            // along each axis
  T t_at_center[3];           // t at which coordinate 0 is crossed, less a bound on rounding
  bool is_rising[3];
  T begin, end, dt;  // in units of t; end is -infinity if there is nothing to sample
  T cell_size;       // longest edge of a cell of level 0, in units of t

  DIETNERF_HD CellRay(const CellFrame<T>& frame, const T* rays_o, const T* rays_d, T near, T far,
                      T extent, T step)
      : begin(near), end(far) {
    T squares = 0;
    bool is_hit = near < far;
    for (int axis = 0; axis < 3; ++axis) {
      squares += rays_d[axis] * rays_d[axis];
      origin[axis] = (rays_o[axis] - frame.center[axis]) * frame.cells_per_unit[axis];
      direction[axis] = rays_d[axis] * frame.cells_per_unit[axis];
      t_per_cell[axis] = 1 / direction[axis];
      is_rising[axis] = direction[axis] > 0;
      if (direction[axis] == 0) {
        is_hit = is_hit && std::fabs(origin[axis]) <= extent;
        continue;
      }
      const T low = (-extent - origin[axis]) * t_per_cell[axis];
      const T high = (extent - origin[axis]) * t_per_cell[axis];
      const T enter = is_rising[axis] ? low : high, leave = is_rising[axis] ? high : low;
      is_hit = is_hit && enter <= leave;  // false for NaN
      begin = enter > begin ? enter : begin;
      end = leave < end ? leave : end;
    }
    const T norm = std::sqrt(squares);
    dt = step / norm;
    cell_size = frame.cell_size / norm;
    // So far from the box that t does not resolve an interval, the march would take hours.
    const bool advances = dt > 0 && dt < kInfinity && begin + dt > begin;
    if (!(is_hit && advances)) end = -kInfinity;
    for (int axis = 0; axis < 3; ++axis) init_walls(axis, extent);
  }

  // The t at which the ray leaves the cells around `cell`: `span` blocks of 2^shift cells in each
  // direction, its own included, clipped to the box of the level.
  DIETNERF_HD T until_wall(const int32_t cell[3], int32_t shift, int32_t span, int32_t resolution,
                           T edge) const {
    const T half = static_cast<T>(resolution) / 2;
    T until = kInfinity;
    for (int axis = 0; axis < 3; ++axis) {
      const int32_t own = cell[axis] >> shift;
      int32_t wall = (is_rising[axis] ? own + span : own + 1 - span) * (1 << shift);
      wall = wall < 0 ? 0 : (wall > resolution ? resolution : wall);
      const T t = (static_cast<T>(wall) - half) * (edge * t_per_cell[axis]) + t_at_center[axis];
      until = t < until ? t : until;
    }
    return until;
  }

  static constexpr T kInfinity = std::numeric_limits<T>::infinity();

 private:
  DIETNERF_HD void init_walls(int axis, T extent) {
    // Sixteen rounding errors of the largest numbers in the conversion from t to a cell and back.
    constexpr T kRounding = 16 * std::numeric_limits<T>::epsilon();
    const T t_largest = std::fabs(begin) > std::fabs(end) ? std::fabs(begin) : std::fabs(end);
    const T slack =
        kRounding * ((std::fabs(origin[axis]) + extent) * std::fabs(t_per_cell[axis]) + t_largest);
    t_at_center[axis] = -origin[axis] * t_per_cell[axis] - slack;
    if (!(slack < kInfinity)) {
      // A direction of zero meets no wall; one too small to divide by may meet one at any t.
      t_at_center[axis] = direction[axis] == 0 ? kInfinity : -kInfinity;
      t_per_cell[axis] = 0;
    }
  }
};

// The cell that contains a point.
template <typename T>
struct VoxelQuery {
  int32_t cell[3], level;
  T edge;                 // of the level's cells, in cells of level 0
  int32_t skip_distance;  // of its block, see OccupancyMarcher::skip_distance
  bool is_occupied;
};

// Progress of a march, which returns one sample at a time.
template <typename T>
struct MarchState {
  CellRay<T> ray;
  T fraction;      // position of samples within their intervals
  T next;          // index of the next interval; with growing intervals its start
  int32_t n_left;  // intervals; only counted if they grow
};

template <typename T>
struct OccupancyMarcher {
  const T *rays_o, *rays_d;       // (n_rays, 3), (n_rays, 3)
  const T *near, *far;            // (n_rays,), (n_rays,)
  const T* aabb;                  // (2, 3)
  const uint8_t* occupied;        // (n_levels, resolution^3 / 8)
  const uint8_t* skip_distances;  // (n_levels, m, m, m), m = resolution / 8 + 2, or null
  const T* jitter;                // (n_rays,) or null
  int32_t resolution, n_levels;
  T step, cone_angle;

  DIETNERF_HD CellFrame<T> frame() const { return CellFrame<T>::of(aabb, resolution); }

  DIETNERF_HD MarchState<T> start(const CellFrame<T>& frame, int64_t i) const {
    const T extent = half() * static_cast<T>(1 << (n_levels - 1));
    CellRay<T> ray(frame, rays_o + 3 * i, rays_d + 3 * i, near[i], far[i], extent, step);
    const bool is_growing = cone_angle > 0;
    const T farthest = ray.begin + kMaxIntervals * ray.dt;
    if (!is_growing && farthest < ray.end) ray.end = farthest;
    const T fraction = jitter ? jitter[i] : T(0.5);
    // A march from far in front of the box would not arrive.
    if (!(fraction >= 0 && fraction <= 1)) ray.end = -CellRay<T>::kInfinity;
    return {ray, fraction, is_growing ? ray.begin : T(0), kMaxIntervals};
  }

  // Advances to the next sample of a ray; false at its end.
  DIETNERF_HD bool next(MarchState<T>& state, T& t, T& delta) const {
    return cone_angle > 0 ? next_growing(state, t, delta) : next_even(state, t, delta);
  }

  // Calls visit(t, delta) for each sample of a ray, in order.
  template <typename Visit>
  DIETNERF_HD void march(const CellFrame<T>& frame, int64_t i, Visit&& visit) const {
    MarchState<T> state = start(frame, i);
    T t, delta;
    if (cone_angle > 0) {
      while (next_growing(state, t, delta)) visit(t, delta);
    } else {
      while (next_even(state, t, delta)) visit(t, delta);
    }
  }

 private:
  DIETNERF_HD T half() const { return static_cast<T>(resolution) / 2; }

  DIETNERF_HD T empty_until(const CellRay<T>& ray, const VoxelQuery<T>& voxel) const {
    const int32_t shift = voxel.skip_distance ? 3 : 0,
                  span = voxel.skip_distance ? voxel.skip_distance : 1;
    return ray.until_wall(voxel.cell, shift, span, resolution, voxel.edge);
  }

  DIETNERF_HD bool next_even(MarchState<T>& state, T& t, T& delta) const {
    CellRay<T>& ray = state.ray;
    const T per_dt = 1 / ray.dt;
    for (;;) {
      const T k = state.next;  // floating point counts far enough and needs no conversion
      t = ray.begin + k * ray.dt + state.fraction * ray.dt;
      if (!(t < ray.end)) return false;
      const VoxelQuery<T> voxel = query(ray, t, T(0));
      T next = k + 1;
      if (!voxel.is_occupied) {
        const T outside =
            std::ceil((empty_until(ray, voxel) - ray.begin) * per_dt - state.fraction);
        next = outside > next ? outside : next;
      }
      if (!(next > k)) ray.end = -CellRay<T>::kInfinity;  // there is none after it
      state.next = next;
      if (voxel.is_occupied) {
        delta = ray.dt;
        return true;
      }
    }
  }

  DIETNERF_HD bool next_growing(MarchState<T>& state, T& t, T& delta) const {
    CellRay<T>& ray = state.ray;
    T begin = state.next, interval = longer(ray.dt, cone_angle * begin);
    T candidate = begin + state.fraction * interval;
    while (candidate < ray.end) {
      const VoxelQuery<T> voxel = query(ray, candidate, interval);
      T until = candidate, longest = 0;
      if (voxel.is_occupied) {
        t = candidate;
        delta = interval;
      } else {
        until = empty_until(ray, voxel);
        longest = voxel.level + 1 < n_levels ? ray.cell_size * voxel.edge : CellRay<T>::kInfinity;
      }
      do {
        const T next = begin + interval;
        const bool is_last = !(next > begin) || --state.n_left == 0;
        if (is_last) ray.end = -CellRay<T>::kInfinity;
        begin = next;
        interval = longer(ray.dt, cone_angle * begin);
        candidate = begin + state.fraction * interval;
      } while (candidate < until && candidate < ray.end && interval <= longest);
      if (voxel.is_occupied) {
        state.next = begin;
        return true;
      }
    }
    return false;
  }

  DIETNERF_HD static T longer(T a, T b) { return a > b ? a : b; }

  DIETNERF_HD VoxelQuery<T> query(const CellRay<T>& ray, T t, T interval) const {
    T position[3];
    for (int axis = 0; axis < 3; ++axis)
      position[axis] = ray.origin[axis] + t * ray.direction[axis];
    VoxelQuery<T> voxel;
    voxel.level = 0;
    voxel.edge = 1;
    if (n_levels > 1) {
      const T farthest =
          longer(longer(std::fabs(position[0]), std::fabs(position[1])), std::fabs(position[2]));
      while (voxel.level + 1 < n_levels &&
             (half() * voxel.edge < farthest || ray.cell_size * voxel.edge < interval)) {
        ++voxel.level;
        voxel.edge *= 2;
      }
      for (int axis = 0; axis < 3; ++axis) position[axis] /= voxel.edge;
    }
    for (int axis = 0; axis < 3; ++axis) {
      const T cell = position[axis] + half(), last = static_cast<T>(resolution - 1);
      const T inside = cell > 0 ? cell : T(0);  // NaN as well, which is no int32_t
      voxel.cell[axis] = static_cast<int32_t>(inside < last ? inside : last);
    }
    voxel.skip_distance = skip_distance(voxel.level, voxel.cell);
    voxel.is_occupied = voxel.skip_distance == 0 && is_occupied(voxel.level, voxel.cell);
    return voxel;
  }

  // Of the block of 8^3 cells around a cell: 0 if one of them is occupied or covered by the next
  // smaller level, and otherwise n if the same holds for no block less than n away in any
  // direction. The blocks of a level have a border of empty ones, so that computing it needs no
  // bounds checks.
  DIETNERF_HD int32_t skip_distance(int32_t level, const int32_t cell[3]) const {
    if (!skip_distances) return 0;
    const int32_t m = (resolution >> 3) + 2;
    const int32_t x = (cell[0] >> 3) + 1, y = (cell[1] >> 3) + 1, z = (cell[2] >> 3) + 1;
    return skip_distances[((level * m + z) * m + y) * m + x];
  }

  DIETNERF_HD bool is_occupied(int32_t level, const int32_t cell[3]) const {
    const int64_t row = (static_cast<int64_t>(level) * resolution + cell[2]) * resolution + cell[1];
    return occupied[row * (resolution >> 3) + (cell[0] >> 3)] >> (cell[0] & 7) & 1;
  }
};

// Rays keep their samples up to the first ray whose samples exceed the capacity.
struct CapacityLimit {
  int64_t capacity;

  // The end of the last ray that fits, given the ends of all, (n_rays + 1,).
  DIETNERF_HD int64_t last(const int64_t* sample_ends, int64_t n_rays) const {
    int64_t low = 0, high = n_rays + 1;  // ends before `low` fit, those from `high` on do not
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (sample_ends[middle] <= capacity) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return sample_ends[low - 1];
  }
};

}  // namespace dietnerf
