// Structural similarity: input checks, and what a device's kernels are given. The mathematics is in
// structural_similarity/tile.h; see dietnerf/ops/structural_similarity.py for shapes and units.
#pragma once

#include <utility>

#include "common.h"
#include "structural_similarity/tile.h"

namespace dietnerf {

struct SimilarityInputs {
  Tensor x, y;
  int64_t height, width;

  SimilarityInputs(const char* op, const Tensor& x_, const Tensor& y_)
      : x(check_image(op, "x", x_, x_)),
        y(check_image(op, "y", y_, x)),
        height(x.size(0)),
        width(x.size(1)) {
    STD_TORCH_CHECK(height >= similarity::kWindow && width >= similarity::kWindow, op,
                    ": x and y must be at least ", similarity::kWindow,
                    " pixels high and wide, got ", shape_text(x.sizes().data(), 3));
  }

  SimilarityInputs swapped() const {
    SimilarityInputs found = *this;
    std::swap(found.x, found.y);
    return found;
  }

 private:
  static Tensor check_image(const char* op, const char* name, const Tensor& image,
                            const Tensor& like) {
    const int64_t width = like.dim() > 1 ? like.size(1) : 0;
    return check_tensor(op, name, image, like, {first_size(like), width, similarity::kChannels});
  }
};

// The op on the device of `Tiles`: run(kernel, n_tiles, like) calls kernel(block, memory, tile) for
// every tile of a size `Tiles::Size`, and sum(values) adds up in the same order at every call.
template <typename Tiles>
struct StructuralSimilarityOp {
  using Size = typename Tiles::Size;

  static std::tuple<Tensor, Tensor> forward(Tensor x, Tensor y) {
    return similarity_of("structural_similarity", {"structural_similarity", x, y});
  }

  // The similarity is symmetric: the gradient in y is that in x of swapped images.
  static std::tuple<Tensor, Tensor> backward(int64_t output_mask, OptionalTensor grad_similarity,
                                             OptionalTensor /*grad_derivatives*/,
                                             Tensor derivatives_, Tensor x, Tensor y) {
    const char* op = "structural_similarity_backward";
    const SimilarityInputs in(op, x, y);
    STD_TORCH_CHECK(grad_similarity.has_value(), op, ": grad_similarity must be given");
    const Tensor grad = check_tensor(op, "grad_similarity", *grad_similarity, in.x, {});
    const Tensor derivatives =
        check_tensor(op, "derivatives", derivatives_, in.x,
                     {3, in.height + similarity::kBorder, in.width + similarity::kBorder,
                      similarity::kChannels});
    const Tensor none = empty_sized(in.x, {0});
    return {output_mask & 1 ? gradient(op, grad, derivatives, in) : none,
            output_mask & 2 ? gradient_in_y(op, grad, in) : none};
  }

  static void register_kernels(torch::stable::detail::StableLibrary& library) {
    library.impl("structural_similarity", TORCH_BOX(&StructuralSimilarityOp::forward));
    library.impl("structural_similarity_backward", TORCH_BOX(&StructuralSimilarityOp::backward));
  }

 private:
  // With the derivatives of the mean by the blurred maps.
  static std::tuple<Tensor, Tensor> similarity_of(const char* op, const SimilarityInputs& in) {
    const int64_t border = similarity::kBorder;
    const int64_t n_tiles = Size::n_tiles(in.height - border, in.width - border);
    const Tensor derivatives =
        zeros_sized(in.x, {3, in.height + border, in.width + border, similarity::kChannels});
    const Tensor sums = empty_sized(in.x, {n_tiles});
    with_floating_type(op, in.x, [&](auto zero) {
      using T = decltype(zero);
      Tiles::run(similarity::Similarity<T, Size>{const_data<T>(in.x), const_data<T>(in.y),
                                                 in.height, in.width, mutable_data<T>(derivatives),
                                                 mutable_data<T>(sums)},
                 n_tiles, in.x);
    });
    return {Tiles::sum(sums), derivatives};
  }

  static Tensor gradient(const char* op, const Tensor& grad, const Tensor& derivatives,
                         const SimilarityInputs& in) {
    const Tensor found = torch::stable::empty_like(in.x);
    with_floating_type(op, in.x, [&](auto zero) {
      using T = decltype(zero);
      Tiles::run(
          similarity::SimilarityBackward<T, Size>{const_data<T>(grad), const_data<T>(derivatives),
                                                  const_data<T>(in.x), const_data<T>(in.y),
                                                  in.height, in.width, mutable_data<T>(found)},
          Size::n_tiles(in.height, in.width), in.x);
    });
    return found;
  }

  static Tensor gradient_in_y(const char* op, const Tensor& grad, const SimilarityInputs& in) {
    const auto [unused, derivatives] = similarity_of(op, in.swapped());
    return gradient(op, grad, derivatives, in.swapped());
  }
};

}  // namespace dietnerf
