// Colors by spherical harmonics: input checks, and the mathematics of one direction.
// See dietnerf/ops/eval_sh.py for the formula, shapes and units.
#pragma once

#include "common.h"
#include "eval_sh/basis.h"

namespace dietnerf {

template <typename T>
struct ShInputs {
  int64_t degree, n_rest;
  const T *base, *rest, *directions;  // (n, 1, 3), (n, n_rest, 3), (n, 3)

  // Before it is cut off. The half is added last, as in the reference: so the rounded base of black
  // gives 0 and not less, from where it can brighten.
  template <int kDegree>
  DIETNERF_HD void color(const harmonics::Basis<T, kDegree>& basis, int64_t i, T* sums) const {
    for (int c = 0; c < 3; ++c) sums[c] = 0;
    DIETNERF_UNROLL
    for (int k = 0; k < basis.kTerms; ++k) {
      for (int c = 0; c < 3; ++c) sums[c] += basis.values[k] * coefficients(i, k)[c];
    }
    for (int c = 0; c < 3; ++c) sums[c] += T(0.5);
  }

  DIETNERF_HD const T* coefficients(int64_t i, int k) const {
    return k == 0 ? base + 3 * i : rest + 3 * (n_rest * i + k - 1);
  }
};

// Sizes of arrays are known where the degree is.
template <typename Kernel>
DIETNERF_HD void run_degree(const Kernel& kernel, int64_t degree, int64_t i) {
  switch (degree) {
    case 0:
      return kernel.template run<0>(i);
    case 1:
      return kernel.template run<1>(i);
    case 2:
      return kernel.template run<2>(i);
    default:
      return kernel.template run<3>(i);
  }
}

template <typename T>
struct EvalSh {
  ShInputs<T> in;
  T* colors;  // (n, 3)

  DIETNERF_HD void operator()(int64_t i) const { run_degree(*this, in.degree, i); }

  template <int kDegree>
  DIETNERF_HD void run(int64_t i) const {
    T color[3];
    in.color(harmonics::Basis<T, kDegree>(in.directions + 3 * i), i, color);
    for (int c = 0; c < 3; ++c) colors[3 * i + c] = color[c] < 0 ? T(0) : color[c];
  }
};

template <typename T>
struct EvalShBackward {
  const T* grad_colors;  // (n, 3)
  ShInputs<T> in;
  T *grad_base, *grad_rest, *grad_directions;  // as the inputs; null if not computed

  DIETNERF_HD void operator()(int64_t i) const { run_degree(*this, in.degree, i); }

  template <int kDegree>
  DIETNERF_HD void run(int64_t i) const {
    const harmonics::Basis<T, kDegree> basis(in.directions + 3 * i);
    T grad[3];
    in.color(basis, i, grad);
    for (int c = 0; c < 3; ++c) grad[c] = grad[c] >= 0 ? grad_colors[3 * i + c] : T(0);
    if (grad_directions) {
      T of_values[basis.kTerms];
      DIETNERF_UNROLL
      for (int k = 0; k < basis.kTerms; ++k) {
        const T* row = in.coefficients(i, k);
        of_values[k] = grad[0] * row[0] + grad[1] * row[1] + grad[2] * row[2];
      }
      basis.backward(of_values, grad_directions + 3 * i);
    }
    if (grad_base) {
      for (int c = 0; c < 3; ++c) grad_base[3 * i + c] = basis.values[0] * grad[c];
    }
    if (grad_rest) {
      T* rows = grad_rest + 3 * in.n_rest * i;
      DIETNERF_UNROLL
      for (int k = 1; k < basis.kTerms; ++k) {
        for (int c = 0; c < 3; ++c) *rows++ = basis.values[k] * grad[c];
      }
      for (T* end = grad_rest + 3 * in.n_rest * (i + 1); rows < end; ++rows) *rows = 0;
    }
  }
};

struct EvalShInputs {
  Tensor base, rest, directions;
  int64_t degree, n, n_rest;

  EvalShInputs(const char* op, int64_t degree_, const Tensor& base_, const Tensor& rest_,
               const Tensor& directions_)
      : base(check_tensor(op, "base", base_, base_, {first_size(base_), 1, 3})),
        rest(check_tensor(op, "rest", rest_, base,
                          {base.size(0), rest_.dim() == 3 ? rest_.size(1) : 0, 3})),
        directions(check_tensor(op, "directions", directions_, base, {base.size(0), 3})),
        degree(degree_),
        n(base.size(0)),
        n_rest(rest.size(1)) {
    STD_TORCH_CHECK(0 <= degree && degree <= harmonics::kMaxDegree, op,
                    ": degree must be from 0 to ", harmonics::kMaxDegree, ", got ", degree);
    STD_TORCH_CHECK(n_rest >= harmonics::n_terms(degree) - 1, op, ": rest must have ",
                    harmonics::n_terms(degree) - 1, " coefficients or more for degree ", degree,
                    ", got ", n_rest);
  }

  template <typename T>
  ShInputs<T> data() const {
    return {degree, n_rest, const_data<T>(base), const_data<T>(rest), const_data<T>(directions)};
  }
};

// The op on the device of `Launcher`: csrc/cpu/parallel_for.h or csrc/cuda/launch.cuh.
template <typename Launcher>
struct EvalShOp {
  static Tensor forward(int64_t degree, Tensor base, Tensor rest, Tensor directions) {
    const EvalShInputs in("eval_sh", degree, base, rest, directions);
    const Tensor colors = empty_sized(in.base, {in.n, 3});
    with_floating_type("eval_sh", in.base, [&](auto zero) {
      using T = decltype(zero);
      Launcher(in.base, kWork * in.n)(EvalSh<T>{in.data<T>(), mutable_data<T>(colors)}, in.n);
    });
    return colors;
  }

  static std::tuple<Tensor, Tensor, Tensor> backward(int64_t output_mask,
                                                     OptionalTensor grad_colors, int64_t degree,
                                                     Tensor base, Tensor rest, Tensor directions) {
    const char* op = "eval_sh_backward";
    const EvalShInputs in(op, degree, base, rest, directions);
    STD_TORCH_CHECK(grad_colors.has_value(), op, ": grad_colors must be given");
    const Tensor grad = check_tensor(op, "grad_colors", *grad_colors, in.base, {in.n, 3});
    const auto gradient = [&](int bit, const Tensor& input) {
      return output_mask >> bit & 1 ? torch::stable::empty_like(input) : empty_sized(input, {0});
    };
    const Tensor grad_base = gradient(0, in.base), grad_rest = gradient(1, in.rest);
    const Tensor grad_directions = gradient(2, in.directions);
    with_floating_type(op, in.base, [&](auto zero) {
      using T = decltype(zero);
      Launcher(in.base, kWork * in.n)(
          EvalShBackward<T>{const_data<T>(grad), in.data<T>(), mutable_data<T>(grad_base),
                            mutable_data<T>(grad_rest), mutable_data<T>(grad_directions)},
          in.n);
    });
    return {grad_base, grad_rest, grad_directions};
  }

  static void register_kernels(torch::stable::detail::StableLibrary& library) {
    library.impl("eval_sh", TORCH_BOX(&EvalShOp::forward));
    library.impl("eval_sh_backward", TORCH_BOX(&EvalShOp::backward));
  }

 private:
  static constexpr int64_t kWork = 8;  // of a direction, in samples of a ray
};

}  // namespace dietnerf
