// Samples in the occupied cells of a grid: input checks and outputs. See
// dietnerf/ops/march_rays.py for shapes and units.
#pragma once

#include "march_rays/marcher.h"

namespace dietnerf {

struct MarchRaysInputs {
  Tensor rays_o, rays_d, near, far, aabb, occupied;
  OptionalTensor jitter;
  int64_t resolution, n_levels, n_rays;
  double step, cone_angle;
  std::optional<int64_t> capacity;

  MarchRaysInputs(const Tensor& rays_o_, const Tensor& rays_d_, const Tensor& near_,
                  const Tensor& far_, const Tensor& bounds_, const Tensor& occupied_,
                  int64_t resolution_, double step_, double cone_angle_,
                  const OptionalTensor& jitter_, std::optional<int64_t> capacity_)
      : rays_o(check_tensor(kOp, "rays_o", rays_o_, near_, {near_.numel(), 3})),
        rays_d(check_tensor(kOp, "rays_d", rays_d_, near_, {near_.numel(), 3})),
        near(check_tensor(kOp, "near", near_, near_, {near_.numel()})),
        far(check_tensor(kOp, "far", far_, near_, {near_.numel()})),
        aabb(check_aabb(kOp, bounds_, near_)),
        occupied(contiguous_bytes(occupied_)),
        jitter(check_tensor(kOp, "jitter", jitter_, near_, {near_.numel()})),
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
  OccupancyMarcher<T> marcher(const uint8_t* skip_distances) const {
    return {const_data<T>(rays_o),
            const_data<T>(rays_d),
            const_data<T>(near),
            const_data<T>(far),
            const_data<T>(aabb),
            const_data<uint8_t>(occupied),
            skip_distances,
            const_data<T>(jitter),
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

  // Smaller steps would take hours. The box is not read on a GPU, where rays end by their count.
  void check_step() const {
    if (!aabb.is_cpu()) return;
    with_floating_type(kOp, aabb, [&](auto zero) {
      const auto* corners = aabb.const_data_ptr<decltype(zero)>();
      double sizes[3];
      for (int axis = 0; axis < 3; ++axis) {
        sizes[axis] = static_cast<double>(corners[3 + axis]) - static_cast<double>(corners[axis]);
      }
      // Growing intervals are long by the time they leave the first box.
      const double enlarged = cone_angle > 0 ? 1 : 1 << (n_levels - 1);
      const double least = enlarged * std::hypot(sizes[0], sizes[1], sizes[2]) / kMaxIntervals;
      STD_TORCH_CHECK(step >= least, kOp, ": step must be at least ", least,
                      ", which divides the box into 2^24, got ", step);
    });
  }
};

struct MarchOutputs {
  Tensor ts, deltas;  // (n_samples,), (n_samples,)

  // Of the size of the capacity if there is one, and zero then.
  MarchOutputs(const Tensor& like, int64_t n_samples, std::optional<int64_t> capacity)
      : ts(capacity ? zeros_sized(like, {check_count(*capacity)})
                    : empty_sized(like, {check_count(n_samples)})),
        deltas(capacity ? zeros_sized(like, {*capacity}) : empty_sized(like, {n_samples})) {}

 private:
  static int64_t check_count(int64_t n_samples) {
    STD_TORCH_CHECK(n_samples <= std::numeric_limits<int32_t>::max(), "march_rays: ", n_samples,
                    " samples are more than can be indexed; march fewer rays at once or take a "
                    "larger step");
    return n_samples;
  }
};

}  // namespace dietnerf
