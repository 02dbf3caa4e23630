// Alpha compositing: what must hold, and the mathematics of one ray, forward and backward.
// See dietnerf/ops/composite.py for shapes and units.
#pragma once

#include "common.h"
#include "math.h"

namespace dietnerf {

// Samples are walked in blocks, so that on the host the loops within a block become vector
// instructions. A GPU thread takes them one by one and keeps everything in registers.
#if defined(__CUDA_ARCH__)
constexpr int64_t kBlock = 1;
#else
constexpr int64_t kBlock = 64;
#endif

DIETNERF_HD int block_size(const Range& range, int64_t begin) {
  return static_cast<int>(range.count - begin < kBlock ? range.count - begin : kBlock);
}

template <typename T>
struct Composite {
  const T *sigmas, *rgbs, *deltas, *ts;  // (n_samples,), (n_samples, 3), (n_samples,), (n_samples,)
  RayOffsets ray_offsets;
  T early_stop;
  T *weights, *rgb, *opacity, *depth, *trans;  // (n_samples,), (n_rays, 3), then (n_rays,) each

  DIETNERF_HD void operator()(int64_t ray) const {
    const Range range = ray_offsets[ray];
    T red = 0, green = 0, blue = 0, total = 0, distance = 0;
    T left = 1;
    int64_t begin = 0;
    for (; begin < range.count && left >= early_stop; begin += kBlock) {
      const int64_t at = range.start + begin;
      const int n = block_size(range, begin);
      const T* __restrict__ sigma = sigmas + at, * __restrict__ delta = deltas + at;
      const T* __restrict__ c = rgbs + 3 * at, * __restrict__ t = ts + at;
      T* __restrict__ weight = weights + at;
      T kept[kBlock], stopped[kBlock], reaching[kBlock];
      DIETNERF_SIMD
      for (int i = 0; i < n; ++i) {
        const Decay<T> of = decay(sigma[i] * delta[i]);
        kept[i] = of.kept;
        stopped[i] = of.stopped;
      }
#pragma omp simd reduction(inscan, * : left)
      for (int i = 0; i < n; ++i) {
        reaching[i] = left;
#pragma omp scan exclusive(left)
        left *= kept[i];
      }
#pragma omp simd reduction(+ : red, green, blue, total, distance)
      for (int i = 0; i < n; ++i) {
        const T share = reaching[i] * stopped[i];
        const T w = reaching[i] >= early_stop ? share : T(0);
        red += w * c[3 * i];
        green += w * c[3 * i + 1];
        blue += w * c[3 * i + 2];
        total += w;
        distance += w * t[i];
        weight[i] = w;
      }
      if (left < early_stop) {
        for (int i = n - 1; i >= 0 && reaching[i] < early_stop; --i) left = reaching[i];
      }
    }
    for (; begin < range.count; ++begin) weights[range.start + begin] = 0;
    rgb[3 * ray] = red;
    rgb[3 * ray + 1] = green;
    rgb[3 * ray + 2] = blue;
    opacity[ray] = total;
    depth[ray] = distance;
    trans[ray] = left;
  }
};

// With q_i = dL/dw_i, all paths included: dL/dtau_i = q_i T_{i+1} - sum_{k>i} q_k w_k, where what
// is left behind the ray counts as one more sample of weight T_n. T_{i+1} itself is T_n + sum_{k>i}
// w_k, so no exp is needed here. Both sums run from the back: as differences of sums from the front
// they would lose the digits of a dense ray's end.
template <typename T>
struct CompositeBackward {
  // Null where no gradient arrives: (n_samples,), (n_rays, 3), then (n_rays,) each
  const T *grad_weights, *grad_rgb, *grad_opacity, *grad_depth, *grad_trans;
  const T *weights, *trans;  // outputs of the forward
  const T *sigmas, *rgbs, *deltas, *ts;
  RayOffsets ray_offsets;
  T early_stop;
  // Null where not wanted: (n_samples,), (n_samples, 3), (n_samples,), (n_samples,)
  T *grad_sigmas, *grad_rgbs, *grad_deltas, *grad_ts;

  DIETNERF_HD void operator()(int64_t ray) const {
    const Range range = ray_offsets[ray];
    const T g_red = grad_rgb ? grad_rgb[3 * ray] : T(0);
    const T g_green = grad_rgb ? grad_rgb[3 * ray + 1] : T(0);
    const T g_blue = grad_rgb ? grad_rgb[3 * ray + 2] : T(0);
    const T g_opacity = grad_opacity ? grad_opacity[ray] : T(0);
    const T g_depth = grad_depth ? grad_depth[ray] : T(0);
    T left = trans[ray];
    T lost = grad_trans ? grad_trans[ray] * left : T(0);
    for (int64_t begin = (range.count - 1) / kBlock * kBlock; begin >= 0; begin -= kBlock) {
      const int64_t at = range.start + begin;
      const int n = block_size(range, begin);
      const T* __restrict__ c = rgbs + 3 * at, * __restrict__ t = ts + at;
      const T* __restrict__ w = weights + at;
      T q[kBlock], grad_tau[kBlock];
      // From the back: element i belongs to sample n - 1 - i.
      T weight[kBlock], loss[kBlock], left_behind[kBlock], lost_behind[kBlock];
      for (int i = 0; i < n; ++i) q[i] = grad_weights ? grad_weights[at + i] : T(0);
      DIETNERF_SIMD
      for (int i = 0; i < n; ++i) {
        const T of_colour = g_red * c[3 * i] + g_green * c[3 * i + 1] + g_blue * c[3 * i + 2];
        q[i] += of_colour + (g_opacity + g_depth * t[i]);
        weight[n - 1 - i] = w[i];
        loss[n - 1 - i] = q[i] * w[i];
      }
#pragma omp simd reduction(inscan, + : left, lost)
      for (int i = 0; i < n; ++i) {
        left_behind[i] = left;
        lost_behind[i] = lost;
#pragma omp scan exclusive(left, lost)
        left += weight[i];
        lost += loss[i];
      }
      DIETNERF_SIMD
      for (int i = 0; i < n; ++i) {
        const T behind = left_behind[n - 1 - i];
        const T slope = q[i] * behind - lost_behind[n - 1 - i];
        grad_tau[i] = behind + w[i] >= early_stop ? slope : T(0);
      }
      if (grad_sigmas) {
        DIETNERF_SIMD
        for (int i = 0; i < n; ++i) grad_sigmas[at + i] = grad_tau[i] * deltas[at + i];
      }
      if (grad_deltas) {
        DIETNERF_SIMD
        for (int i = 0; i < n; ++i) grad_deltas[at + i] = grad_tau[i] * sigmas[at + i];
      }
      if (grad_rgbs) {
        T* __restrict__ grad = grad_rgbs + 3 * at;
        DIETNERF_SIMD
        for (int i = 0; i < n; ++i) {
          grad[3 * i] = w[i] * g_red;
          grad[3 * i + 1] = w[i] * g_green;
          grad[3 * i + 2] = w[i] * g_blue;
        }
      }
      if (grad_ts) {
        DIETNERF_SIMD
        for (int i = 0; i < n; ++i) grad_ts[at + i] = w[i] * g_depth;
      }
    }
  }
};

struct CompositeInputs {
  Tensor sigmas, rgbs, deltas, ts, ray_offsets;
  int64_t n_samples, n_rays;

  CompositeInputs(const char* op, const Tensor& sigmas_, const Tensor& rgbs_, const Tensor& deltas_,
                  const Tensor& ts_, const Tensor& ray_offsets_)
      : sigmas(checked(op, "sigmas", sigmas_, sigmas_, {sigmas_.numel()})),
        rgbs(checked(op, "rgbs", rgbs_, sigmas, {sigmas.numel(), 3})),
        deltas(checked(op, "deltas", deltas_, sigmas, {sigmas.numel()})),
        ts(checked(op, "ts", ts_, sigmas, {sigmas.numel()})),
        ray_offsets(checked_offsets(op, ray_offsets_, sigmas, sigmas.numel(), Behind::kSpare)),
        n_samples(sigmas.numel()),
        n_rays(ray_offsets.size(0) - 1) {}
};

// Both entries take `spread(job, n_rays)`, which calls job(ray) for every ray on the device at
// hand.
template <typename Spread>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> composite(const Spread& spread,
                                                             const CompositeInputs& in,
                                                             double early_stop) {
  check_early_stop("composite", early_stop);
  const Tensor weights = of_samples(in.sigmas, in.ray_offsets, {in.n_samples});
  const Tensor rgb = empty_sized(in.sigmas, {in.n_rays, 3});
  const Tensor opacity = empty_sized(in.sigmas, {in.n_rays});
  const Tensor depth = empty_sized(in.sigmas, {in.n_rays});
  const Tensor trans = empty_sized(in.sigmas, {in.n_rays});
  with_floating_type("composite", in.sigmas, [&](auto zero) {
    using T = decltype(zero);
    spread(Composite<T>{readable<T>(in.sigmas),
                        readable<T>(in.rgbs),
                        readable<T>(in.deltas),
                        readable<T>(in.ts),
                        {readable<int64_t>(in.ray_offsets), in.n_samples},
                        static_cast<T>(early_stop),
                        writable<T>(weights),
                        writable<T>(rgb),
                        writable<T>(opacity),
                        writable<T>(depth),
                        writable<T>(trans)},
           in.n_rays);
  });
  return {weights, rgb, opacity, depth, trans};
}

struct CompositeGrads {
  OptionalTensor weights, rgb, opacity, depth, trans;
};

template <typename Spread>
std::tuple<Tensor, Tensor, Tensor, Tensor> composite_backward(
    const Spread& spread, int64_t wanted, const CompositeGrads& grads, const Tensor& weights_,
    const Tensor& trans_, const CompositeInputs& in, double early_stop) {
  const char* op = "composite_backward";
  check_early_stop(op, early_stop);
  const int64_t n = in.n_samples, n_rays = in.n_rays;
  const auto grad_weights = checked(op, "grad_weights", grads.weights, in.sigmas, {n});
  const auto grad_rgb = checked(op, "grad_rgb", grads.rgb, in.sigmas, {n_rays, 3});
  const auto grad_opacity = checked(op, "grad_opacity", grads.opacity, in.sigmas, {n_rays});
  const auto grad_depth = checked(op, "grad_depth", grads.depth, in.sigmas, {n_rays});
  const auto grad_trans = checked(op, "grad_trans", grads.trans, in.sigmas, {n_rays});
  const Tensor weights = checked(op, "weights", weights_, in.sigmas, {n});
  const Tensor trans = checked(op, "trans", trans_, in.sigmas, {n_rays});
  const auto gradient = [&](int bit, std::initializer_list<int64_t> sizes) {
    return wanted >> bit & 1 ? of_samples(in.sigmas, in.ray_offsets, sizes)
                             : empty_sized(in.sigmas, {0});
  };
  const Tensor grad_sigmas = gradient(0, {n}), grad_rgbs = gradient(1, {n, 3});
  const Tensor grad_deltas = gradient(2, {n}), grad_ts = gradient(3, {n});
  with_floating_type(op, in.sigmas, [&](auto zero) {
    using T = decltype(zero);
    spread(CompositeBackward<T>{readable<T>(grad_weights),
                                readable<T>(grad_rgb),
                                readable<T>(grad_opacity),
                                readable<T>(grad_depth),
                                readable<T>(grad_trans),
                                readable<T>(weights),
                                readable<T>(trans),
                                readable<T>(in.sigmas),
                                readable<T>(in.rgbs),
                                readable<T>(in.deltas),
                                readable<T>(in.ts),
                                {readable<int64_t>(in.ray_offsets), in.n_samples},
                                static_cast<T>(early_stop),
                                writable<T>(grad_sigmas),
                                writable<T>(grad_rgbs),
                                writable<T>(grad_deltas),
                                writable<T>(grad_ts)},
           n ? n_rays : 0);
  });
  return {grad_sigmas, grad_rgbs, grad_deltas, grad_ts};
}

}  // namespace dietnerf
