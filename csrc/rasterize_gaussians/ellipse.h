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

// In float64: thin ellipses leave little of their determinant.
struct Ellipse {
  double x, y, xy, yy;
  double squared;      // the conic's value at the edge
  double determinant;  // 0 if nothing of it counts

  template <typename T>
  DIETNERF_HD static Ellipse of(T x, T y, const T* conic, T opacity) {
    const double xx = conic[0], xy = conic[1], yy = conic[2];
    const double product = xx * yy, rest = product - xy * xy;
    // As far as float32 tells apart from none.
    const double determinant = rest > 1e-6 * product ? rest : 1e-6 * product;
    // Somewhat larger, for what rounding might let count.
    const double squared = 2.001 * std::log(opacity / kMinAlpha) + 1e-3;
    const bool counts = opacity >= T(kMinAlpha) && xx > 0 && yy > 0 && std::isfinite(product) &&
                        determinant > 0 && std::isfinite(xy) && std::isfinite(x) &&
                        std::isfinite(y);
    return {static_cast<double>(x),    static_cast<double>(y), xy, yy, squared,
            counts ? determinant : 0.0};
  }

  DIETNERF_HD double reach_x() const { return std::sqrt(squared * yy / determinant); }

  DIETNERF_HD Span columns(int width) const {
    const double reach = reach_x();
    return pixels_between(x - reach, x + reach, width);
  }

  // The rows that it covers between two x. Its upper and lower edge are
  // dy = (-xy dx +- sqrt(yy squared - determinant dx^2)) / yy, of which each is farthest out at
  // dx = -+xy sqrt(squared / (xx determinant)), or at the end of the strip that is nearest to that.
  DIETNERF_HD Span rows(double low, double high, int height) const {
    const double reach = reach_x();
    low = low - x > -reach ? low - x : -reach;
    high = high - x < reach ? high - x : reach;
    if (low > high) return {0, 0};
    const double xx = (determinant + xy * xy) / yy;
    const double top = xy * std::sqrt(squared / (xx * determinant));
    return pixels_between(y + edge(top, low, high, -1), y + edge(-top, low, high, 1), height);
  }

 private:
  DIETNERF_HD double edge(double dx, double low, double high, double sign) const {
    dx = dx < low ? low : dx;
    dx = dx > high ? high : dx;
    const double rest = yy * squared - determinant * dx * dx;
    return (-xy * dx + sign * std::sqrt(rest > 0 ? rest : 0)) / yy;
  }
};

}  // namespace dietnerf::rasterizing
