// Inputs of the backward rendering on the CPU: gradients of the outputs, saved outputs, and the
// samples that were composited.
#pragma once

#include "render_field.h"

namespace dietnerf::rendering {

struct Grads {
  const float *weights, *rgb, *opacity, *depth, *trans;  // null if there is none
};

struct SavedPointers {
  const float *weights, *trans, *encoded;
};

// The checked gradients of the outputs, and the outputs that were saved.
class BackwardInputs {
 public:
  BackwardInputs(const RenderHashGridInputs& in, const CompositeGrads& grads,
                 const RenderSaved& saved)
      : grad_weights_(check_tensor(kOp, "grad_weights", grads.weights, in.ts, {in.n_samples})),
        grad_rgb_(check_tensor(kOp, "grad_rgb", grads.rgb, in.ts, {in.n_rays, 3})),
        grad_opacity_(check_tensor(kOp, "grad_opacity", grads.opacity, in.ts, {in.n_rays})),
        grad_depth_(check_tensor(kOp, "grad_depth", grads.depth, in.ts, {in.n_rays})),
        grad_trans_(check_tensor(kOp, "grad_trans", grads.trans, in.ts, {in.n_rays})),
        weights_(check_tensor(kOp, "weights", saved.weights, in.ts, {in.n_samples})),
        trans_(check_tensor(kOp, "trans", saved.trans, in.ts, {in.n_rays})),
        encoded_(check_tensor(kOp, "encoded", saved.encoded, in.ts,
                              {in.n_samples, in.shape.n_encoded})) {
    check_tensor(kOp, "rgbs", saved.rgbs, in.ts, {0, 3});  // they are recomputed, in the cache
  }

  Grads grads() const {
    return {const_data<float>(grad_weights_), const_data<float>(grad_rgb_),
            const_data<float>(grad_opacity_), const_data<float>(grad_depth_),
            const_data<float>(grad_trans_)};
  }

  SavedPointers saved() const {
    return {weights_.const_data_ptr<float>(), trans_.const_data_ptr<float>(),
            encoded_.const_data_ptr<float>()};
  }

 private:
  static constexpr const char* kOp = "render_hash_grid_backward";

  OptionalTensor grad_weights_, grad_rgb_, grad_opacity_, grad_depth_, grad_trans_;
  Tensor weights_, trans_, encoded_;
};

// The samples up to the last one of their ray that has a weight, with what the gradient of the
// table needs of each.
struct CompositedSamples {
  std::vector<int64_t> offsets;  // (n_rays + 1,) among these samples
  Buffer units;                  // (n, 3)
  Buffer grad_encoded;           // (n, n_encoded)

  CompositedSamples(const FieldView& field, const float* weights)
      : offsets(field.in.n_rays + 1, 0) {
    for (int64_t ray = 0; ray < field.in.n_rays; ++ray) {
      int64_t last = field.ray_offsets[ray + 1];
      while (last > field.ray_offsets[ray] && weights[last - 1] == 0) --last;
      offsets[ray + 1] = offsets[ray] + last - field.ray_offsets[ray];
    }
    units.resize(3 * n());
    grad_encoded.resize(n() * field.in.shape.n_encoded);
  }

  int64_t n() const { return offsets.back(); }
};

}  // namespace dietnerf::rendering
