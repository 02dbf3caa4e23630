// Real spherical harmonics of one direction, orthonormal over the sphere, with the signs of 3DGS,
// and the gradients back: dietnerf/ops/spherical_harmonics.py for one direction.
#pragma once

#include "../common.h"

namespace dietnerf::harmonics {

constexpr int64_t kMaxDegree = 3;

constexpr int64_t n_terms(int64_t degree) { return (degree + 1) * (degree + 1); }

// A direction of any length, divided by it; one that is shorter than kShortest by that, as
// torch.nn.functional.normalize does.
template <typename T>
struct UnitDirection {
  static constexpr double kShortest = 1e-12;

  T x, y, z, inverse_length;
  bool is_short;

  DIETNERF_HD explicit UnitDirection(const T* d) {
    const T length = std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
    is_short = length < T(kShortest);
    inverse_length = 1 / (is_short ? T(kShortest) : length);
    x = d[0] * inverse_length, y = d[1] * inverse_length, z = d[2] * inverse_length;
  }

  // The gradient in the direction as given, from that in the unit direction.
  DIETNERF_HD void backward(const T* g, T* grad) const {
    const T along = is_short ? T(0) : x * g[0] + y * g[1] + z * g[2];
    grad[0] = (g[0] - x * along) * inverse_length;
    grad[1] = (g[1] - y * along) * inverse_length;
    grad[2] = (g[2] - z * along) * inverse_length;
  }
};

// The harmonics of a direction of any length, up to a degree. Constants are the square roots of
// rational multiples of 1 / pi.
template <typename T, int kDegree>
struct Basis {
  static constexpr int kTerms = static_cast<int>(n_terms(kDegree));
  static constexpr double kRoot1 = 0.48860251190291992;   // 3 / 4
  static constexpr double kRoot2 = 1.0925484305920790;    // 15 / 4
  static constexpr double kAxial2 = 0.31539156525252001;  // 5 / 16
  static constexpr double kOuter3 = 0.59004358992664350;  // 35 / 32
  static constexpr double kRoot3 = 2.8906114426405538;    // 105 / 4
  static constexpr double kInner3 = 0.45704579946446573;  // 21 / 32
  static constexpr double kAxial3 = 0.37317633259011540;  // 7 / 16
  static constexpr double kSquare3 = 1.4453057213202769;  // 105 / 16

  UnitDirection<T> unit;
  T values[kTerms];

  DIETNERF_HD explicit Basis(const T* direction) : unit(direction) {
    [[maybe_unused]] const T x = unit.x, y = unit.y, z = unit.z;
    values[0] = T(0.28209479177387814);  // 1 / 4
    if constexpr (kDegree >= 1) {
      values[1] = T(-kRoot1) * y;
      values[2] = T(kRoot1) * z;
      values[3] = T(-kRoot1) * x;
    }
    if constexpr (kDegree >= 2) {
      values[4] = T(kRoot2) * x * y;
      values[5] = T(-kRoot2) * y * z;
      values[6] = T(kAxial2) * (3 * z * z - 1);
      values[7] = T(-kRoot2) * x * z;
      values[8] = T(kRoot2 / 2) * (x * x - y * y);
    }
    if constexpr (kDegree >= 3) {
      values[9] = T(kOuter3) * y * (y * y - 3 * x * x);
      values[10] = T(kRoot3) * x * y * z;
      values[11] = T(kInner3) * y * (1 - 5 * z * z);
      values[12] = T(kAxial3) * z * (5 * z * z - 3);
      values[13] = T(kInner3) * x * (1 - 5 * z * z);
      values[14] = T(kSquare3) * z * (x * x - y * y);
      values[15] = T(kOuter3) * x * (3 * y * y - x * x);
    }
  }

  // The gradient in the direction as given, from that in the values.
  DIETNERF_HD void backward(const T* g, T* grad_direction) const {
    if constexpr (kDegree == 0) {  // even where the direction is NaN
      grad_direction[0] = grad_direction[1] = grad_direction[2] = 0;
    } else {
      T grad[3];
      unit_backward(g, grad);
      unit.backward(grad, grad_direction);
    }
  }

 private:
  DIETNERF_HD void unit_backward(const T* g, T* grad) const {
    const T x = unit.x, y = unit.y, z = unit.z;
    grad[0] = grad[1] = grad[2] = 0;
    if constexpr (kDegree >= 1) {
      grad[0] -= T(kRoot1) * g[3];
      grad[1] -= T(kRoot1) * g[1];
      grad[2] += T(kRoot1) * g[2];
    }
    if constexpr (kDegree >= 2) {
      grad[0] += T(kRoot2) * (y * g[4] - z * g[7] + x * g[8]);
      grad[1] += T(kRoot2) * (x * g[4] - z * g[5] - y * g[8]);
      grad[2] += T(6 * kAxial2) * z * g[6] - T(kRoot2) * (y * g[5] + x * g[7]);
    }
    if constexpr (kDegree >= 3) {
      const T across = T(3 * kOuter3) * (y * y - x * x), inner = T(kInner3) * (1 - 5 * z * z);
      const T square = T(kSquare3) * (x * x - y * y), product = T(6 * kOuter3) * x * y;
      grad[0] += across * g[15] - product * g[9] + inner * g[13] +
                 z * (T(kRoot3) * y * g[10] + T(2 * kSquare3) * x * g[14]);
      grad[1] += across * g[9] + product * g[15] + inner * g[11] +
                 z * (T(kRoot3) * x * g[10] - T(2 * kSquare3) * y * g[14]);
      grad[2] += T(kAxial3) * (15 * z * z - 3) * g[12] + T(kRoot3) * x * y * g[10] +
                 square * g[14] - T(10 * kInner3) * z * (y * g[11] + x * g[13]);
    }
  }
};

}  // namespace dietnerf::harmonics
