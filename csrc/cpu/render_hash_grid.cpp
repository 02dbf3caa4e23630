// Rendering a hash-grid field on the CPU, forward and backward: groups of rays small enough that
// everything between the table and the pixel stays in the cache.
#include "render_backward.h"
#include "render_forward.h"

namespace dietnerf {

namespace {

using namespace rendering;

struct CpuRenderer {
  static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> forward(
      const RenderHashGridInputs& in, bool saves_samples) {
    const Tensor weights = new_per_sample(in.ts, in.ray_offsets, {in.n_samples});
    const Tensor rgb = empty_sized(in.ts, {in.n_rays, 3});
    const Tensor opacity = empty_sized(in.ts, {in.n_rays});
    const Tensor depth = empty_sized(in.ts, {in.n_rays});
    const Tensor trans = empty_sized(in.ts, {in.n_rays});
    const Tensor encoded =
        saves_samples ? new_per_sample(in.ts, in.ray_offsets, {in.n_samples, in.shape.n_encoded})
                      : empty_sized(in.ts, {0, in.shape.n_encoded});
    const TinyMLPs mlps(in.network.const_data_ptr<float>(), in.shape);
    const FieldView field(in, mlps);
    const std::vector<Group> groups = group_rays(field.ray_offsets, in.n_rays, kForwardGroup);
    const Outputs out{
        mutable_data<float>(weights), mutable_data<float>(rgb),
        mutable_data<float>(opacity), mutable_data<float>(depth),
        mutable_data<float>(trans),   saves_samples ? mutable_data<float>(encoded) : nullptr};
    parallel_for_dynamic(groups.size(), [&] { return Forward(field, groups, out); });
    return {weights, rgb, opacity, depth, trans, encoded, empty_sized(in.ts, {0, 3})};
  }

  static std::tuple<Tensor, Tensor, Tensor> backward(const RenderHashGridInputs& in,
                                                     int64_t output_mask,
                                                     const CompositeGrads& grads_,
                                                     const RenderSaved& saved_) {
    const BackwardInputs checked(in, grads_, saved_);
    const TinyMLPs mlps(in.network.const_data_ptr<float>(), in.shape);
    const FieldView field(in, mlps);
    const SavedPointers saved = checked.saved();
    CompositedSamples samples(field, saved.weights);
    const std::vector<Group> groups = group_rays(samples.offsets.data(), in.n_rays, kBackwardGroup);
    std::vector<float> grad_networks(kParts * mlps.n_grads);
    const Tensor grad_directions =
        empty_sized(in.ts, {output_mask & 4 ? in.n_rays : 0, in.shape.n_directions});
    parallel_for_dynamic(kParts, [&] {
      return Backward(field, groups, samples, checked.grads(), saved, grad_networks.data(),
                      output_mask & 4 ? mutable_data<float>(grad_directions) : nullptr);
    });
    const Tensor grad_table = table_grad(field, samples);
    sum_parts(grad_networks.data(), mlps.n_grads);
    const Tensor grad_network = empty_sized(in.ts, {in.network.numel()});
    mlps.write_grads(grad_networks.data(), mutable_data<float>(grad_network));
    return {grad_table, grad_network, grad_directions};
  }
};

}  // namespace

}  // namespace dietnerf

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, library) {
  dietnerf::RenderHashGridOp<dietnerf::CpuRenderer>::register_kernels(library);
}
