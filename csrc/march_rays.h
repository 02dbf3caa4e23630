// Samples in the occupied cells of a grid: what must hold, and the march along one ray.
// See dietnerf/ops/march_rays.py for shapes and units.
#pragma once

#include <cmath>
#include <limits>

#include "common.h"

namespace dietnerf {

// Of a ray: as many as float32 counts one by one.
constexpr int32_t kMostIntervals = 1 << 24;

// Cells of level 0 along the axes, counted from the centre of the box.
template <typename T>
struct CellFrame {
  T centre[3], cells_per_unit[3];
  T cell_size;  // longest edge, in scene units

  DIETNERF_HD static CellFrame of(const T* bounds, int32_t resolution) {
    CellFrame frame;
    T longest = 0;
    for (int axis = 0; axis < 3; ++axis) {
      const T low = bounds[axis], high = bounds[3 + axis];
      frame.centre[axis] = (low + high) / 2;
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
  T t_at_centre[3];           // t at which coordinate 0 is crossed, less what rounding may add
  bool is_rising[3];
  T begin, end, dt;  // in units of t; end is before everything where there is nothing to sample
  T cell_size;       // longest edge of a cell of level 0, in units of t

  DIETNERF_HD CellRay(const CellFrame<T>& frame, const T* rays_o, const T* rays_d, T near, T far,
                      T extent, T step)
      : begin(near), end(far) {
    T squares = 0;
    bool is_hit = near < far;
    for (int axis = 0; axis < 3; ++axis) {
      squares += rays_d[axis] * rays_d[axis];
      origin[axis] = (rays_o[axis] - frame.centre[axis]) * frame.cells_per_unit[axis];
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
    // So far from the box that t does not tell intervals apart, they would be counted for hours.
    const bool advances = dt > 0 && dt < kInfinity && begin + dt > begin;
    if (!(is_hit && advances)) end = -kInfinity;
    for (int axis = 0; axis < 3; ++axis) find_walls(axis, extent);
  }

  // A t up to which every point lies between walls: `span` cells of 2^shift from the one of `cell`
  // in each direction, itself included, but none beyond the box of the level.
  DIETNERF_HD T until_wall(const int32_t cell[3], int32_t shift, int32_t span, int32_t resolution,
                           T edge) const {
    const T half = static_cast<T>(resolution) / 2;
    T until = kInfinity;
    for (int axis = 0; axis < 3; ++axis) {
      const int32_t own = cell[axis] >> shift;
      int32_t wall = (is_rising[axis] ? own + span : own + 1 - span) * (1 << shift);
      wall = wall < 0 ? 0 : (wall > resolution ? resolution : wall);
      const T t = (static_cast<T>(wall) - half) * (edge * t_per_cell[axis]) + t_at_centre[axis];
      until = t < until ? t : until;
    }
    return until;
  }

  static constexpr T kInfinity = std::numeric_limits<T>::infinity();

 private:
  DIETNERF_HD void find_walls(int axis, T extent) {
    // Sixteen roundings of the largest numbers on the way from t to a cell and back.
    constexpr T kRounding = 16 * std::numeric_limits<T>::epsilon();
    const T t_largest = std::fabs(begin) > std::fabs(end) ? std::fabs(begin) : std::fabs(end);
    const T slack =
        kRounding * ((std::fabs(origin[axis]) + extent) * std::fabs(t_per_cell[axis]) + t_largest);
    t_at_centre[axis] = -origin[axis] * t_per_cell[axis] - slack;
    if (!(slack < kInfinity)) {
      // Along a zero there is no wall; what is too slow to divide by may be at one at any time.
      t_at_centre[axis] = direction[axis] == 0 ? kInfinity : -kInfinity;
      t_per_cell[axis] = 0;
    }
  }
};

// The cell that holds a point.
template <typename T>
struct Spot {
  int32_t cell[3], level;
  T edge;         // of the level's cells, in cells of level 0
  int32_t leaps;  // what `leaps` says about its block
  bool is_occupied;
};

// How far a ray was followed, so that its samples may be taken one by one.
template <typename T>
struct Walk {
  CellRay<T> ray;
  T share;         // where in their intervals samples stand
  T at;            // number of the next interval; of growing ones its start
  int32_t n_left;  // intervals; of growing ones
};

template <typename T>
struct Marching {
  const T *rays_o, *rays_d;  // (n_rays, 3), (n_rays, 3)
  const T *near, *far;       // (n_rays,), (n_rays,)
  const T* bounds;           // (2, 3)
  const uint8_t* occupied;   // (n_levels, resolution^3 / 8)
  const uint8_t* leaps;      // (n_levels, m, m, m), m = resolution / 8 + 2, or null
  const T* jitter;           // (n_rays,) or null
  int32_t resolution, n_levels;
  T step, cone_angle;

  DIETNERF_HD CellFrame<T> frame() const { return CellFrame<T>::of(bounds, resolution); }

  DIETNERF_HD Walk<T> walk(const CellFrame<T>& frame, int64_t i) const {
    const T extent = half() * static_cast<T>(1 << (n_levels - 1));
    CellRay<T> ray(frame, rays_o + 3 * i, rays_d + 3 * i, near[i], far[i], extent, step);
    const bool is_growing = cone_angle > 0;
    const T farthest = ray.begin + kMostIntervals * ray.dt;
    if (!is_growing && farthest < ray.end) ray.end = farthest;
    const T share = jitter ? jitter[i] : T(0.5);
    // From far in front none would arrive.
    if (!(share >= 0 && share <= 1)) ray.end = -CellRay<T>::kInfinity;
    return {ray, share, is_growing ? ray.begin : T(0), kMostIntervals};
  }

  // Goes on to the next sample of a ray. False at the end of it.
  DIETNERF_HD bool next(Walk<T>& walk, T& t, T& delta) const {
    return cone_angle > 0 ? next_growing(walk, t, delta) : next_even(walk, t, delta);
  }

  // Calls visit(t, delta) for each sample of a ray, in order.
  template <typename Visit>
  DIETNERF_HD void march(const CellFrame<T>& frame, int64_t i, Visit&& visit) const {
    Walk<T> ray = walk(frame, i);
    T t, delta;
    if (cone_angle > 0) {
      while (next_growing(ray, t, delta)) visit(t, delta);
    } else {
      while (next_even(ray, t, delta)) visit(t, delta);
    }
  }

 private:
  DIETNERF_HD T half() const { return static_cast<T>(resolution) / 2; }

  DIETNERF_HD T empty_until(const CellRay<T>& ray, const Spot<T>& spot) const {
    const int32_t shift = spot.leaps ? 3 : 0, span = spot.leaps ? spot.leaps : 1;
    return ray.until_wall(spot.cell, shift, span, resolution, spot.edge);
  }

  DIETNERF_HD bool next_even(Walk<T>& walk, T& t, T& delta) const {
    CellRay<T>& ray = walk.ray;
    const T per_dt = 1 / ray.dt;
    for (;;) {
      const T k = walk.at;  // a floating number counts far enough, and need not be converted
      t = ray.begin + k * ray.dt + walk.share * ray.dt;
      if (!(t < ray.end)) return false;
      const Spot<T> spot = look(ray, t, T(0));
      T next = k + 1;
      if (!spot.is_occupied) {
        const T outside = std::ceil((empty_until(ray, spot) - ray.begin) * per_dt - walk.share);
        next = outside > next ? outside : next;
      }
      if (!(next > k)) ray.end = -CellRay<T>::kInfinity;  // there is no further one
      walk.at = next;
      if (spot.is_occupied) {
        delta = ray.dt;
        return true;
      }
    }
  }

  DIETNERF_HD bool next_growing(Walk<T>& walk, T& t, T& delta) const {
    CellRay<T>& ray = walk.ray;
    T start = walk.at, interval = longer(ray.dt, cone_angle * start);
    T at = start + walk.share * interval;
    while (at < ray.end) {
      const Spot<T> spot = look(ray, at, interval);
      T until = at, longest = 0;
      if (spot.is_occupied) {
        t = at;
        delta = interval;
      } else {
        until = empty_until(ray, spot);
        longest = spot.level + 1 < n_levels ? ray.cell_size * spot.edge : CellRay<T>::kInfinity;
      }
      do {
        const T next = start + interval;
        const bool is_last = !(next > start) || --walk.n_left == 0;
        if (is_last) ray.end = -CellRay<T>::kInfinity;
        start = next;
        interval = longer(ray.dt, cone_angle * start);
        at = start + walk.share * interval;
      } while (at < until && at < ray.end && interval <= longest);
      if (spot.is_occupied) {
        walk.at = start;
        return true;
      }
    }
    return false;
  }

  DIETNERF_HD static T longer(T a, T b) { return a > b ? a : b; }

  DIETNERF_HD Spot<T> look(const CellRay<T>& ray, T t, T interval) const {
    T place[3];
    for (int axis = 0; axis < 3; ++axis) place[axis] = ray.origin[axis] + t * ray.direction[axis];
    Spot<T> spot;
    spot.level = 0;
    spot.edge = 1;
    if (n_levels > 1) {
      const T farthest =
          longer(longer(std::fabs(place[0]), std::fabs(place[1])), std::fabs(place[2]));
      while (spot.level + 1 < n_levels &&
             (half() * spot.edge < farthest || ray.cell_size * spot.edge < interval)) {
        ++spot.level;
        spot.edge *= 2;
      }
      for (int axis = 0; axis < 3; ++axis) place[axis] /= spot.edge;
    }
    for (int axis = 0; axis < 3; ++axis) {
      const T cell = place[axis] + half(), last = static_cast<T>(resolution - 1);
      const T inside = cell > 0 ? cell : T(0);  // NaN as well, which is no int32_t
      spot.cell[axis] = static_cast<int32_t>(inside < last ? inside : last);
    }
    spot.leaps = leaps_from(spot.level, spot.cell);
    spot.is_occupied = spot.leaps == 0 && is_occupied(spot.level, spot.cell);
    return spot;
  }

  // A block of 8^3 cells is 0 where one of them is occupied or belongs to the next smaller level,
  // and else n if that is so for none of the blocks less than n away in any direction. Around the
  // blocks of a level stand others, so that what makes them need not look for the border.
  DIETNERF_HD int32_t leaps_from(int32_t level, const int32_t cell[3]) const {
    if (!leaps) return 0;
    const int32_t m = (resolution >> 3) + 2;
    const int32_t x = (cell[0] >> 3) + 1, y = (cell[1] >> 3) + 1, z = (cell[2] >> 3) + 1;
    return leaps[((level * m + z) * m + y) * m + x];
  }

  DIETNERF_HD bool is_occupied(int32_t level, const int32_t cell[3]) const {
    const int64_t row = (static_cast<int64_t>(level) * resolution + cell[2]) * resolution + cell[1];
    return occupied[row * (resolution >> 3) + (cell[0] >> 3)] >> (cell[0] & 7) & 1;
  }
};

struct MarchRaysInputs {
  Tensor rays_o, rays_d, near, far, bounds, occupied;
  OptionalTensor jitter;
  int64_t resolution, n_levels, n_rays;
  double step, cone_angle;
  std::optional<int64_t> capacity;

  MarchRaysInputs(const Tensor& rays_o_, const Tensor& rays_d_, const Tensor& near_,
                  const Tensor& far_, const Tensor& bounds_, const Tensor& occupied_,
                  int64_t resolution_, double step_, double cone_angle_,
                  const OptionalTensor& jitter_, std::optional<int64_t> capacity_)
      : rays_o(checked(kOp, "rays_o", rays_o_, near_, {near_.numel(), 3})),
        rays_d(checked(kOp, "rays_d", rays_d_, near_, {near_.numel(), 3})),
        near(checked(kOp, "near", near_, near_, {near_.numel()})),
        far(checked(kOp, "far", far_, near_, {near_.numel()})),
        bounds(checked_bounds(kOp, bounds_, near_)),
        occupied(contiguous_bytes(occupied_)),
        jitter(checked(kOp, "jitter", jitter_, near_, {near_.numel()})),
        resolution(resolution_),
        n_levels(occupied_.dim() ? occupied_.size(0) : 0),
        n_rays(near_.numel()),
        step(step_),
        cone_angle(cone_angle_),
        capacity(capacity_) {
    STD_TORCH_CHECK(resolution >= 8 && resolution % 8 == 0 && resolution <= 1024, kOp,
                    ": resolution must be a multiple of 8 from 8 to 1024, got ", resolution);
    const int64_t n_bytes = resolution * resolution * resolution / 8;
    STD_TORCH_CHECK(
        occupied.dim() == 2 && occupied.size(1) == n_bytes && n_levels >= 1 && n_levels <= 16, kOp,
        ": occupied must be (n_levels, ", n_bytes, ") with 1 to 16 levels");
    STD_TORCH_CHECK(occupied.device() == near.device(), kOp,
                    ": occupied must be on the device of the other arguments");
    STD_TORCH_CHECK(step > 0, kOp, ": step must be positive, got ", step);
    STD_TORCH_CHECK(cone_angle >= 0, kOp, ": cone_angle must not be negative, got ", cone_angle);
    check_step();
    STD_TORCH_CHECK(!capacity || *capacity >= 0, kOp, ": capacity must not be negative, got ",
                    capacity.value_or(0));
  }

  template <typename T>
  Marching<T> as(const uint8_t* leaps) const {
    return {readable<T>(rays_o),
            readable<T>(rays_d),
            readable<T>(near),
            readable<T>(far),
            readable<T>(bounds),
            readable<uint8_t>(occupied),
            leaps,
            readable<T>(jitter),
            static_cast<int32_t>(resolution),
            static_cast<int32_t>(n_levels),
            static_cast<T>(step),
            static_cast<T>(cone_angle)};
  }

  static constexpr const char* kOp = "march_rays";

 private:
  static Tensor contiguous_bytes(const Tensor& occupied) {
    check_memory(kOp, "occupied", occupied);
    STD_TORCH_CHECK(occupied.scalar_type() == ScalarType::Byte, kOp, ": occupied must be uint8");
    return occupied.is_contiguous() ? occupied : torch::stable::contiguous(occupied);
  }

  // A march in smaller steps would take hours. On a GPU, where the box is not looked at, rays end.
  void check_step() const {
    if (!bounds.is_cpu()) return;
    with_floating_type(kOp, bounds, [&](auto zero) {
      const auto* corners = bounds.const_data_ptr<decltype(zero)>();
      double sizes[3];
      for (int axis = 0; axis < 3; ++axis) {
        sizes[axis] = static_cast<double>(corners[3 + axis]) - static_cast<double>(corners[axis]);
      }
      // Those that grow are long by the time that they leave the first box.
      const double enlarged = cone_angle > 0 ? 1 : 1 << (n_levels - 1);
      const double least = enlarged * std::hypot(sizes[0], sizes[1], sizes[2]) / kMostIntervals;
      STD_TORCH_CHECK(step >= least, kOp, ": step must be at least ", least,
                      ", which divides the box into 2^24, got ", step);
    });
  }
};

// Rays keep their samples until there is no room for those of one of them.
struct Fitting {
  int64_t capacity;

  // With offsets that end behind each ray, (n_rays + 1,): where those end that fit.
  DIETNERF_HD int64_t last(const int64_t* wanted, int64_t n_rays) const {
    int64_t low = 0,
            high = n_rays + 1;  // what stands before `low` fits, from `high` on it does not
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (wanted[middle] <= capacity) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return wanted[low - 1];
  }
};

struct MarchedSamples {
  Tensor ts, deltas;  // (n_samples,), (n_samples,)

  // With a capacity there is room for so many, zeros at first.
  MarchedSamples(const Tensor& like, int64_t n_samples, std::optional<int64_t> capacity)
      : ts(capacity ? zeros_sized(like, {fitting(*capacity)})
                    : empty_sized(like, {fitting(n_samples)})),
        deltas(capacity ? zeros_sized(like, {*capacity}) : empty_sized(like, {n_samples})) {}

 private:
  static int64_t fitting(int64_t n_samples) {
    STD_TORCH_CHECK(n_samples <= std::numeric_limits<int32_t>::max(), "march_rays: ", n_samples,
                    " samples are more than can be indexed; march fewer rays at once or take a "
                    "larger step");
    return n_samples;
  }
};

}  // namespace dietnerf
