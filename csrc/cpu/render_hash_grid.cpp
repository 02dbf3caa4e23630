// Rendering a hash-grid field on the CPU, forward and backward: groups of rays small enough that
// everything between the table and the pixel stays in the cache.
#include "render_backward.h"
#include "render_forward.h"

namespace dietnerf {

namespace {

using namespace rendering;

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> render_hash_grid_cpu(
    Tensor table, Tensor levels, Tensor level_weights, Tensor network, Tensor directions,
    Tensor rays_o, Tensor rays_d, Tensor ts, Tensor deltas, Tensor ray_offsets, Tensor bounds,
    int64_t width, int64_t n_geometry, int64_t colour_layers, bool is_unbounded, double early_stop,
    bool keeps_samples) {
  const RenderHashGridInputs in("render_hash_grid", table, levels, level_weights, network,
                                directions, rays_o, rays_d, ts, deltas, ray_offsets, bounds, width,
                                n_geometry, colour_layers, is_unbounded, early_stop);
  const Tensor weights = of_samples(in.ts, in.ray_offsets, {in.n_samples});
  const Tensor rgb = empty_sized(in.ts, {in.n_rays, 3});
  const Tensor opacity = empty_sized(in.ts, {in.n_rays});
  const Tensor depth = empty_sized(in.ts, {in.n_rays});
  const Tensor trans = empty_sized(in.ts, {in.n_rays});
  const Tensor encoded = keeps_samples
                             ? of_samples(in.ts, in.ray_offsets, {in.n_samples, in.shape.n_encoded})
                             : empty_sized(in.ts, {0, in.shape.n_encoded});
  const TinyMLPs mlps(in.network.const_data_ptr<float>(), in.shape);
  const Scene scene(in, mlps);
  const std::vector<Group> groups = cut(scene.ray_offsets, in.n_rays, kForwardGroup);
  const Outputs out{writable<float>(weights), writable<float>(rgb),
                    writable<float>(opacity), writable<float>(depth),
                    writable<float>(trans),   keeps_samples ? writable<float>(encoded) : nullptr};
  take_turns(groups.size(), [&] { return Forward(scene, groups, out); });
  return {weights, rgb, opacity, depth, trans, encoded, empty_sized(in.ts, {0, 3})};
}

std::tuple<Tensor, Tensor, Tensor> render_hash_grid_backward_cpu(
    int64_t wanted, OptionalTensor grad_weights, OptionalTensor grad_rgb,
    OptionalTensor grad_opacity, OptionalTensor grad_depth, OptionalTensor grad_trans,
    OptionalTensor /*grad_encoded*/, OptionalTensor /*grad_rgbs*/, Tensor weights, Tensor trans,
    Tensor encoded, Tensor rgbs, Tensor table, Tensor levels, Tensor level_weights, Tensor network,
    Tensor directions, Tensor rays_o, Tensor rays_d, Tensor ts, Tensor deltas, Tensor ray_offsets,
    Tensor bounds, int64_t width, int64_t n_geometry, int64_t colour_layers, bool is_unbounded,
    double early_stop, bool keeps_samples) {
  const char* op = "render_hash_grid_backward";
  const RenderHashGridInputs in(op, table, levels, level_weights, network, directions, rays_o,
                                rays_d, ts, deltas, ray_offsets, bounds, width, n_geometry,
                                colour_layers, is_unbounded, early_stop);
  const auto g_weights = checked(op, "grad_weights", grad_weights, in.ts, {in.n_samples});
  const auto g_rgb = checked(op, "grad_rgb", grad_rgb, in.ts, {in.n_rays, 3});
  const auto g_opacity = checked(op, "grad_opacity", grad_opacity, in.ts, {in.n_rays});
  const auto g_depth = checked(op, "grad_depth", grad_depth, in.ts, {in.n_rays});
  const auto g_trans = checked(op, "grad_trans", grad_trans, in.ts, {in.n_rays});
  const Grads grads{readable<float>(g_weights), readable<float>(g_rgb), readable<float>(g_opacity),
                    readable<float>(g_depth), readable<float>(g_trans)};
  const TinyMLPs mlps(in.network.const_data_ptr<float>(), in.shape);
  const Scene scene(in, mlps);
  const Tensor weights_ = checked(op, "weights", weights, in.ts, {in.n_samples});
  const Tensor trans_ = checked(op, "trans", trans, in.ts, {in.n_rays});
  const Tensor encoded_ =
      checked(op, "encoded", encoded, in.ts, {in.n_samples, in.shape.n_encoded});
  checked(op, "rgbs", rgbs, in.ts, {0, 3});  // they are computed again, in the cache

  Kept kept;
  kept.offsets = count_kept(scene, weights_.const_data_ptr<float>());
  kept.units.sized(3 * kept.n());
  kept.grad_encoded.sized(kept.n() * in.shape.n_encoded);
  const std::vector<Group> groups = cut(kept.offsets.data(), in.n_rays, kBackwardGroup);
  std::vector<float> parts(kParts * mlps.n_grads);
  const Tensor grad_directions =
      empty_sized(in.ts, {wanted & 4 ? in.n_rays : 0, in.shape.n_directions});
  take_turns(kParts, [&] {
    return Backward(scene, groups, kept, grads, weights_.const_data_ptr<float>(),
                    trans_.const_data_ptr<float>(), encoded_.const_data_ptr<float>(), parts.data(),
                    wanted & 4 ? writable<float>(grad_directions) : nullptr);
  });

  const Tensor grad_table = scatter(scene, kept);
  for (int64_t part = 1; part < kParts; ++part) {
    for (int64_t i = 0; i < mlps.n_grads; ++i) parts[i] += parts[part * mlps.n_grads + i];
  }
  const Tensor grad_network = empty_sized(in.ts, {in.network.numel()});
  mlps.write_grads(parts.data(), writable<float>(grad_network));
  return {grad_table, grad_network, grad_directions};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, m) {
  m.impl("render_hash_grid", TORCH_BOX(&render_hash_grid_cpu));
  m.impl("render_hash_grid_backward", TORCH_BOX(&render_hash_grid_backward_cpu));
}

}  // namespace dietnerf
