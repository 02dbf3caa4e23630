// Stratified distances: input checks, and the mathematics of one ray.
// See dietnerf/ops/sample_stratified.py for shapes and units.
#pragma once

#include <limits>

#include "common.h"

namespace dietnerf {

// A distance z and how it moves with near and far.
template <typename T>
struct Distance {
  T z, by_near, by_far;
};

template <typename T>
DIETNERF_HD Distance<T> between(const Distance<T>& a, const Distance<T>& b, T fraction) {
  return {a.z + (b.z - a.z) * fraction, a.by_near + (b.by_near - a.by_near) * fraction,
          a.by_far + (b.by_far - a.by_far) * fraction};
}

template <typename T>
struct Stratification {
  const T *near, *far;  // (n_rays,), (n_rays,)
  RayOffsets ray_offsets;
  const T* jitter;  // (n_samples,) or null
  bool lindisp;

  DIETNERF_HD Distance<T> even(int64_t ray, int64_t k, int64_t count) const {
    const T s = count == 1 ? T(0.5) : static_cast<T>(k) / static_cast<T>(count - 1);
    const T a = near[ray], b = far[ray];
    if (!lindisp) return {a * (1 - s) + b * s, 1 - s, s};
    const T z = 1 / ((1 - s) / a + s / b);
    return {z, (z / a) * (z / a) * (1 - s), (z / b) * (z / b) * s};
  }

  DIETNERF_HD Distance<T> lower(int64_t ray, int64_t k, int64_t count) const {
    const Distance<T> own = even(ray, k, count);
    return k == 0 ? own : between(even(ray, k - 1, count), own, T(0.5));
  }

  DIETNERF_HD Distance<T> upper(int64_t ray, int64_t k, int64_t count) const {
    const Distance<T> own = even(ray, k, count);
    return k == count - 1 ? own : between(own, even(ray, k + 1, count), T(0.5));
  }
};

template <typename T>
struct SampleStratified {
  Stratification<T> of;
  T* ts;  // (n_samples,)

  DIETNERF_HD void operator()(int64_t ray) const {
    const Range range = of.ray_offsets[ray];
    for (int64_t k = 0; k < range.count; ++k) {
      const int64_t i = range.start + k;
      ts[i] = of.jitter ? between(of.lower(ray, k, range.count), of.upper(ray, k, range.count),
                                  of.jitter[i])
                              .z
                        : of.even(ray, k, range.count).z;
    }
  }
};

template <typename T>
struct SampleStratifiedBackward {
  Stratification<T> of;
  const T* grad_ts;         // (n_samples,)
  T *grad_near, *grad_far;  // (n_rays,), (n_rays,)
  T* grad_jitter;           // (n_samples,), null if there is no jitter

  DIETNERF_HD void operator()(int64_t ray) const {
    const Range range = of.ray_offsets[ray];
    T by_near = 0, by_far = 0;
    for (int64_t k = 0; k < range.count; ++k) {
      const int64_t i = range.start + k;
      Distance<T> t = of.even(ray, k, range.count);
      if (of.jitter) {
        const Distance<T> lower = of.lower(ray, k, range.count);
        const Distance<T> upper = of.upper(ray, k, range.count);
        t = between(lower, upper, of.jitter[i]);
        grad_jitter[i] = grad_ts[i] * (upper.z - lower.z);
      }
      by_near += grad_ts[i] * t.by_near;
      by_far += grad_ts[i] * t.by_far;
    }
    grad_near[ray] = by_near;
    grad_far[ray] = by_far;
  }
};

struct SampleStratifiedInputs {
  Tensor near, far, ray_offsets;
  OptionalTensor jitter;
  int64_t n_samples, n_rays;
  bool lindisp;

  SampleStratifiedInputs(const char* op, const Tensor& near_, const Tensor& far_,
                         const Tensor& ray_offsets_, const OptionalTensor& jitter_,
                         int64_t n_samples_, bool lindisp_)
      : near(check_tensor(op, "near", near_, near_, {near_.numel()})),
        far(check_tensor(op, "far", far_, near, {near.numel()})),
        ray_offsets(check_offsets(op, ray_offsets_, near, n_samples_)),
        jitter(check_tensor(op, "jitter", jitter_, near, {n_samples_})),
        n_samples(n_samples_),
        n_rays(near.numel()),
        lindisp(lindisp_) {
    STD_TORCH_CHECK(ray_offsets.size(0) == n_rays + 1, op, ": ray_offsets must be (n_rays+1,)");
    STD_TORCH_CHECK(0 <= n_samples && n_samples <= std::numeric_limits<int32_t>::max(), op,
                    ": n_samples must be from 0 to 2^31 - 1, got ", n_samples);
  }

  template <typename T>
  Stratification<T> as() const {
    return {const_data<T>(near),
            const_data<T>(far),
            {const_data<int64_t>(ray_offsets), n_samples},
            const_data<T>(jitter),
            lindisp};
  }
};

// `launch(kernel, n_rays)` calls kernel(ray) for every ray on the launcher's device.
template <typename Launcher>
Tensor sample_stratified(const Launcher& launch, const SampleStratifiedInputs& in) {
  const Tensor ts = empty_sized(in.near, {in.n_samples});
  with_floating_type("sample_stratified", in.near, [&](auto zero) {
    using T = decltype(zero);
    launch(SampleStratified<T>{in.as<T>(), mutable_data<T>(ts)}, in.n_rays);
  });
  return ts;
}

template <typename Launcher>
std::tuple<Tensor, Tensor, Tensor> sample_stratified_backward(const Launcher& launch,
                                                              int64_t output_mask,
                                                              const OptionalTensor& grad_ts_,
                                                              const SampleStratifiedInputs& in) {
  const char* op = "sample_stratified_backward";
  STD_TORCH_CHECK(grad_ts_.has_value(), op, ": grad_ts must be given");
  const Tensor grad_ts = check_tensor(op, "grad_ts", *grad_ts_, in.near, {in.n_samples});
  const Tensor grad_near = empty_sized(in.near, {in.n_rays});
  const Tensor grad_far = empty_sized(in.near, {in.n_rays});
  const Tensor grad_jitter = empty_sized(in.near, {in.jitter.has_value() ? in.n_samples : 0});
  with_floating_type(op, in.near, [&](auto zero) {
    using T = decltype(zero);
    launch(
        SampleStratifiedBackward<T>{in.as<T>(), const_data<T>(grad_ts), mutable_data<T>(grad_near),
                                    mutable_data<T>(grad_far), mutable_data<T>(grad_jitter)},
        in.n_rays);
  });
  const auto if_set = [&](int bit, const Tensor& grad) {
    return output_mask >> bit & 1 ? grad : empty_sized(in.near, {0});
  };
  return {if_set(0, grad_near), if_set(1, grad_far), if_set(2, grad_jitter)};
}

// The op on the device of `Launcher`.
template <typename Launcher>
struct SampleStratifiedOp {
  static Tensor forward(Tensor near, Tensor far, Tensor ray_offsets, OptionalTensor jitter,
                        int64_t n_samples, bool lindisp) {
    const SampleStratifiedInputs in("sample_stratified", near, far, ray_offsets, jitter, n_samples,
                                    lindisp);
    return sample_stratified(Launcher(in.ray_offsets, n_samples), in);
  }

  static std::tuple<Tensor, Tensor, Tensor> backward(int64_t output_mask, OptionalTensor grad_ts,
                                                     Tensor near, Tensor far, Tensor ray_offsets,
                                                     OptionalTensor jitter, int64_t n_samples,
                                                     bool lindisp) {
    const SampleStratifiedInputs in("sample_stratified_backward", near, far, ray_offsets, jitter,
                                    n_samples, lindisp);
    return sample_stratified_backward(Launcher(in.ray_offsets, n_samples), output_mask, grad_ts,
                                      in);
  }

  static void register_kernels(torch::stable::detail::StableLibrary& library) {
    library.impl("sample_stratified", TORCH_BOX(&SampleStratifiedOp::forward));
    library.impl("sample_stratified_backward", TORCH_BOX(&SampleStratifiedOp::backward));
  }
};

}  // namespace dietnerf
