// Where the alpha of a Gaussian can count: an ellipse, and the part of it in a strip of columns.
#pragma once

#include "blend.h"

namespace dietnerf::rasterizing {

// Rows or columns from `first` to before `last`.
struct Span {
  int first, last;

  DIETNERF_HD bool empty() const { return first >= last; }
};

// The pixels, `n` of them, whose centers lie from `low` to `high`.
DIETNERF_HD Span pixels_between(double low, double high, int n) {
  const double first = std::ceil(low - 0.5), last = std::floor(high - 0.5) + 1;
  return {first > 0 ? static_cast<int>(first < n ? first : n) : 0,
          last < n ? static_cast<int>(last > 0 ? last : 0) : n};
}

// In float64: thin ellipses leave little of their determinant. Its upper and lower edge are
//   dy = -slant dx -+ sqrt(squared / yy - bend dx^2),
// the first of them farthest out at dx = top, the second at dx = -top.
struct Ellipse {
  double x, y, reach, top;
  double slant, squared_height, bend;
  bool counts;

  // The conic must be that of a Gaussian, else nothing of it counts.
  template <typename T>
  DIETNERF_HD static Ellipse of(T x, T y, const T* conic, T opacity) {
    const double xy = conic[1], yy = conic[2], product = conic[0] * yy, rest = product - xy * xy;
    if (!(opacity >= T(kMinAlpha) && conic[0] > 0 && yy > 0 && std::isfinite(product) &&
          product > 0 && std::isfinite(xy) && std::isfinite(x) && std::isfinite(y))) {
      return {};
    }
    // As far as float32 tells apart from none.
    const double determinant = rest > 1e-6 * product ? rest : 1e-6 * product;
    // Somewhat larger, for what rounding might let count.
    const double squared = 2.001 * std::log(opacity / kMinAlpha) + 1e-3;
    const double inverse = 1 / yy, xx = (determinant + xy * xy) * inverse;
    return {static_cast<double>(x),
            static_cast<double>(y),
            std::sqrt(squared * yy / determinant),
            xy * std::sqrt(squared / (xx * determinant)),
            xy * inverse,
            squared * inverse,
            determinant * inverse * inverse,
            true};
  }

  DIETNERF_HD Span columns(int width) const { return pixels_between(x - reach, x + reach, width); }

  // The rows that it covers between two x.
  DIETNERF_HD Span rows(double low, double high, int height) const {
    low = low - x > -reach ? low - x : -reach;
    high = high - x < reach ? high - x : reach;
    if (low > high) return {0, 0};
    return pixels_between(y + edge(top, low, high, -1), y + edge(-top, low, high, 1), height);
  }

 private:
  DIETNERF_HD double edge(double dx, double low, double high, double sign) const {
    dx = dx < low ? low : dx;
    dx = dx > high ? high : dx;
    const double rest = squared_height - bend * dx * dx;
    return sign * std::sqrt(rest > 0 ? rest : 0) - slant * dx;
  }
};

}  // namespace dietnerf::rasterizing
