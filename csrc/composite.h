// Alpha compositing: input checks, and the mathematics of one ray, forward and backward.
// See dietnerf/ops/composite.py for shapes and units.
#pragma once

#include "common.h"
#include "math.h"

namespace dietnerf {

// Samples are processed in blocks, so that on the host the loops within a block become vector
// instructions. A GPU thread processes them one by one, with everything in registers.
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
    T transmittance = 1;
    int64_t begin = 0;
    for (; begin < range.count && transmittance >= early_stop; begin += kBlock) {
      const int64_t at = range.start + begin;
      const int n = block_size(range, begin);
      const T* __restrict__ sigma = sigmas + at, * __restrict__ delta = deltas + at;
      const T* __restrict__ c = rgbs + 3 * at, * __restrict__ t = ts + at;
      T* __restrict__ weight = weights + at;
      T transmitted[kBlock], absorbed[kBlock], incident[kBlock];
      DIETNERF_SIMD
      for (int i = 0; i < n; ++i) {
        const Decay<T> of = decay(sigma[i] * delta[i]);
        transmitted[i] = of.transmitted;
        absorbed[i] = of.absorbed;
      }
#pragma omp simd reduction(inscan, * : transmittance)
      for (int i = 0; i < n; ++i) {
        incident[i] = transmittance;
#pragma omp scan exclusive(transmittance)
        transmittance *= transmitted[i];
      }
#pragma omp simd reduction(+ : red, green, blue, total, distance)
      for (int i = 0; i < n; ++i) {
        const T contribution = incident[i] * absorbed[i];
        const T w = incident[i] >= early_stop ? contribution : T(0);
        red += w * c[3 * i];
        green += w * c[3 * i + 1];
        blue += w * c[3 * i + 2];
        total += w;
        distance += w * t[i];
        weight[i] = w;
      }
      if (transmittance < early_stop) {
        for (int i = n - 1; i >= 0 && incident[i] < early_stop; --i) transmittance = incident[i];
      }
    }
    for (; begin < range.count; ++begin) weights[range.start + begin] = 0;
    rgb[3 * ray] = red;
    rgb[3 * ray + 1] = green;
    rgb[3 * ray + 2] = blue;
    opacity[ray] = total;
    depth[ray] = distance;
    trans[ray] = transmittance;
  }
};

// With q_i = dL/dw_i along all paths: dL/dtau_i = q_i T_{i+1} - sum_{k>i} q_k w_k, where the light
// behind the ray counts as one more sample of weight T_n. T_{i+1} itself is T_n + sum_{k>i}
// w_k, so no exp is needed here. Both sums run from the back: as differences of sums from the front
// they would lose precision at the end of a dense ray.
template <typename T>
struct CompositeBackward {
  // Null if there is none: (n_samples,), (n_rays, 3), then (n_rays,) each
  const T *grad_weights, *grad_rgb, *grad_opacity, *grad_depth, *grad_trans;
  const T *weights, *trans;  // outputs of the forward
  const T *sigmas, *rgbs, *deltas, *ts;
  RayOffsets ray_offsets;
  T early_stop;
  // Null if not computed: (n_samples,), (n_samples, 3), (n_samples,), (n_samples,)
  T *grad_sigmas, *grad_rgbs, *grad_deltas, *grad_ts;

  DIETNERF_HD void operator()(int64_t ray) const {
    const Range range = ray_offsets[ray];
    const T g_red = grad_rgb ? grad_rgb[3 * ray] : T(0);
    const T g_green = grad_rgb ? grad_rgb[3 * ray + 1] : T(0);
    const T g_blue = grad_rgb ? grad_rgb[3 * ray + 2] : T(0);
    const T g_opacity = grad_opacity ? grad_opacity[ray] : T(0);
    const T g_depth = grad_depth ? grad_depth[ray] : T(0);
    T transmittance = trans[ray];
    T loss_sum = grad_trans ? grad_trans[ray] * transmittance : T(0);
    for (int64_t begin = (range.count - 1) / kBlock * kBlock; begin >= 0; begin -= kBlock) {
      const int64_t at = range.start + begin;
      const int n = block_size(range, begin);
      const T* __restrict__ c = rgbs + 3 * at, * __restrict__ t = ts + at;
      const T* __restrict__ w = weights + at;
      T q[kBlock], grad_tau[kBlock];
      // From the back: element i belongs to sample n - 1 - i.
      T weight[kBlock], loss[kBlock], transmittance_behind[kBlock], loss_behind[kBlock];
      for (int i = 0; i < n; ++i) q[i] = grad_weights ? grad_weights[at + i] : T(0);
      DIETNERF_SIMD
      for (int i = 0; i < n; ++i) {
        const T of_color = g_red * c[3 * i] + g_green * c[3 * i + 1] + g_blue * c[3 * i + 2];
        q[i] += of_color + (g_opacity + g_depth * t[i]);
        weight[n - 1 - i] = w[i];
        loss[n - 1 - i] = q[i] * w[i];
      }
#pragma omp simd reduction(inscan, + : transmittance, loss_sum)
      for (int i = 0; i < n; ++i) {
        transmittance_behind[i] = transmittance;
        loss_behind[i] = loss_sum;
#pragma omp scan exclusive(transmittance, loss_sum)
        transmittance += weight[i];
        loss_sum += loss[i];
      }
      DIETNERF_SIMD
      for (int i = 0; i < n; ++i) {
        const T behind = transmittance_behind[n - 1 - i];
        const T slope = q[i] * behind - loss_behind[n - 1 - i];
        grad_tau[i] = behind + w[i] >= early_stop ? slope : T(0);
      }
      write_grads(at, n, grad_tau, {g_red, g_green, g_blue, g_depth});
    }
  }

 private:
  struct RayGrads {
    T red, green, blue, depth;
  };

  // The gradients of n samples from `at` on.
  DIETNERF_HD void write_grads(int64_t at, int n, const T* __restrict__ grad_tau,
                               const RayGrads& g) const {
    const T* __restrict__ w = weights + at;
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
        grad[3 * i] = w[i] * g.red;
        grad[3 * i + 1] = w[i] * g.green;
        grad[3 * i + 2] = w[i] * g.blue;
      }
    }
    if (grad_ts) {
      DIETNERF_SIMD
      for (int i = 0; i < n; ++i) grad_ts[at + i] = w[i] * g.depth;
    }
  }
};

struct CompositeInputs {
  Tensor sigmas, rgbs, deltas, ts, ray_offsets;
  int64_t n_samples, n_rays;

  CompositeInputs(const char* op, const Tensor& sigmas_, const Tensor& rgbs_, const Tensor& deltas_,
                  const Tensor& ts_, const Tensor& ray_offsets_)
      : sigmas(check_tensor(op, "sigmas", sigmas_, sigmas_, {sigmas_.numel()})),
        rgbs(check_tensor(op, "rgbs", rgbs_, sigmas, {sigmas.numel(), 3})),
        deltas(check_tensor(op, "deltas", deltas_, sigmas, {sigmas.numel()})),
        ts(check_tensor(op, "ts", ts_, sigmas, {sigmas.numel()})),
        ray_offsets(check_offsets(op, ray_offsets_, sigmas, sigmas.numel(), Padding::kTrailing)),
        n_samples(sigmas.numel()),
        n_rays(ray_offsets.size(0) - 1) {}
};

// `launch(kernel, n_rays)` calls kernel(ray) for every ray on the launcher's device.
template <typename Launcher>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> composite(const Launcher& launch,
                                                             const CompositeInputs& in,
                                                             double early_stop) {
  check_early_stop("composite", early_stop);
  const Tensor weights = new_per_sample(in.sigmas, in.ray_offsets, {in.n_samples});
  const Tensor rgb = empty_sized(in.sigmas, {in.n_rays, 3});
  const Tensor opacity = empty_sized(in.sigmas, {in.n_rays});
  const Tensor depth = empty_sized(in.sigmas, {in.n_rays});
  const Tensor trans = empty_sized(in.sigmas, {in.n_rays});
  with_floating_type("composite", in.sigmas, [&](auto zero) {
    using T = decltype(zero);
    launch(Composite<T>{const_data<T>(in.sigmas),
                        const_data<T>(in.rgbs),
                        const_data<T>(in.deltas),
                        const_data<T>(in.ts),
                        {const_data<int64_t>(in.ray_offsets), in.n_samples},
                        static_cast<T>(early_stop),
                        mutable_data<T>(weights),
                        mutable_data<T>(rgb),
                        mutable_data<T>(opacity),
                        mutable_data<T>(depth),
                        mutable_data<T>(trans)},
           in.n_rays);
  });
  return {weights, rgb, opacity, depth, trans};
}

struct CompositeGrads {
  OptionalTensor weights, rgb, opacity, depth, trans;
};

template <typename Launcher>
std::tuple<Tensor, Tensor, Tensor, Tensor> composite_backward(
    const Launcher& launch, int64_t output_mask, const CompositeGrads& grads,
    const Tensor& weights_, const Tensor& trans_, const CompositeInputs& in, double early_stop) {
  const char* op = "composite_backward";
  check_early_stop(op, early_stop);
  const int64_t n = in.n_samples, n_rays = in.n_rays;
  const auto grad_weights = check_tensor(op, "grad_weights", grads.weights, in.sigmas, {n});
  const auto grad_rgb = check_tensor(op, "grad_rgb", grads.rgb, in.sigmas, {n_rays, 3});
  const auto grad_opacity = check_tensor(op, "grad_opacity", grads.opacity, in.sigmas, {n_rays});
  const auto grad_depth = check_tensor(op, "grad_depth", grads.depth, in.sigmas, {n_rays});
  const auto grad_trans = check_tensor(op, "grad_trans", grads.trans, in.sigmas, {n_rays});
  const Tensor weights = check_tensor(op, "weights", weights_, in.sigmas, {n});
  const Tensor trans = check_tensor(op, "trans", trans_, in.sigmas, {n_rays});
  const auto gradient = [&](int bit, std::initializer_list<int64_t> sizes) {
    return output_mask >> bit & 1 ? new_per_sample(in.sigmas, in.ray_offsets, sizes)
                                  : empty_sized(in.sigmas, {0});
  };
  const Tensor grad_sigmas = gradient(0, {n}), grad_rgbs = gradient(1, {n, 3});
  const Tensor grad_deltas = gradient(2, {n}), grad_ts = gradient(3, {n});
  with_floating_type(op, in.sigmas, [&](auto zero) {
    using T = decltype(zero);
    launch(CompositeBackward<T>{const_data<T>(grad_weights),
                                const_data<T>(grad_rgb),
                                const_data<T>(grad_opacity),
                                const_data<T>(grad_depth),
                                const_data<T>(grad_trans),
                                const_data<T>(weights),
                                const_data<T>(trans),
                                const_data<T>(in.sigmas),
                                const_data<T>(in.rgbs),
                                const_data<T>(in.deltas),
                                const_data<T>(in.ts),
                                {const_data<int64_t>(in.ray_offsets), in.n_samples},
                                static_cast<T>(early_stop),
                                mutable_data<T>(grad_sigmas),
                                mutable_data<T>(grad_rgbs),
                                mutable_data<T>(grad_deltas),
                                mutable_data<T>(grad_ts)},
           n ? n_rays : 0);
  });
  return {grad_sigmas, grad_rgbs, grad_deltas, grad_ts};
}

// The op on the device of `Launcher`: csrc/cpu/parallel_for.h or csrc/cuda/launch.cuh.
template <typename Launcher>
struct CompositeOp {
  static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> forward(Tensor sigmas, Tensor rgbs,
                                                                    Tensor deltas, Tensor ts,
                                                                    Tensor ray_offsets,
                                                                    double early_stop) {
    const CompositeInputs in("composite", sigmas, rgbs, deltas, ts, ray_offsets);
    return composite(Launcher(in.ray_offsets, in.n_samples), in, early_stop);
  }

  static std::tuple<Tensor, Tensor, Tensor, Tensor> backward(
      int64_t output_mask, OptionalTensor grad_weights, OptionalTensor grad_rgb,
      OptionalTensor grad_opacity, OptionalTensor grad_depth, OptionalTensor grad_trans,
      Tensor weights, Tensor trans, Tensor sigmas, Tensor rgbs, Tensor deltas, Tensor ts,
      Tensor ray_offsets, double early_stop) {
    const CompositeInputs in("composite_backward", sigmas, rgbs, deltas, ts, ray_offsets);
    return composite_backward(Launcher(in.ray_offsets, in.n_samples), output_mask,
                              {grad_weights, grad_rgb, grad_opacity, grad_depth, grad_trans},
                              weights, trans, in, early_stop);
  }

  static void register_kernels(torch::stable::detail::StableLibrary& library) {
    library.impl("composite", TORCH_BOX(&CompositeOp::forward));
    library.impl("composite_backward", TORCH_BOX(&CompositeOp::backward));
  }
};

}  // namespace dietnerf
