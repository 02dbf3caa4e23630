// Projection of Gaussians: input checks, and the mathematics of one Gaussian, forward and backward.
// See dietnerf/ops/project_gaussians.py for the formulas, shapes and units.
#pragma once

#include "common.h"
#include "project_gaussians/ellipse.h"

namespace dietnerf {

template <typename T>
struct ProjectGaussians {
  const T *means, *log_scales, *quaternions;  // (n, 3), (n, 3), (n, 4)
  projecting::Camera<T> camera;
  T *centers, *conics, *depths, *radii, *compensation;  // (n, 2), (n, 3), then (n,) each

  DIETNERF_HD void operator()(int64_t i) const {
    const projecting::Projected<T> found(camera, means + 3 * i, log_scales + 3 * i,
                                         quaternions + 4 * i);
    const bool shown = found.is_visible(camera);
    centers[2 * i] = shown ? found.center[0] : T(0);
    centers[2 * i + 1] = shown ? found.center[1] : T(0);
    for (int k = 0; k < 3; ++k) conics[3 * i + k] = shown ? found.conic[k] : T(0);
    depths[i] = shown ? found.point[2] : T(0);
    radii[i] = shown ? found.radius() : T(0);
    compensation[i] = shown ? found.compensation : T(0);
  }
};

template <typename T>
struct ProjectGaussiansBackward {
  // Null if there is none: (n, 2), (n, 3), (n,), (n,)
  const T *grad_centers, *grad_conics, *grad_depths, *grad_compensation;
  const T* radii;                             // output of the forward
  const T *means, *log_scales, *quaternions;  // (n, 3), (n, 3), (n, 4)
  projecting::Camera<T> camera;
  // Null if not computed: (n, 3), (n, 3), (n, 4), and what each Gaussian adds to that of c2w,
  // (n, 12). All others are zero already.
  T *grad_means, *grad_log_scales, *grad_quaternions, *grad_poses;

  DIETNERF_HD void operator()(int64_t i) const {
    if (!(radii[i] > 0)) return;
    const projecting::Projected<T> found(camera, means + 3 * i, log_scales + 3 * i,
                                         quaternions + 4 * i);
    projecting::EllipseGrads<T> grads{};
    if (grad_centers) {
      grads.center[0] = grad_centers[2 * i];
      grads.center[1] = grad_centers[2 * i + 1];
    }
    if (grad_conics) {
      for (int k = 0; k < 3; ++k) grads.conic[k] = grad_conics[3 * i + k];
    }
    if (grad_depths) grads.depth = grad_depths[i];
    if (grad_compensation) grads.compensation = grad_compensation[i];
    const projecting::GaussianGrads<T> out(camera, found, grads);
    for (int k = 0; k < 3; ++k) {
      if (grad_means) grad_means[3 * i + k] = out.mean[k];
      if (grad_log_scales) grad_log_scales[3 * i + k] = out.log_scale[k];
    }
    for (int k = 0; k < 4; ++k) {
      if (grad_quaternions) grad_quaternions[4 * i + k] = out.quaternion[k];
    }
    for (int k = 0; k < 12; ++k) {
      if (grad_poses) grad_poses[12 * i + k] = out.c2w[k];
    }
  }
};

// Sums of up to kRows rows of 12, in order: a thread for each of the columns of each chunk.
template <typename T>
struct SumPoses {
  static constexpr int64_t kRows = 512;

  const T* rows;  // (n, 12)
  int64_t n;
  T* sums;  // (n_chunks, 12)

  static int64_t n_chunks(int64_t n) { return (n + kRows - 1) / kRows; }

  DIETNERF_HD void operator()(int64_t i) const {
    const int64_t begin = i / 12 * kRows, end = begin + kRows < n ? begin + kRows : n;
    T sum = 0;
    for (int64_t row = begin; row < end; ++row) sum += rows[12 * row + i % 12];
    sums[i] = sum;
  }
};

struct ProjectInputs {
  Tensor means, log_scales, quaternions, c2w, focal, center;
  int64_t n, width, height;
  double near, blur;
  bool antialias;

  ProjectInputs(const char* op, const Tensor& means_, const Tensor& log_scales_,
                const Tensor& quaternions_, const Tensor& c2w_, const Tensor& focal_,
                const Tensor& center_, int64_t width_, int64_t height_, double near_, double blur_,
                bool antialias_)
      : means(check_tensor(op, "means", means_, means_, {first_size(means_), 3})),
        log_scales(check_tensor(op, "log_scales", log_scales_, means, {means.size(0), 3})),
        quaternions(check_tensor(op, "quaternions", quaternions_, means, {means.size(0), 4})),
        c2w(check_tensor(op, "c2w", c2w_, means, {3, 4})),
        focal(check_tensor(op, "focal", focal_, means, {2})),
        center(check_tensor(op, "center", center_, means, {2})),
        n(means.size(0)),
        width(width_),
        height(height_),
        near(near_),
        blur(blur_),
        antialias(antialias_) {
    STD_TORCH_CHECK(width >= 1 && height >= 1, op, ": width and height must be at least 1, got ",
                    width, " and ", height);
    STD_TORCH_CHECK(near >= 0 && std::isfinite(near), op, ": near must be at least 0, got ", near);
    STD_TORCH_CHECK(blur >= 0 && std::isfinite(blur), op, ": blur must be at least 0, got ", blur);
  }

  template <typename T>
  projecting::Camera<T> camera() const {
    return {
        const_data<T>(c2w),     const_data<T>(focal), const_data<T>(center), static_cast<T>(width),
        static_cast<T>(height), static_cast<T>(near), static_cast<T>(blur),  antialias};
  }
};

using ProjectOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// `launch(kernel, n)` calls kernel(i) for every Gaussian on the launcher's device.
template <typename Launcher>
ProjectOutputs project_gaussians(const Launcher& launch, const ProjectInputs& in) {
  const Tensor centers = empty_sized(in.means, {in.n, 2});
  const Tensor conics = empty_sized(in.means, {in.n, 3});
  const Tensor depths = empty_sized(in.means, {in.n}), radii = empty_sized(in.means, {in.n});
  const Tensor compensation = empty_sized(in.means, {in.n});
  with_floating_type("project_gaussians", in.means, [&](auto zero) {
    using T = decltype(zero);
    launch(
        ProjectGaussians<T>{const_data<T>(in.means), const_data<T>(in.log_scales),
                            const_data<T>(in.quaternions), in.camera<T>(), mutable_data<T>(centers),
                            mutable_data<T>(conics), mutable_data<T>(depths),
                            mutable_data<T>(radii), mutable_data<T>(compensation)},
        in.n);
  });
  return {centers, conics, depths, radii, compensation};
}

struct ProjectGrads {
  OptionalTensor centers, conics, depths, compensation;
};

template <typename Launcher>
std::tuple<Tensor, Tensor, Tensor, Tensor> project_gaussians_backward(const Launcher& launch,
                                                                      int64_t output_mask,
                                                                      const ProjectGrads& grads,
                                                                      const Tensor& radii_,
                                                                      const ProjectInputs& in) {
  const char* op = "project_gaussians_backward";
  const auto centers = check_tensor(op, "grad_centers", grads.centers, in.means, {in.n, 2});
  const auto conics = check_tensor(op, "grad_conics", grads.conics, in.means, {in.n, 3});
  const auto depths = check_tensor(op, "grad_depths", grads.depths, in.means, {in.n});
  const auto compensation =
      check_tensor(op, "grad_compensation", grads.compensation, in.means, {in.n});
  const Tensor radii = check_tensor(op, "radii", radii_, in.means, {in.n});
  const auto gradient = [&](int bit, int64_t n_columns) {
    return output_mask >> bit & 1 ? zeros_sized(in.means, {in.n, n_columns})
                                  : empty_sized(in.means, {0});
  };
  const Tensor means = gradient(0, 3), log_scales = gradient(1, 3), quaternions = gradient(2, 4);
  Tensor poses = gradient(3, 12);
  with_floating_type(op, in.means, [&](auto zero) {
    using T = decltype(zero);
    launch(ProjectGaussiansBackward<T>{const_data<T>(centers), const_data<T>(conics),
                                       const_data<T>(depths), const_data<T>(compensation),
                                       const_data<T>(radii), const_data<T>(in.means),
                                       const_data<T>(in.log_scales), const_data<T>(in.quaternions),
                                       in.camera<T>(), mutable_data<T>(means),
                                       mutable_data<T>(log_scales), mutable_data<T>(quaternions),
                                       mutable_data<T>(poses)},
           in.n);
    while (poses.numel() > 12) {
      const int64_t n = poses.size(0), n_chunks = SumPoses<T>::n_chunks(n);
      const Tensor sums = empty_sized(in.means, {n_chunks, 12});
      launch(SumPoses<T>{const_data<T>(poses), n, mutable_data<T>(sums)}, 12 * n_chunks);
      poses = sums;
    }
  });
  if (!(output_mask >> 3 & 1)) return {means, log_scales, quaternions, poses};
  if (in.n == 0) return {means, log_scales, quaternions, zeros_sized(in.means, {3, 4})};
  return {means, log_scales, quaternions, torch::stable::view(poses, {3, 4})};
}

// The op on the device of `Launcher`: csrc/cpu/parallel_for.h or csrc/cuda/launch.cuh.
template <typename Launcher>
struct ProjectGaussiansOp {
  static ProjectOutputs forward(Tensor means, Tensor log_scales, Tensor quaternions, Tensor c2w,
                                Tensor focal, Tensor center, int64_t width, int64_t height,
                                double near, double blur, bool antialias) {
    const ProjectInputs in("project_gaussians", means, log_scales, quaternions, c2w, focal, center,
                           width, height, near, blur, antialias);
    return project_gaussians(Launcher(in.means, kWork * in.n), in);
  }

  static std::tuple<Tensor, Tensor, Tensor, Tensor> backward(
      int64_t output_mask, OptionalTensor grad_centers, OptionalTensor grad_conics,
      OptionalTensor grad_depths, OptionalTensor /*grad_radii*/, OptionalTensor grad_compensation,
      Tensor radii, Tensor means, Tensor log_scales, Tensor quaternions, Tensor c2w, Tensor focal,
      Tensor center, int64_t width, int64_t height, double near, double blur, bool antialias) {
    const ProjectInputs in("project_gaussians_backward", means, log_scales, quaternions, c2w, focal,
                           center, width, height, near, blur, antialias);
    return project_gaussians_backward(Launcher(in.means, kWork * in.n), output_mask,
                                      {grad_centers, grad_conics, grad_depths, grad_compensation},
                                      radii, in);
  }

  static void register_kernels(torch::stable::detail::StableLibrary& library) {
    library.impl("project_gaussians", TORCH_BOX(&ProjectGaussiansOp::forward));
    library.impl("project_gaussians_backward", TORCH_BOX(&ProjectGaussiansOp::backward));
  }

 private:
  static constexpr int64_t kWork = 16;  // of a Gaussian, in samples of a ray
};

}  // namespace dietnerf
