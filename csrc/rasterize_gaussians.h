// Compositing Gaussians: input checks, outputs, and the op on any device. The mathematics is in
// rasterize_gaussians/; see dietnerf/ops/rasterize_gaussians.py for shapes and units.
#pragma once

#include "common.h"
#include "rasterize_gaussians/blend.h"

namespace dietnerf {

struct RasterizeInputs {
  Tensor centers, conics, depths, radii, opacities, colors;
  int64_t n, width, height;

  RasterizeInputs(const char* op, const Tensor& centers_, const Tensor& conics_,
                  const Tensor& depths_, const Tensor& radii_, const Tensor& opacities_,
                  const Tensor& colors_, int64_t width_, int64_t height_,
                  const OptionalTensor& absgrad)
      : centers(check_tensor(op, "centers", centers_, centers_, {first_size(centers_), 2})),
        conics(check_tensor(op, "conics", conics_, centers, {centers.size(0), 3})),
        depths(check_tensor(op, "depths", depths_, centers, {centers.size(0)})),
        radii(check_tensor(op, "radii", radii_, centers, {centers.size(0)})),
        opacities(check_tensor(op, "opacities", opacities_, centers, {centers.size(0)})),
        colors(check_tensor(op, "colors", colors_, centers, {centers.size(0), 3})),
        n(centers.size(0)),
        width(width_),
        height(height_) {
    constexpr int64_t kLargest = 1 << 14, kMost = 1 << 24;
    check_tensor(op, "absgrad", absgrad, centers, {n, 2});
    STD_TORCH_CHECK(1 <= width && width <= kLargest && 1 <= height && height <= kLargest, op,
                    ": width and height must be from 1 to ", kLargest, ", got ", width, " and ",
                    height);
    // Their numbers are kept as float32.
    STD_TORCH_CHECK(n < kMost, op, ": centers must be of fewer than ", kMost, " Gaussians, got ",
                    n);
    check_opacities(op);
  }

  int64_t n_tiles() const { return tiles(width) * tiles(height); }

  static int64_t tiles(int64_t n_pixels) {
    return (n_pixels + rasterizing::kTileSide - 1) / rasterizing::kTileSide;
  }

 private:
  // They are not read on a GPU, which would synchronize.
  void check_opacities(const char* op) const {
    if (!opacities.is_cpu()) return;
    with_floating_type(op, opacities, [&](auto zero) {
      using T = decltype(zero);
      const T* values = const_data<T>(opacities);
      bool fits = true;
      for (int64_t i = 0; i < n; ++i) fits &= values[i] >= 0 && values[i] <= 1;
      STD_TORCH_CHECK(fits, op, ": opacities must be from 0 to 1");
    });
  }
};

struct RasterizeOutputs {
  Tensor rgb, opacity, depth, median_depth, max_weights, trans, n_passed;

  explicit RasterizeOutputs(const RasterizeInputs& in)
      : rgb(empty_sized(in.centers, {in.height, in.width, 3})),
        opacity(empty_sized(in.centers, {in.height, in.width})),
        depth(empty_sized(in.centers, {in.height, in.width})),
        median_depth(empty_sized(in.centers, {in.height, in.width})),
        max_weights(zeros_sized(in.centers, {in.n})),
        trans(empty_sized(in.centers, {in.height, in.width})),
        n_passed(empty_sized(in.centers, {in.height, in.width})) {}

  std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> tuple() const {
    return {rgb, opacity, depth, median_depth, max_weights, trans, n_passed};
  }
};

// The gradients of the outputs that have one, and what the forward op saved.
struct RasterizeGrads {
  OptionalTensor rgb, opacity, depth, grad_trans;
  Tensor trans, n_passed;

  RasterizeGrads(const char* op, const RasterizeInputs& in, const OptionalTensor& grad_rgb,
                 const OptionalTensor& grad_opacity, const OptionalTensor& grad_depth,
                 const OptionalTensor& grad_trans_, const Tensor& trans_, const Tensor& n_passed_)
      : rgb(check_tensor(op, "grad_rgb", grad_rgb, in.centers, {in.height, in.width, 3})),
        opacity(check_tensor(op, "grad_opacity", grad_opacity, in.centers, {in.height, in.width})),
        depth(check_tensor(op, "grad_depth", grad_depth, in.centers, {in.height, in.width})),
        grad_trans(check_tensor(op, "grad_trans", grad_trans_, in.centers, {in.height, in.width})),
        trans(check_tensor(op, "trans", trans_, in.centers, {in.height, in.width})),
        n_passed(check_tensor(op, "n_passed", n_passed_, in.centers, {in.height, in.width})) {}
};

// Gradients of the inputs, empty where `output_mask` has no bit; zero for Gaussians without pixels.
struct RasterizeInputGrads {
  Tensor centers, conics, depths, opacities, colors, absgrad;

  RasterizeInputGrads(const RasterizeInputs& in, int64_t output_mask)
      : centers(new_grad(in, output_mask >> 0 & 1, 2)),
        conics(new_grad(in, output_mask >> 1 & 1, 3)),
        depths(new_grad(in, output_mask >> 2 & 1, 1)),
        opacities(new_grad(in, output_mask >> 3 & 1, 1)),
        colors(new_grad(in, output_mask >> 4 & 1, 3)),
        absgrad(new_grad(in, output_mask >> 5 & 1, 2)) {}

  template <typename T>
  rasterizing::SplatGrads<T> pointers() const {
    return {mutable_data<T>(centers),   mutable_data<T>(conics), mutable_data<T>(depths),
            mutable_data<T>(opacities), mutable_data<T>(colors), mutable_data<T>(absgrad)};
  }

  std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> tuple() const {
    return {centers, conics, depths, opacities, colors, absgrad};
  }

 private:
  static Tensor new_grad(const RasterizeInputs& in, bool is_computed, int64_t n_columns) {
    if (!is_computed) return empty_sized(in.centers, {0});
    return n_columns == 1 ? zeros_sized(in.centers, {in.n})
                          : zeros_sized(in.centers, {in.n, n_columns});
  }
};

// The op on the device of `Rasterizer`, which has a forward and a backward on checked inputs.
template <typename Rasterizer>
struct RasterizeGaussiansOp {
  static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> forward(
      Tensor centers, Tensor conics, Tensor depths, Tensor radii, Tensor opacities, Tensor colors,
      int64_t width, int64_t height, OptionalTensor absgrad) {
    const RasterizeInputs in("rasterize_gaussians", centers, conics, depths, radii, opacities,
                             colors, width, height, absgrad);
    const RasterizeOutputs out(in);
    Rasterizer::forward(in, out);
    return out.tuple();
  }

  static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> backward(
      int64_t output_mask, OptionalTensor grad_rgb, OptionalTensor grad_opacity,
      OptionalTensor grad_depth, OptionalTensor /*grad_median_depth*/,
      OptionalTensor /*grad_max_weights*/, OptionalTensor grad_trans,
      OptionalTensor /*grad_n_passed*/, Tensor trans, Tensor n_passed, Tensor centers,
      Tensor conics, Tensor depths, Tensor radii, Tensor opacities, Tensor colors, int64_t width,
      int64_t height, OptionalTensor absgrad) {
    const char* op = "rasterize_gaussians_backward";
    const RasterizeInputs in(op, centers, conics, depths, radii, opacities, colors, width, height,
                             absgrad);
    const RasterizeGrads grads(op, in, grad_rgb, grad_opacity, grad_depth, grad_trans, trans,
                               n_passed);
    const RasterizeInputGrads out(in, output_mask);
    Rasterizer::backward(in, grads, out);
    return out.tuple();
  }

  static void register_kernels(torch::stable::detail::StableLibrary& library) {
    library.impl("rasterize_gaussians", TORCH_BOX(&RasterizeGaussiansOp::forward));
    library.impl("rasterize_gaussians_backward", TORCH_BOX(&RasterizeGaussiansOp::backward));
  }
};

}  // namespace dietnerf
