// The distortion of a ray's weights: input checks, and the mathematics of one ray.
// See dietnerf/ops/distortion.py for shapes and units.
#pragma once

#include "common.h"

namespace dietnerf {

// sum_ij w_i w_j |t_i - t_j| = 2 sum_i w_i (t_i W_i - M_i), where W_i and M_i are the sums of w_k
// and w_k t_k over the samples k in front of i. Distances count from the ray's first sample, or the
// two products would lose their digits far from the origin.
template <typename T>
struct Distortion {
  const T *weights, *ts, *deltas;  // (n_samples,) each
  RayOffsets ray_offsets;
  T* distortion;  // (n_rays,)

  DIETNERF_HD void operator()(int64_t ray) const {
    const Range range = ray_offsets[ray];
    T between = 0, within = 0, mass = 0, moment = 0;
    for (int64_t i = range.start; i < range.start + range.count; ++i) {
      const T w = weights[i], t = ts[i] - ts[range.start];
      between += w * (t * mass - moment);
      within += w * w * deltas[i];
      mass += w;
      moment += w * t;
    }
    distortion[ray] = 2 * between + within / 3;
  }
};

template <typename T>
struct DistortionBackward {
  const T* grad;  // (n_rays,)
  const T *weights, *ts, *deltas;
  RayOffsets ray_offsets;
  T *grad_weights, *grad_ts, *grad_deltas;  // (n_samples,) each

  DIETNERF_HD void operator()(int64_t ray) const {
    const Range range = ray_offsets[ray];
    T mass = 0, moment = 0;
    for (int64_t i = range.start; i < range.start + range.count; ++i) {
      mass += weights[i];
      moment += weights[i] * (ts[i] - ts[range.start]);
    }
    const T g = grad[ray];
    T mass_before = 0, moment_before = 0;
    for (int64_t i = range.start; i < range.start + range.count; ++i) {
      const T w = weights[i], t = ts[i] - ts[range.start];
      const T mass_behind = mass - mass_before - w;
      const T moment_behind = moment - moment_before - w * t;
      const T excess = mass_before - mass_behind;
      const T distances = t * excess - (moment_before - moment_behind);
      grad_weights[i] = g * (2 * distances + T(2) / 3 * w * deltas[i]);
      grad_ts[i] = g * 2 * w * excess;
      grad_deltas[i] = g * w * w / 3;
      mass_before += w;
      moment_before += w * t;
    }
  }
};

struct DistortionInputs {
  Tensor weights, ts, deltas, ray_offsets;
  int64_t n_samples, n_rays;

  DistortionInputs(const char* op, const Tensor& weights_, const Tensor& ts_, const Tensor& deltas_,
                   const Tensor& ray_offsets_)
      : weights(check_tensor(op, "weights", weights_, weights_, {weights_.numel()})),
        ts(check_tensor(op, "ts", ts_, weights, {weights.numel()})),
        deltas(check_tensor(op, "deltas", deltas_, weights, {weights.numel()})),
        ray_offsets(check_offsets(op, ray_offsets_, weights, weights.numel(), Padding::kTrailing)),
        n_samples(weights.numel()),
        n_rays(ray_offsets.size(0) - 1) {}
};

// `launch(kernel, n_rays)` calls kernel(ray) for every ray on the launcher's device.
template <typename Launcher>
Tensor distortion(const Launcher& launch, const DistortionInputs& in) {
  const Tensor found = empty_sized(in.weights, {in.n_rays});
  with_floating_type("distortion", in.weights, [&](auto zero) {
    using T = decltype(zero);
    launch(Distortion<T>{const_data<T>(in.weights),
                         const_data<T>(in.ts),
                         const_data<T>(in.deltas),
                         {const_data<int64_t>(in.ray_offsets), in.n_samples},
                         mutable_data<T>(found)},
           in.n_rays);
  });
  return found;
}

template <typename Launcher>
std::tuple<Tensor, Tensor, Tensor> distortion_backward(const Launcher& launch, int64_t output_mask,
                                                       const OptionalTensor& grad_,
                                                       const DistortionInputs& in) {
  const char* op = "distortion_backward";
  STD_TORCH_CHECK(grad_.has_value(), op, ": grad_distortion must be given");
  const Tensor grad = check_tensor(op, "grad_distortion", *grad_, in.weights, {in.n_rays});
  const Tensor grad_weights = new_per_sample(in.weights, in.ray_offsets, {in.n_samples});
  const Tensor grad_ts = new_per_sample(in.weights, in.ray_offsets, {in.n_samples});
  const Tensor grad_deltas = new_per_sample(in.weights, in.ray_offsets, {in.n_samples});
  with_floating_type(op, in.weights, [&](auto zero) {
    using T = decltype(zero);
    launch(DistortionBackward<T>{const_data<T>(grad),
                                 const_data<T>(in.weights),
                                 const_data<T>(in.ts),
                                 const_data<T>(in.deltas),
                                 {const_data<int64_t>(in.ray_offsets), in.n_samples},
                                 mutable_data<T>(grad_weights),
                                 mutable_data<T>(grad_ts),
                                 mutable_data<T>(grad_deltas)},
           in.n_rays);
  });
  const auto if_set = [&](int bit, const Tensor& found) {
    return output_mask >> bit & 1 ? found : empty_sized(in.weights, {0});
  };
  return {if_set(0, grad_weights), if_set(1, grad_ts), if_set(2, grad_deltas)};
}

// The op on the device of `Launcher`.
template <typename Launcher>
struct DistortionOp {
  static Tensor forward(Tensor weights, Tensor ts, Tensor deltas, Tensor ray_offsets) {
    const DistortionInputs in("distortion", weights, ts, deltas, ray_offsets);
    return distortion(Launcher(in.ray_offsets, in.n_samples), in);
  }

  static std::tuple<Tensor, Tensor, Tensor> backward(int64_t output_mask,
                                                     OptionalTensor grad_distortion, Tensor weights,
                                                     Tensor ts, Tensor deltas, Tensor ray_offsets) {
    const DistortionInputs in("distortion_backward", weights, ts, deltas, ray_offsets);
    return distortion_backward(Launcher(in.ray_offsets, in.n_samples), output_mask, grad_distortion,
                               in);
  }

  static void register_kernels(torch::stable::detail::StableLibrary& library) {
    library.impl("distortion", TORCH_BOX(&DistortionOp::forward));
    library.impl("distortion_backward", TORCH_BOX(&DistortionOp::backward));
  }
};

}  // namespace dietnerf
