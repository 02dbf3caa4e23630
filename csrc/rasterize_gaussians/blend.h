// The mathematics of one Gaussian in one pixel, forward and backward. See
// dietnerf/ops/rasterize_gaussians.py for the formulas. `V` is a number of type T, or several
// pixels of one row side by side.
#pragma once

#include "../math.h"

namespace dietnerf::rasterizing {

constexpr int kTileSide = 16;  // pixels along an edge
constexpr double kMinAlpha = 1.0 / 255, kMaxAlpha = 0.999, kMinTrans = 1e-4;

// A Gaussian as a tile reads it.
template <typename T>
struct Splat {
  T x, y, half_xx, xy, half_yy;
  T opacity, red, green, blue, depth;
  T number;  // in order of depth, from 1 on
};

template <typename T, typename V>
DIETNERF_HD V power_at(const Splat<T>& splat, V dx, T dy) {
  return dx * (splat.half_xx * dx + splat.xy * dy) + splat.half_yy * dy * dy;
}

// 0 where it does not count. Rounding makes the power of a thin ellipse negative.
template <typename T, typename V>
DIETNERF_HD V alpha_at(const Splat<T>& splat, V power) {
  const V zero{}, most = zero + T(kMaxAlpha), least = zero + T(kMinAlpha);
  const V alpha = splat.opacity * decay(power < zero ? zero : power).transmitted;
  const V clamped = alpha > most ? most : alpha;
  return clamped < least ? zero : clamped;
}

// What a pixel shows of the Gaussians so far, front to back.
template <typename T, typename V>
struct Pixel {
  V trans;
  V red{}, green{}, blue{}, opacity{}, depth{}, median{}, n_passed{};

  // Returns the weight.
  DIETNERF_HD V add(const Splat<T>& splat, V dx, T dy) {
    const V zero{}, least = zero + T(kMinTrans), half = zero + T(0.5);
    const V alpha = alpha_at(splat, power_at(splat, dx, dy));
    const V counted = trans >= least ? alpha : zero;
    const V weight = trans * counted;
    const V behind = trans * (T(1) - counted);
    red += weight * splat.red;
    green += weight * splat.green;
    blue += weight * splat.blue;
    opacity += weight;
    depth += weight * splat.depth;
    // Until half of the light is stopped the median is the last that counts, or none.
    median = trans > half ? (behind > half ? zero : zero + splat.depth) : median;
    n_passed = weight > zero ? zero + splat.number : n_passed;
    trans = behind;
    return weight;
  }
};

// What arrives of the loss at a pixel.
template <typename V>
struct PixelGrads {
  V red{}, green{}, blue{}, opacity{}, depth{};
};

// Sums over pixels of which a Gaussian's gradients are made: with h = alpha dL/dalpha, those of h
// and of h times products of the offset from the center; then those of the color and depth, and the
// absolute values of the center's.
template <typename V>
struct SplatSums {
  V h{}, x{}, y{}, xx{}, xy{}, yy{};
  V red{}, green{}, blue{}, depth{};
  V abs_x{}, abs_y{};

  DIETNERF_HD void operator+=(const SplatSums& other) {
    h += other.h, x += other.x, y += other.y;
    xx += other.xx, xy += other.xy, yy += other.yy;
    red += other.red, green += other.green, blue += other.blue, depth += other.depth;
    abs_x += other.abs_x, abs_y += other.abs_y;
  }
};

// Back to front: dL/dalpha_i = T_i q_i - (sum_{k>i} w_k q_k) / (1 - alpha_i), where q_k is dL/dw_k
// and the light behind all counts as one more of weight T_n.
template <typename T, typename V>
struct PixelBackward {
  V trans, loss_behind, n_passed;

  template <bool kAbsolute>
  DIETNERF_HD void add(const Splat<T>& splat, V dx, T dy, const PixelGrads<V>& g,
                       SplatSums<V>& sums) {
    const V zero{}, number = zero + splat.number, most = zero + T(kMaxAlpha);
    const V power = power_at(splat, dx, dy);
    const V alpha = n_passed >= number ? alpha_at(splat, power) : zero;
    const V inverse = T(1) / (T(1) - alpha);
    trans = trans * inverse;
    const V weight = trans * alpha;
    const V q = g.red * splat.red + g.green * splat.green + g.blue * splat.blue + g.opacity +
                g.depth * splat.depth;
    const V slope = alpha * (trans * q - loss_behind * inverse);
    loss_behind += weight * q;
    const V h = alpha < most ? slope : zero;
    const V of_power = power < zero ? zero : h;
    const V h_x = of_power * dx;
    sums.h += h;
    sums.x += h_x;
    sums.y += of_power * dy;
    sums.xx += h_x * dx;
    sums.xy += h_x * dy;
    sums.yy += of_power * (dy * dy);
    sums.red += weight * g.red;
    sums.green += weight * g.green;
    sums.blue += weight * g.blue;
    sums.depth += weight * g.depth;
    if (kAbsolute) {
      const V grad_x = of_power * (T(2) * splat.half_xx * dx + splat.xy * dy);
      const V grad_y = of_power * (splat.xy * dx + T(2) * splat.half_yy * dy);
      sums.abs_x += grad_x < zero ? -grad_x : grad_x;
      sums.abs_y += grad_y < zero ? -grad_y : grad_y;
    }
  }
};

// Gradients of one Gaussian; null where they are not computed.
template <typename T>
struct SplatGrads {
  T *centers, *conics, *depths, *opacities, *colors, *absgrad;

  DIETNERF_HD void write(int64_t id, const Splat<T>& splat, const SplatSums<T>& sums) const {
    if (centers) {
      centers[2 * id] = T(2) * splat.half_xx * sums.x + splat.xy * sums.y;
      centers[2 * id + 1] = splat.xy * sums.x + T(2) * splat.half_yy * sums.y;
    }
    if (conics) {
      conics[3 * id] = T(-0.5) * sums.xx;
      conics[3 * id + 1] = -sums.xy;
      conics[3 * id + 2] = T(-0.5) * sums.yy;
    }
    if (depths) depths[id] = sums.depth;
    if (opacities) opacities[id] = sums.h / splat.opacity;
    if (colors) {
      colors[3 * id] = sums.red;
      colors[3 * id + 1] = sums.green;
      colors[3 * id + 2] = sums.blue;
    }
    if (absgrad) {
      absgrad[2 * id] = sums.abs_x;
      absgrad[2 * id + 1] = sums.abs_y;
    }
  }
};

}  // namespace dietnerf::rasterizing
