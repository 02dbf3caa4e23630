// The distortion of a ray's weights: what must hold, and the mathematics of one ray.
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
      : weights(checked(op, "weights", weights_, weights_, {weights_.numel()})),
        ts(checked(op, "ts", ts_, weights, {weights.numel()})),
        deltas(checked(op, "deltas", deltas_, weights, {weights.numel()})),
        ray_offsets(checked_offsets(op, ray_offsets_, weights, weights.numel(), Behind::kSpare)),
        n_samples(weights.numel()),
        n_rays(ray_offsets.size(0) - 1) {}
};

// The entries take `spread(job, n_rays)`, which calls job(ray) for every ray on the device at hand.
template <typename Spread>
Tensor distortion(const Spread& spread, const DistortionInputs& in) {
  const Tensor found = empty_sized(in.weights, {in.n_rays});
  with_floating_type("distortion", in.weights, [&](auto zero) {
    using T = decltype(zero);
    spread(Distortion<T>{readable<T>(in.weights),
                         readable<T>(in.ts),
                         readable<T>(in.deltas),
                         {readable<int64_t>(in.ray_offsets), in.n_samples},
                         writable<T>(found)},
           in.n_rays);
  });
  return found;
}

template <typename Spread>
std::tuple<Tensor, Tensor, Tensor> distortion_backward(const Spread& spread, int64_t wanted,
                                                       const OptionalTensor& grad_,
                                                       const DistortionInputs& in) {
  const char* op = "distortion_backward";
  STD_TORCH_CHECK(grad_.has_value(), op, ": grad_distortion must be given");
  const Tensor grad = checked(op, "grad_distortion", *grad_, in.weights, {in.n_rays});
  const Tensor grad_weights = of_samples(in.weights, in.ray_offsets, {in.n_samples});
  const Tensor grad_ts = of_samples(in.weights, in.ray_offsets, {in.n_samples});
  const Tensor grad_deltas = of_samples(in.weights, in.ray_offsets, {in.n_samples});
  with_floating_type(op, in.weights, [&](auto zero) {
    using T = decltype(zero);
    spread(DistortionBackward<T>{readable<T>(grad),
                                 readable<T>(in.weights),
                                 readable<T>(in.ts),
                                 readable<T>(in.deltas),
                                 {readable<int64_t>(in.ray_offsets), in.n_samples},
                                 writable<T>(grad_weights),
                                 writable<T>(grad_ts),
                                 writable<T>(grad_deltas)},
           in.n_rays);
  });
  const auto if_wanted = [&](int bit, const Tensor& found) {
    return wanted >> bit & 1 ? found : empty_sized(in.weights, {0});
  };
  return {if_wanted(0, grad_weights), if_wanted(1, grad_ts), if_wanted(2, grad_deltas)};
}

}  // namespace dietnerf
