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

// out[i] = start * factors[0] * ... * factors[i - 1], and out[n] is returned as well.
template <typename T>
DIETNERF_HD T running_product(const T* factors, int n, T start, T* out) {
  out[0] = start;
#pragma omp simd reduction(inscan, * : start)
  for (int i = 0; i < n; ++i) {
    start *= factors[i];
#pragma omp scan inclusive(start)
    out[i + 1] = start;
  }
  return start;
}

template <typename T>
DIETNERF_HD T running_sum(const T* terms, int n, T start, T* out) {
  out[0] = start;
#pragma omp simd reduction(inscan, + : start)
  for (int i = 0; i < n; ++i) {
    start += terms[i];
#pragma omp scan inclusive(start)
    out[i + 1] = start;
  }
  return start;
}

template <typename T>
struct Composite {
  const T *sigmas, *rgbs, *deltas, *ts;  // (n_samples,), (n_samples, 3), (n_samples,), (n_samples,)
  const int64_t* ray_offsets;            // (n_rays + 1,)
  T early_stop;
  T *weights, *rgb, *opacity, *depth;  // (n_samples,), (n_rays, 3), (n_rays,), (n_rays,)

  DIETNERF_HD void operator()(int64_t ray) const {
    const Range range = range_of(ray_offsets, ray);
    T trans = 1, red = 0, green = 0, blue = 0, total = 0, distance = 0;
    for (int64_t begin = 0; begin < range.count; begin += kBlock) {
      const int64_t at = range.start + begin;
      const int64_t left = range.count - begin;
      const int n = static_cast<int>(left < kBlock ? left : kBlock);
      const T* __restrict__ sigma = sigmas + at, * __restrict__ delta = deltas + at;
      const T* __restrict__ c = rgbs + 3 * at, * __restrict__ t = ts + at;
      T kept[kBlock], w[kBlock];
      DIETNERF_SIMD
      for (int i = 0; i < n; ++i) {
        const Decay<T> of = decay(sigma[i] * delta[i]);
        kept[i] = of.kept;
        w[i] = of.stopped;
      }
#pragma omp simd reduction(inscan, * : trans)
      for (int i = 0; i < n; ++i) {
        w[i] = trans >= early_stop ? trans * w[i] : T(0);
#pragma omp scan exclusive(trans)
        trans *= kept[i];
      }
#pragma omp simd reduction(+ : red, green, blue, total, distance)
      for (int i = 0; i < n; ++i) {
        red += w[i] * c[3 * i];
        green += w[i] * c[3 * i + 1];
        blue += w[i] * c[3 * i + 2];
        total += w[i];
        distance += w[i] * t[i];
        weights[at + i] = w[i];
      }
    }
    rgb[3 * ray] = red;
    rgb[3 * ray + 1] = green;
    rgb[3 * ray + 2] = blue;
    opacity[ray] = total;
    depth[ray] = distance;
  }
};

// With q_i = dL/dw_i, all paths included: dL/dtau_i = q_i T_{i+1} - sum_{k>i} q_k w_k. The sum runs
// from the back: as a difference of two sums from the front it would lose the digits of a dense
// ray's last samples.
template <typename T>
struct CompositeBackward {
  // Null where no gradient arrives: (n_samples,), (n_rays, 3), (n_rays,), (n_rays,)
  const T *grad_weights, *grad_rgb, *grad_opacity, *grad_depth;
  const T *sigmas, *rgbs, *deltas, *ts;
  const int64_t* ray_offsets;
  T early_stop;
  T* trans;  // scratch, (n_samples,); may be grad_sigmas
  // Null where not wanted: (n_samples,), (n_samples, 3), (n_samples,), (n_samples,)
  T *grad_sigmas, *grad_rgbs, *grad_deltas, *grad_ts;

  DIETNERF_HD void operator()(int64_t ray) const {
    const Range range = range_of(ray_offsets, ray);
    if (range.count <= 0) return;
    const T g_red = grad_rgb ? grad_rgb[3 * ray] : T(0);
    const T g_green = grad_rgb ? grad_rgb[3 * ray + 1] : T(0);
    const T g_blue = grad_rgb ? grad_rgb[3 * ray + 2] : T(0);
    const T g_opacity = grad_opacity ? grad_opacity[ray] : T(0);
    const T g_depth = grad_depth ? grad_depth[ray] : T(0);
    T kept[kBlock], stopped[kBlock], reaching[kBlock + 1];

    T at_begin = 1;
    for (int64_t begin = 0; begin < range.count; begin += kBlock) {
      const int n = load(range.start + begin, range.count - begin, kept, stopped);
      at_begin = running_product(kept, n, at_begin, reaching);
      DIETNERF_SIMD
      for (int i = 0; i < n; ++i) trans[range.start + begin + i] = reaching[i];
    }

    T sum_behind = 0;  // of q_k w_k
    const int64_t last = (range.count - 1) / kBlock * kBlock;
    for (int64_t begin = last; begin >= 0; begin -= kBlock) {
      const int64_t at = range.start + begin;
      const int64_t left = range.count - begin;
      // The first loop has left the last block's values in place.
      const int n = begin == last ? static_cast<int>(left) : load(at, left, kept, stopped);
      const T* __restrict__ c = rgbs + 3 * at, * __restrict__ t = ts + at;
      const T* __restrict__ reached = trans + at;
      T gain[kBlock], w[kBlock], loss[kBlock], behind[kBlock + 1];
      for (int i = 0; i < n; ++i) gain[i] = grad_weights ? grad_weights[at + i] : T(0);
      DIETNERF_SIMD
      for (int i = 0; i < n; ++i) {
        const T arriving = reached[i] >= early_stop ? reached[i] : T(0);
        const T of_colour = g_red * c[3 * i] + g_green * c[3 * i + 1] + g_blue * c[3 * i + 2];
        const T q = gain[i] + of_colour + g_opacity + g_depth * t[i];
        w[i] = arriving * stopped[i];
        gain[i] = q * arriving * kept[i];
        loss[n - 1 - i] = q * w[i];
      }
      sum_behind = running_sum(loss, n, sum_behind, behind);
      DIETNERF_SIMD
      for (int i = 0; i < n; ++i) gain[i] -= behind[n - 1 - i];
      store(at, n, gain, w, g_red, g_green, g_blue, g_depth);
    }
  }

 private:
  DIETNERF_HD int load(int64_t at, int64_t left, T* kept, T* stopped) const {
    const int n = static_cast<int>(left < kBlock ? left : kBlock);
    const T* __restrict__ sigma = sigmas + at, * __restrict__ delta = deltas + at;
    DIETNERF_SIMD
    for (int i = 0; i < n; ++i) {
      const Decay<T> of = decay(sigma[i] * delta[i]);
      kept[i] = of.kept;
      stopped[i] = of.stopped;
    }
    return n;
  }

  DIETNERF_HD void store(int64_t at, int n, const T* grad_tau, const T* w, T g_red, T g_green,
                         T g_blue, T g_depth) const {
    if (grad_deltas) {
      DIETNERF_SIMD
      for (int i = 0; i < n; ++i) grad_deltas[at + i] = grad_tau[i] * sigmas[at + i];
    }
    if (grad_sigmas) {
      DIETNERF_SIMD
      for (int i = 0; i < n; ++i) grad_sigmas[at + i] = grad_tau[i] * deltas[at + i];
    }
    if (grad_rgbs) {
      DIETNERF_SIMD
      for (int i = 0; i < n; ++i) {
        grad_rgbs[3 * (at + i)] = w[i] * g_red;
        grad_rgbs[3 * (at + i) + 1] = w[i] * g_green;
        grad_rgbs[3 * (at + i) + 2] = w[i] * g_blue;
      }
    }
    if (grad_ts) {
      DIETNERF_SIMD
      for (int i = 0; i < n; ++i) grad_ts[at + i] = w[i] * g_depth;
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
        ray_offsets(checked_offsets(op, ray_offsets_, sigmas, sigmas.numel())),
        n_samples(sigmas.numel()),
        n_rays(ray_offsets.size(0) - 1) {}
};

// Both entries take `spread(job, n_rays)`, which calls job(ray) for every ray on the device at
// hand.
template <typename Spread>
std::tuple<Tensor, Tensor, Tensor, Tensor> composite(const Spread& spread,
                                                     const CompositeInputs& in, double early_stop) {
  const Tensor weights = empty_sized(in.sigmas, {in.n_samples});
  const Tensor rgb = empty_sized(in.sigmas, {in.n_rays, 3});
  const Tensor opacity = empty_sized(in.sigmas, {in.n_rays});
  const Tensor depth = empty_sized(in.sigmas, {in.n_rays});
  with_floating_type("composite", in.sigmas, [&](auto zero) {
    using T = decltype(zero);
    spread(Composite<T>{readable<T>(in.sigmas), readable<T>(in.rgbs), readable<T>(in.deltas),
                        readable<T>(in.ts), readable<int64_t>(in.ray_offsets),
                        static_cast<T>(early_stop), writable<T>(weights), writable<T>(rgb),
                        writable<T>(opacity), writable<T>(depth)},
           in.n_rays);
  });
  return {weights, rgb, opacity, depth};
}

template <typename Spread>
std::tuple<Tensor, Tensor, Tensor, Tensor> composite_backward(
    const Spread& spread, int64_t wanted, const OptionalTensor& grad_weights_,
    const OptionalTensor& grad_rgb_, const OptionalTensor& grad_opacity_,
    const OptionalTensor& grad_depth_, const CompositeInputs& in, double early_stop) {
  const char* op = "composite_backward";
  const int64_t n = in.n_samples;
  const auto grad_weights = checked(op, "grad_weights", grad_weights_, in.sigmas, {n});
  const auto grad_rgb = checked(op, "grad_rgb", grad_rgb_, in.sigmas, {in.n_rays, 3});
  const auto grad_opacity = checked(op, "grad_opacity", grad_opacity_, in.sigmas, {in.n_rays});
  const auto grad_depth = checked(op, "grad_depth", grad_depth_, in.sigmas, {in.n_rays});
  const Tensor trans = empty_sized(in.sigmas, {n});
  const Tensor grad_sigmas = wanted & 1 ? trans : empty_sized(in.sigmas, {0});
  const Tensor grad_rgbs =
      wanted & 2 ? empty_sized(in.sigmas, {n, 3}) : empty_sized(in.sigmas, {0});
  const Tensor grad_deltas = empty_sized(in.sigmas, {wanted & 4 ? n : 0});
  const Tensor grad_ts = empty_sized(in.sigmas, {wanted & 8 ? n : 0});
  with_floating_type(op, in.sigmas, [&](auto zero) {
    using T = decltype(zero);
    spread(
        CompositeBackward<T>{
            readable<T>(grad_weights), readable<T>(grad_rgb), readable<T>(grad_opacity),
            readable<T>(grad_depth), readable<T>(in.sigmas), readable<T>(in.rgbs),
            readable<T>(in.deltas), readable<T>(in.ts), readable<int64_t>(in.ray_offsets),
            static_cast<T>(early_stop), writable<T>(trans), writable<T>(grad_sigmas),
            writable<T>(grad_rgbs), writable<T>(grad_deltas), writable<T>(grad_ts)},
        n ? in.n_rays : 0);
  });
  return {grad_sigmas, grad_rgbs, grad_deltas, grad_ts};
}

}  // namespace dietnerf
