// One step of Adam in place: input checks, and the mathematics of consecutive elements.
// See dietnerf/ops/adam_step.py for the arguments.
#pragma once

#include <cmath>

#include "common.h"

namespace dietnerf {

// The factors that all elements of a step share. Those that change from step to step are read from
// device memory, so that a captured CUDA graph can be given new ones.
template <typename T>
struct AdamRule {
  T beta1, rest1, beta2, rest2, eps;
  const double* rule;  // (3,): learning rate / (1 - beta1^step), 1 / sqrt(1 - beta2^step), decay

  AdamRule(const double* rule_, double beta1_, double beta2_, double eps_)
      : beta1(static_cast<T>(beta1_)),
        rest1(static_cast<T>(1 - beta1_)),
        beta2(static_cast<T>(beta2_)),
        rest2(static_cast<T>(1 - beta2_)),
        eps(static_cast<T>(eps_)),
        rule(rule_) {}

  struct Now {
    T rate, scale, decay;
  };

  DIETNERF_HD Now now() const {
    return {static_cast<T>(rule[0]), static_cast<T>(rule[1]), static_cast<T>(rule[2])};
  }

  DIETNERF_HD T next_mean(T mean, T g) const { return beta1 * mean + rest1 * g; }

  DIETNERF_HD T next_square(T square, T g) const { return beta2 * square + rest2 * (g * g); }

  DIETNERF_HD T next_value(const Now& at, T value, T mean, T square) const {
    return at.decay * value - at.rate * mean / (std::sqrt(square) * at.scale + eps);
  }
};

// A call updates kSize elements: one on a GPU, on the host as many as become vector instructions.
template <typename T, int kSize_>
struct AdamStep {
  static constexpr int kSize = kSize_;
  T* parameter;  // this and the others: flat, (n,)
  const T* grad;
  T *exp_avg, *exp_avg_sq;
  int64_t n;
  AdamRule<T> rule;

  DIETNERF_HD void operator()(int64_t index) const {
    if (is_touched(index)) take(index);
  }

  DIETNERF_HD bool is_touched(int64_t index) const {
    const T* g = grad + index * kSize;
    // A constant count avoids remainder loops; only the last call has another one.
    return (index + 1) * kSize <= n ? has_nonzero(g, kSize) : has_nonzero(g, n_left(index));
  }

  DIETNERF_HD void take(int64_t index) const {
    if ((index + 1) * kSize <= n) {
      take(index * kSize, kSize);
    } else {
      take(index * kSize, n_left(index));
    }
  }

  DIETNERF_HD int n_left(int64_t index) const { return static_cast<int>(n - index * kSize); }

  static DIETNERF_HD bool has_nonzero(const T* g, int count) {
    int found = 0;
#pragma omp simd reduction(| : found)
    for (int i = 0; i < count; ++i) found |= g[i] != 0;
    return found != 0;
  }

  DIETNERF_HD void take(int64_t begin, int count) const {
    const T* __restrict__ g = grad + begin;
    T* __restrict__ values = parameter + begin;
    T* __restrict__ means = exp_avg + begin;
    T* __restrict__ squares = exp_avg_sq + begin;
    const typename AdamRule<T>::Now now = rule.now();
    T value[kSize], mean[kSize], square[kSize];
    DIETNERF_SIMD
    for (int i = 0; i < count; ++i) {
      mean[i] = rule.next_mean(means[i], g[i]);
      square[i] = rule.next_square(squares[i], g[i]);
      value[i] = rule.next_value(now, values[i], mean[i], square[i]);
    }
    // Separate loops: the compiler would merge the three selects into a branch, which prevents
    // vectorization.
    DIETNERF_SIMD
    for (int i = 0; i < count; ++i) means[i] = g[i] != 0 ? mean[i] : means[i];
    DIETNERF_SIMD
    for (int i = 0; i < count; ++i) squares[i] = g[i] != 0 ? square[i] : squares[i];
    DIETNERF_SIMD
    for (int i = 0; i < count; ++i) values[i] = g[i] != 0 ? value[i] : values[i];
  }
};

// Unlike check_tensor(), makes no contiguous copy: updates of a copy would be lost.
inline void check_in_place(const char* op, const char* name, const Tensor& tensor,
                           const Tensor& like) {
  check_memory(op, name, tensor);
  STD_TORCH_CHECK(tensor.sizes().equals(like.sizes()), op, ": ", name, " must be ",
                  shape_text(like.sizes().data(), like.dim()), ", got ",
                  shape_text(tensor.sizes().data(), tensor.dim()));
  STD_TORCH_CHECK(tensor.scalar_type() == like.scalar_type(), op, ": ", name,
                  " must have the dtype of the other floating arguments");
  STD_TORCH_CHECK(tensor.device() == like.device(), op, ": ", name,
                  " must be on the device of the other arguments");
  STD_TORCH_CHECK(tensor.is_contiguous(), op, ": ", name, " must be contiguous");
}

// Overlapping elements would make the result depend on the number of threads. Both are contiguous.
inline void check_apart(const char* op, const Tensor& written, const Tensor& other) {
  const auto begin = [](const Tensor& t) { return reinterpret_cast<uintptr_t>(t.data_ptr()); };
  const uintptr_t n_bytes = written.numel() * written.element_size();
  const uintptr_t a = begin(written), b = begin(other);
  STD_TORCH_CHECK(a + n_bytes <= b || b + n_bytes <= a, op,
                  ": parameter, grad, exp_avg and exp_avg_sq must not share memory");
}

// `launch(kernel, n)` calls kernel(i) for every i below n on the launcher's device; a call updates
// Kernel<T>::kSize elements, and a Kernel<T> is made of the fields of an AdamStep.
template <template <typename> class Kernel, typename Launcher>
void adam_step(const Launcher& launch, const Tensor& parameter, const Tensor& grad,
               const Tensor& exp_avg, const Tensor& exp_avg_sq, const Tensor& rule_, double beta1,
               double beta2, double eps) {
  const char* op = "adam_step";
  check_in_place(op, "parameter", parameter, parameter);
  check_in_place(op, "grad", grad, parameter);
  check_in_place(op, "exp_avg", exp_avg, parameter);
  check_in_place(op, "exp_avg_sq", exp_avg_sq, parameter);
  check_apart(op, parameter, grad);
  check_apart(op, parameter, exp_avg);
  check_apart(op, parameter, exp_avg_sq);
  check_apart(op, exp_avg, grad);
  check_apart(op, exp_avg, exp_avg_sq);
  check_apart(op, exp_avg_sq, grad);
  check_memory(op, "rule", rule_);
  STD_TORCH_CHECK(rule_.dim() == 1 && rule_.size(0) == 3 && rule_.is_contiguous(), op,
                  ": rule must be (3,) and contiguous");
  STD_TORCH_CHECK(rule_.scalar_type() == ScalarType::Double, op, ": rule must be float64");
  STD_TORCH_CHECK(rule_.device() == parameter.device(), op,
                  ": rule must be on the device of the other arguments");
  STD_TORCH_CHECK(0 <= beta1 && beta1 < 1 && 0 <= beta2 && beta2 < 1, op,
                  ": beta1 and beta2 must be in [0, 1), got ", beta1, " and ", beta2);
  STD_TORCH_CHECK(eps >= 0, op, ": eps must not be negative, got ", eps);
  const int64_t n = parameter.numel();
  with_floating_type(op, parameter, [&](auto zero) {
    using T = decltype(zero);
    const AdamRule<T> rule(const_data<double>(rule_), beta1, beta2, eps);
    const Kernel<T> kernel{mutable_data<T>(parameter),
                           const_data<T>(grad),
                           mutable_data<T>(exp_avg),
                           mutable_data<T>(exp_avg_sq),
                           n,
                           rule};
    launch(kernel, (n + Kernel<T>::kSize - 1) / Kernel<T>::kSize);
  });
}

// The op on the device of `Launcher`, in kernels of Kernel<T>::kSize elements.
template <template <typename> class Kernel, typename Launcher>
struct AdamStepOp {
  static void forward(Tensor parameter, Tensor grad, Tensor exp_avg, Tensor exp_avg_sq, Tensor rule,
                      double beta1, double beta2, double eps) {
    adam_step<Kernel>(Launcher(parameter, parameter.numel()), parameter, grad, exp_avg, exp_avg_sq,
                      rule, beta1, beta2, eps);
  }

  static void register_kernels(torch::stable::detail::StableLibrary& library) {
    library.impl("adam_step", TORCH_BOX(&AdamStepOp::forward));
  }
};

}  // namespace dietnerf
