// Inverse transform sampling: input checks, and the mathematics of one ray or one new sample.
// See dietnerf/ops/sample_pdf.py for shapes and units.
#pragma once

#include "common.h"

namespace dietnerf {

// The paper authors' constants; dietnerf/ops/sample_pdf.py has them too.
constexpr double kWeightPadding = 1e-5;
constexpr double kMinProbability = 1e-5;

// One ray's cumulated probabilities at the ends of its intervals. In double: a hundred roundings of
// float would move samples near an edge.
template <typename T>
struct Cumulate {
  const T* weights;  // (n_samples,)
  RayOffsets ray_offsets;
  T *cdf, *masses;  // (n_samples,), (n_rays,)

  DIETNERF_HD void operator()(int64_t ray) const {
    const Range range = ray_offsets[ray];
    double mass = 0, reached = 0;
    for (int64_t i = 0; i < range.count; ++i) mass += weights[range.start + i] + kWeightPadding;
    for (int64_t i = range.start; i < range.start + range.count; ++i) {
      reached += (weights[i] + kWeightPadding) / mass;
      cdf[i] = static_cast<T>(reached);
    }
    masses[ray] = static_cast<T>(mass);
  }
};

// Where a u falls: t = start + fraction * (end - start), fraction = (u - below) / scale.
template <typename T>
struct Hit {
  int64_t index;
  bool is_beyond;  // behind the last interval: t is its end
  bool is_divided;
  T below, scale, fraction;
};

template <typename T>
DIETNERF_HD Hit<T> find(const T* cdf, const T* weights, const Range& range, T mass, T u) {
  int64_t low = 0, high = range.count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (cdf[range.start + middle] > u) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  Hit<T> hit;
  hit.is_beyond = low == range.count;
  hit.index = range.start + (hit.is_beyond ? low - 1 : low);
  hit.below = hit.index > range.start ? cdf[hit.index - 1] : T(0);
  const T probability = (weights[hit.index] + static_cast<T>(kWeightPadding)) / mass;
  hit.is_divided = probability >= static_cast<T>(kMinProbability);
  hit.scale = hit.is_divided ? probability : T(1);
  hit.fraction = (u - hit.below) / hit.scale;
  return hit;
}

template <typename T>
struct SamplePdf {
  const T *t_starts, *t_ends, *weights;
  RayOffsets ray_offsets;
  const T *u, *cdf, *masses;  // (n_rays, n_new), (n_samples,), (n_rays,)
  int64_t n_new;
  T* ts;  // (n_rays, n_new)

  DIETNERF_HD void operator()(int64_t i) const {
    const int64_t ray = i / n_new;
    const Range range = ray_offsets[ray];
    ts[i] = 0;
    if (range.count <= 0) return;
    const Hit<T> hit = find(cdf, weights, range, masses[ray], u[i]);
    const T start = t_starts[hit.index], end = t_ends[hit.index];
    ts[i] = hit.is_beyond ? end : start + hit.fraction * (end - start);
  }
};

// With v = u and f = fraction where the division is done, else v = below and f = 0:
// d fraction / d w_j = (v - [j < i] - [j == i] f) / (scale * mass). One ray a thread, so sums need
// no atomics.
template <typename T>
struct SamplePdfBackward {
  const T* grad_ts;  // (n_rays, n_new)
  const T *t_starts, *t_ends, *weights;
  RayOffsets ray_offsets;
  const T *u, *cdf, *masses;
  int64_t n_new;
  T* in_front;  // scratch, (n_samples,)
  T *grad_starts, *grad_ends, *grad_weights, *grad_u;

  DIETNERF_HD void operator()(int64_t ray) const {
    const Range range = ray_offsets[ray];
    const int64_t end = range.start + range.count;
    for (int64_t i = range.start; i < end; ++i) {
      in_front[i] = grad_starts[i] = grad_ends[i] = grad_weights[i] = 0;
    }
    T all = 0;
    for (int64_t k = ray * n_new; k < (ray + 1) * n_new; ++k) {
      grad_u[k] = 0;
      if (range.count <= 0) continue;
      const Hit<T> hit = find(cdf, weights, range, masses[ray], u[k]);
      if (hit.is_beyond) {
        grad_ends[hit.index] += grad_ts[k];
        continue;
      }
      const T per_u = grad_ts[k] * (t_ends[hit.index] - t_starts[hit.index]) / hit.scale;
      const T per_weight = per_u / masses[ray];
      grad_u[k] = per_u;
      grad_starts[hit.index] += grad_ts[k] * (1 - hit.fraction);
      grad_ends[hit.index] += grad_ts[k] * hit.fraction;
      all += per_weight * (hit.is_divided ? u[k] : hit.below);
      grad_weights[hit.index] -= hit.is_divided ? per_weight * hit.fraction : T(0);
      in_front[hit.index] += per_weight;
    }
    T behind = 0;
    for (int64_t i = end - 1; i >= range.start; --i) {
      grad_weights[i] += all - behind;
      behind += in_front[i];
    }
  }
};

struct SamplePdfInputs {
  Tensor weights, t_starts, t_ends, ray_offsets, u;
  int64_t n_samples, n_rays, n_new;

  SamplePdfInputs(const char* op, const Tensor& t_starts_, const Tensor& t_ends_,
                  const Tensor& weights_, const Tensor& ray_offsets_, const Tensor& u_)
      : weights(check_tensor(op, "weights", weights_, weights_, {weights_.numel()})),
        t_starts(check_tensor(op, "t_starts", t_starts_, weights, {weights.numel()})),
        t_ends(check_tensor(op, "t_ends", t_ends_, weights, {weights.numel()})),
        ray_offsets(check_offsets(op, ray_offsets_, weights, weights.numel())),
        u(check_tensor(op, "u", u_, weights, {ray_offsets.size(0) - 1, last_size(u_)})),
        n_samples(weights.numel()),
        n_rays(u.size(0)),
        n_new(u.size(1)) {}
};

// `launch(kernel, n)` calls kernel(i) for every i below n on the launcher's device.
template <typename Launcher>
Tensor sample_pdf(const Launcher& launch, const SamplePdfInputs& in) {
  const Tensor ts = empty_sized(in.u, {in.n_rays, in.n_new});
  const Tensor cdf = empty_sized(in.u, {in.n_samples});
  const Tensor masses = empty_sized(in.u, {in.n_rays});
  with_floating_type("sample_pdf", in.u, [&](auto zero) {
    using T = decltype(zero);
    const RayOffsets ray_offsets{const_data<int64_t>(in.ray_offsets), in.n_samples};
    launch(Cumulate<T>{const_data<T>(in.weights), ray_offsets, mutable_data<T>(cdf),
                       mutable_data<T>(masses)},
           in.n_rays);
    launch(SamplePdf<T>{const_data<T>(in.t_starts), const_data<T>(in.t_ends),
                        const_data<T>(in.weights), ray_offsets, const_data<T>(in.u),
                        const_data<T>(cdf), const_data<T>(masses), in.n_new, mutable_data<T>(ts)},
           in.n_rays * in.n_new);
  });
  return ts;
}

// Gradients outside of the mask are computed as well; they are small.
template <typename Launcher>
std::tuple<Tensor, Tensor, Tensor, Tensor> sample_pdf_backward(const Launcher& launch,
                                                               int64_t output_mask,
                                                               const OptionalTensor& grad_ts_,
                                                               const SamplePdfInputs& in) {
  const char* op = "sample_pdf_backward";
  STD_TORCH_CHECK(grad_ts_.has_value(), op, ": grad_ts must be given");
  const Tensor grad_ts = check_tensor(op, "grad_ts", *grad_ts_, in.u, {in.n_rays, in.n_new});
  const Tensor cdf = empty_sized(in.u, {in.n_samples});
  const Tensor masses = empty_sized(in.u, {in.n_rays});
  const Tensor in_front = empty_sized(in.u, {in.n_samples});
  const Tensor grad_starts = empty_sized(in.u, {in.n_samples});
  const Tensor grad_ends = empty_sized(in.u, {in.n_samples});
  const Tensor grad_weights = empty_sized(in.u, {in.n_samples});
  const Tensor grad_u = empty_sized(in.u, {in.n_rays, in.n_new});
  with_floating_type(op, in.u, [&](auto zero) {
    using T = decltype(zero);
    const RayOffsets ray_offsets{const_data<int64_t>(in.ray_offsets), in.n_samples};
    launch(Cumulate<T>{const_data<T>(in.weights), ray_offsets, mutable_data<T>(cdf),
                       mutable_data<T>(masses)},
           in.n_rays);
    launch(SamplePdfBackward<T>{const_data<T>(grad_ts), const_data<T>(in.t_starts),
                                const_data<T>(in.t_ends), const_data<T>(in.weights), ray_offsets,
                                const_data<T>(in.u), const_data<T>(cdf), const_data<T>(masses),
                                in.n_new, mutable_data<T>(in_front), mutable_data<T>(grad_starts),
                                mutable_data<T>(grad_ends), mutable_data<T>(grad_weights),
                                mutable_data<T>(grad_u)},
           in.n_rays);
  });
  const auto if_set = [&](int bit, const Tensor& grad) {
    return output_mask >> bit & 1 ? grad : empty_sized(in.u, {0});
  };
  return {if_set(0, grad_starts), if_set(1, grad_ends), if_set(2, grad_weights), if_set(3, grad_u)};
}

// The op on the device of `Launcher`.
template <typename Launcher>
struct SamplePdfOp {
  static Tensor forward(Tensor t_starts, Tensor t_ends, Tensor weights, Tensor ray_offsets,
                        Tensor u) {
    const SamplePdfInputs in("sample_pdf", t_starts, t_ends, weights, ray_offsets, u);
    return sample_pdf(Launcher(in.ray_offsets, in.n_samples + u.numel()), in);
  }

  static std::tuple<Tensor, Tensor, Tensor, Tensor> backward(int64_t output_mask,
                                                             OptionalTensor grad_ts,
                                                             Tensor t_starts, Tensor t_ends,
                                                             Tensor weights, Tensor ray_offsets,
                                                             Tensor u) {
    const SamplePdfInputs in("sample_pdf_backward", t_starts, t_ends, weights, ray_offsets, u);
    return sample_pdf_backward(Launcher(in.ray_offsets, in.n_samples + u.numel()), output_mask,
                               grad_ts, in);
  }

  static void register_kernels(torch::stable::detail::StableLibrary& library) {
    library.impl("sample_pdf", TORCH_BOX(&SamplePdfOp::forward));
    library.impl("sample_pdf_backward", TORCH_BOX(&SamplePdfOp::backward));
  }
};

}  // namespace dietnerf
