// The ellipse of one Gaussian in the image, and the gradients back.
#pragma once

#include "../common.h"

namespace dietnerf::projecting {

constexpr double kMargin = 0.15;  // of the image's size
// Standard deviations at which an alpha of 1 has fallen to 1/255: sqrt(2 ln(255)).
constexpr double kReach = 3.3290429691304455;

template <typename T>
DIETNERF_HD T dot(const T* a, const T* b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

template <typename T>
DIETNERF_HD void cross(const T* a, const T* b, T* out) {
  out[0] = a[1] * b[2] - a[2] * b[1];
  out[1] = a[2] * b[0] - a[0] * b[2];
  out[2] = a[0] * b[1] - a[1] * b[0];
}

template <typename T>
struct Camera {
  const T *c2w, *focal, *center;  // (3, 4), (2,), (2,)
  T width, height, near, blur;
  bool antialias;

  // World to camera: x right, y down, z ahead.
  DIETNERF_HD T turn(int i, int k) const { return i == 0 ? c2w[4 * k] : -c2w[4 * k + i]; }

  // Of the image, widened by the margin, on the plane at depth 1.
  DIETNERF_HD T edge(int axis, T fraction) const {
    return (fraction * (axis == 0 ? width : height) - center[axis]) / focal[axis];
  }
};

// A rotation as a unit quaternion and as a matrix.
template <typename T>
struct Rotation {
  T w, x, y, z, inverse_norm;
  T matrix[3][3];

  DIETNERF_HD explicit Rotation(const T* q) {
    inverse_norm = T(1) / std::sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
    w = q[0] * inverse_norm, x = q[1] * inverse_norm;
    y = q[2] * inverse_norm, z = q[3] * inverse_norm;
    matrix[0][0] = 1 - 2 * (y * y + z * z);
    matrix[0][1] = 2 * (x * y - w * z);
    matrix[0][2] = 2 * (x * z + w * y);
    matrix[1][0] = 2 * (x * y + w * z);
    matrix[1][1] = 1 - 2 * (x * x + z * z);
    matrix[1][2] = 2 * (y * z - w * x);
    matrix[2][0] = 2 * (x * z - w * y);
    matrix[2][1] = 2 * (y * z + w * x);
    matrix[2][2] = 1 - 2 * (x * x + y * y);
  }

  // The gradient in the quaternion as given, from that in the matrix.
  DIETNERF_HD void backward(const T (&g)[3][3], T* grad) const {
    const T of_w =
        2 * (z * (g[1][0] - g[0][1]) + y * (g[0][2] - g[2][0]) + x * (g[2][1] - g[1][2]));
    const T of_x = 2 * (y * (g[0][1] + g[1][0]) + z * (g[0][2] + g[2][0]) +
                        w * (g[2][1] - g[1][2]) - 2 * x * (g[1][1] + g[2][2]));
    const T of_y = 2 * (x * (g[0][1] + g[1][0]) + z * (g[1][2] + g[2][1]) +
                        w * (g[0][2] - g[2][0]) - 2 * y * (g[0][0] + g[2][2]));
    const T of_z = 2 * (x * (g[0][2] + g[2][0]) + y * (g[1][2] + g[2][1]) +
                        w * (g[1][0] - g[0][1]) - 2 * z * (g[0][0] + g[1][1]));
    const T along = w * of_w + x * of_x + y * of_y + z * of_z;
    grad[0] = (of_w - w * along) * inverse_norm;
    grad[1] = (of_x - x * along) * inverse_norm;
    grad[2] = (of_y - y * along) * inverse_norm;
    grad[3] = (of_z - z * along) * inverse_norm;
  }
};

template <typename T>
struct Projected {
  Rotation<T> rotation;
  T offset[3], point[3];       // from the camera: in the world's axes, in its own
  T place[2], slope[2];        // on the plane at depth 1, and where the derivative is taken
  T scale[2];                  // pixels per scene unit at its depth
  T axes[3][3], turned[3][3];  // [k][j]: its axis j, as long as its deviation, in either's axes
  T along[2][3];               // [i][j]: axis j in the image
  T normal[3], area;           // their cross product, whose length is sqrt(det) without the blur
  T xx, xy, yy, determinant;   // covariance in the image, the blur included
  T center[2], conic[3], compensation;

  DIETNERF_HD Projected(const Camera<T>& camera, const T* mean, const T* log_scale,
                        const T* quaternion)
      : rotation(quaternion) {
    for (int k = 0; k < 3; ++k) offset[k] = mean[k] - camera.c2w[4 * k + 3];
    for (int i = 0; i < 3; ++i) {
      point[i] = 0;
      for (int k = 0; k < 3; ++k) point[i] += camera.turn(i, k) * offset[k];
    }
    for (int j = 0; j < 3; ++j) {
      const T deviation = std::exp(log_scale[j]);
      for (int k = 0; k < 3; ++k) axes[k][j] = rotation.matrix[k][j] * deviation;
      for (int i = 0; i < 3; ++i) {
        turned[i][j] = 0;
        for (int k = 0; k < 3; ++k) turned[i][j] += camera.turn(i, k) * axes[k][j];
      }
    }
    for (int i = 0; i < 2; ++i) {
      place[i] = point[i] / point[2];
      const T low = camera.edge(i, T(-kMargin)), high = camera.edge(i, T(1 + kMargin));
      slope[i] = place[i] < low ? low : place[i] > high ? high : place[i];
      scale[i] = camera.focal[i] / point[2];
      center[i] = place[i] * camera.focal[i] + camera.center[i];
      for (int j = 0; j < 3; ++j) along[i][j] = scale[i] * (turned[i][j] - slope[i] * turned[2][j]);
    }
    make_conic(camera);
  }

  DIETNERF_HD bool is_visible(const Camera<T>& camera) const {
    const T reach_x = T(kReach) * std::sqrt(xx), reach_y = T(kReach) * std::sqrt(yy);
    return point[2] > camera.near && determinant > 0 && std::isfinite(xx * yy * determinant) &&
           center[0] + reach_x > 0 && center[0] - reach_x < camera.width &&
           center[1] + reach_y > 0 && center[1] - reach_y < camera.height;
  }

  DIETNERF_HD T radius() const {
    const T half = (xx - yy) / 2;
    return T(kReach) * std::sqrt((xx + yy) / 2 + std::sqrt(half * half + xy * xy));
  }

 private:
  DIETNERF_HD void make_conic(const Camera<T>& camera) {
    cross(along[0], along[1], normal);
    // The difference xx yy - xy^2 would leave nothing of a thin ellipse.
    const T squared = dot(normal, normal);
    area = std::sqrt(squared);
    xx = dot(along[0], along[0]);
    xy = dot(along[0], along[1]);
    yy = dot(along[1], along[1]);
    determinant = squared + camera.blur * (xx + yy) + camera.blur * camera.blur;
    xx += camera.blur;
    yy += camera.blur;
    conic[0] = yy / determinant;
    conic[1] = -xy / determinant;
    conic[2] = xx / determinant;
    const T ratio = area / std::sqrt(determinant);
    compensation = !camera.antialias || ratio > 1 ? T(1) : ratio;
  }
};

template <typename T>
struct EllipseGrads {
  T center[2], conic[3], depth, compensation;
};

template <typename T>
struct GaussianGrads {
  T mean[3], log_scale[3], quaternion[4], c2w[12];

  DIETNERF_HD GaussianGrads(const Camera<T>& camera, const Projected<T>& at,
                            const EllipseGrads<T>& grads) {
    T of_along[2][3], of_turned[3][3], of_point[3], of_turn[3][3], of_matrix[3][3];
    conic_backward(camera, at, grads, of_along);
    along_backward(camera, at, grads, of_along, of_turned, of_point);
    for (int k = 0; k < 3; ++k) {
      mean[k] = 0;
      for (int i = 0; i < 3; ++i) {
        mean[k] += camera.turn(i, k) * of_point[i];
        of_turn[i][k] = of_point[i] * at.offset[k];
        for (int j = 0; j < 3; ++j) of_turn[i][k] += of_turned[i][j] * at.axes[k][j];
      }
      c2w[4 * k] = of_turn[0][k];
      c2w[4 * k + 1] = -of_turn[1][k];
      c2w[4 * k + 2] = -of_turn[2][k];
      c2w[4 * k + 3] = -mean[k];
    }
    for (int j = 0; j < 3; ++j) {
      T of_axis[3];
      for (int k = 0; k < 3; ++k) {
        of_axis[k] = 0;
        for (int i = 0; i < 3; ++i) of_axis[k] += camera.turn(i, k) * of_turned[i][j];
      }
      log_scale[j] = 0;
      for (int k = 0; k < 3; ++k) log_scale[j] += of_axis[k] * at.axes[k][j];
      const T deviation = deviation_of(at, j);
      for (int k = 0; k < 3; ++k) of_matrix[k][j] = of_axis[k] * deviation;
    }
    at.rotation.backward(of_matrix, quaternion);
  }

 private:
  DIETNERF_HD static T deviation_of(const Projected<T>& at, int j) {
    const T column[3] = {at.axes[0][j], at.axes[1][j], at.axes[2][j]};
    return std::sqrt(dot(column, column));  // the rotation's has length 1
  }

  // Through conic, determinant and compensation.
  DIETNERF_HD static void conic_backward(const Camera<T>& camera, const Projected<T>& at,
                                         const EllipseGrads<T>& grads, T (&of_along)[2][3]) {
    const T inverse = T(1) / at.determinant;
    T of_determinant = -inverse * dot(grads.conic, at.conic);
    T of_area = 0;  // over the area
    if (camera.antialias && at.compensation < 1 && at.area > 0) {
      of_determinant -= grads.compensation * at.compensation * inverse / 2;
      of_area = grads.compensation * at.compensation / (at.area * at.area);
    }
    const T of_xx = grads.conic[2] * inverse + camera.blur * of_determinant;
    const T of_xy = -grads.conic[1] * inverse;
    const T of_yy = grads.conic[0] * inverse + camera.blur * of_determinant;
    T of_normal[3], from_y[3], from_x[3];
    for (int j = 0; j < 3; ++j) of_normal[j] = (2 * of_determinant + of_area) * at.normal[j];
    cross(at.along[1], of_normal, from_y);
    cross(of_normal, at.along[0], from_x);
    for (int j = 0; j < 3; ++j) {
      of_along[0][j] = 2 * of_xx * at.along[0][j] + of_xy * at.along[1][j] + from_y[j];
      of_along[1][j] = 2 * of_yy * at.along[1][j] + of_xy * at.along[0][j] + from_x[j];
    }
  }

  // Through the perspective and its derivative.
  DIETNERF_HD static void along_backward(const Camera<T>& camera, const Projected<T>& at,
                                         const EllipseGrads<T>& grads, const T (&of_along)[2][3],
                                         T (&of_turned)[3][3], T (&of_point)[3]) {
    const T inverse = T(1) / at.point[2];
    of_point[2] = grads.depth;
    for (int j = 0; j < 3; ++j) of_turned[2][j] = 0;
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 3; ++j) {
        of_turned[i][j] = at.scale[i] * of_along[i][j];
        of_turned[2][j] -= at.slope[i] * of_turned[i][j];
      }
      T of_place = grads.center[i] * camera.focal[i];
      if (at.slope[i] == at.place[i]) of_place -= dot(of_turned[i], at.turned[2]);
      of_point[i] = of_place * inverse;
      of_point[2] -= inverse * (dot(of_along[i], at.along[i]) + of_place * at.place[i]);
    }
  }
};

}  // namespace dietnerf::projecting
