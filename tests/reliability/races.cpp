// Every op on threads of std::thread, which ThreadSanitizer follows, instead of torch's: with
// csrc/cpu/parallel_for.h as it is, and without torch but for tensors. One thread and four compute
// the same.
//
// With the argument "planted" the table's gradient is divided by samples, which is a race.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "csrc/cpu/adam_step.cpp"
#include "csrc/cpu/composite.cpp"
#include "csrc/cpu/distortion.cpp"
#include "csrc/cpu/eval_sh.cpp"
#include "csrc/cpu/hash_encode.cpp"
#include "csrc/cpu/march_rays.cpp"
#include "csrc/cpu/render_hash_grid.cpp"
#include "csrc/cpu/sample_pdf.cpp"
#include "csrc/cpu/sample_stratified.cpp"
#include "csrc/cpu/structural_similarity.cpp"

static uint32_t n_threads = 4;

// In place of those in torch's library.
extern "C" AOTITorchError torch_get_num_threads(uint32_t* found) {
  *found = n_threads;
  return AOTI_TORCH_SUCCESS;
}

extern "C" AOTITorchError torch_parallel_for(int64_t begin, int64_t end, int64_t, ParallelFunc work,
                                             void* context) {
  std::vector<std::thread> threads;
  for (int64_t i = begin; i < end; ++i) threads.emplace_back([=] { work(i, i + 1, context); });
  for (std::thread& thread : threads) thread.join();
  return AOTI_TORCH_SUCCESS;
}

namespace dietnerf {

namespace {

using Sizes = std::vector<int64_t>;
using Found = std::vector<std::vector<char>>;

uint32_t state = 1;

float random_float() {
  state = state * 1664525u + 1013904223u;
  return (state >> 8) / float(1 << 24);
}

Tensor floats(const Sizes& sizes, float low = 0, float high = 1) {
  const Tensor made = torch::stable::empty(sizes, ScalarType::Float);
  float* values = mutable_data<float>(made);
  for (int64_t i = 0; i < made.numel(); ++i) values[i] = low + (high - low) * random_float();
  return made;
}

Tensor integers(const Sizes& sizes, const Sizes& values) {
  const Tensor made = torch::stable::empty(sizes, ScalarType::Long);
  std::copy(values.begin(), values.end(), mutable_data<int64_t>(made));
  return made;
}

Tensor box(float low, float high) {
  const Tensor made = torch::stable::empty({2, 3}, ScalarType::Float);
  for (int i = 0; i < 6; ++i) mutable_data<float>(made)[i] = i < 3 ? low : high;
  return made;
}

void keep(Found& found, const Tensor& tensor) {
  const size_t size = tensor.scalar_type() == ScalarType::Long ? 8 : 4;
  const char* from = static_cast<const char*>(tensor.data_ptr());
  found.emplace_back(from, from + (from ? tensor.numel() * size : 0));
}

template <typename Tuple>
void keep_all(Found& found, const Tuple& tensors) {
  std::apply([&](const auto&... each) { (keep(found, each), ...); }, tensors);
}

struct Rays {
  int64_t n_rays = 500, n = 0;
  Tensor offsets, o, d;

  Rays() {
    Sizes ends{0};
    for (int64_t i = 0; i < n_rays; ++i)
      ends.push_back(n += static_cast<int64_t>(random_float() * 120));
    offsets = integers({n_rays + 1}, ends);
    o = floats({n_rays, 3}, -0.9f, 0.9f);
    d = floats({n_rays, 3}, -1, 1);
  }
};

Found all_ops() {
  state = 1;
  Found found;
  const Rays rays;
  const int64_t n = rays.n, n_rays = rays.n_rays;
  const Tensor a = floats({n}), b = floats({n}), c = floats({n}), rgbs = floats({n, 3});
  const Tensor near = floats({n_rays}), far = floats({n_rays}, 1, 3), u = floats({n_rays, 32});

  for (bool has_jitter : {false, true}) {
    const OptionalTensor jitter = has_jitter ? OptionalTensor(a) : std::nullopt;
    keep(found,
         SampleStratifiedOp<ParallelFor>::forward(near, far, rays.offsets, jitter, n, false));
    keep_all(found, SampleStratifiedOp<ParallelFor>::backward(7, b, near, far, rays.offsets, jitter,
                                                              n, true));
  }
  keep(found, SamplePdfOp<ParallelFor>::forward(a, b, c, rays.offsets, u));
  keep_all(found, SamplePdfOp<ParallelFor>::backward(15, u, a, b, c, rays.offsets, u));
  keep(found, DistortionOp<ParallelFor>::forward(a, b, c, rays.offsets));
  keep_all(found, DistortionOp<ParallelFor>::backward(7, near, a, b, c, rays.offsets));

  const auto composited = CompositeOp<ParallelFor>::forward(a, rgbs, b, c, rays.offsets, 1e-4);
  keep_all(found, composited);
  keep_all(found, CompositeOp<ParallelFor>::backward(
                      15, a, rays.o, near, far, near, std::get<0>(composited),
                      std::get<4>(composited), a, rgbs, b, c, rays.offsets, 1e-4));

  const Tensor parameter = floats({100, 1000}), grad = floats({100, 1000});
  const Tensor mean = floats({100, 1000}), square = floats({100, 1000});
  const Tensor rule = torch::stable::empty({3}, ScalarType::Double);
  for (int i = 0; i < 3; ++i) mutable_data<double>(rule)[i] = 0.5;
  AdamStepOp<AdamLines, ParallelFor>::forward(parameter, grad, mean, square, rule, 0.9, 0.99, 1e-8);
  keep_all(found, std::make_tuple(parameter, mean, square));

  const Tensor levels = integers({4, 3}, {2, 0, 32, 3, 32, 72, 20, 104, 512, 90, 616, 2048});
  const Tensor table = floats({2664, 2}), level_weights = floats({4});
  const Tensor positions = floats({20000, 3}), grad_features = floats({20000, 8});
  keep(found,
       HashEncodeOp<ParallelFor, CpuHashPolicy>::forward(table, positions, levels, level_weights));
  keep_all(found, HashEncodeOp<ParallelFor, CpuHashPolicy>::backward(
                      7, grad_features, table, positions, levels, level_weights));

  const Tensor occupied = torch::stable::empty({2, 512}, ScalarType::Byte);
  for (int i = 0; i < 1024; ++i)
    mutable_data<uint8_t>(occupied)[i] = random_float() < 0.3f ? 255 : 0;
  const Tensor origins = floats({3000, 3}, -2, 2), towards = floats({3000, 3}, -1, 1);
  const Tensor zeros = floats({3000}, 0, 0), ends = floats({3000}, 5, 9);
  for (std::optional<int64_t> capacity : {std::optional<int64_t>(), std::optional<int64_t>(9000)}) {
    keep_all(found, march_rays_cpu(origins, towards, zeros, ends, box(-1, 1), occupied, 16, 0.02,
                                   0.01, zeros, capacity));
  }

  const Tensor base = floats({3000, 1, 3}, -2, 2), rest = floats({3000, 8, 3}, -1, 1);
  keep(found, EvalShOp<ParallelFor>::forward(2, base, rest, towards));
  keep_all(found, EvalShOp<ParallelFor>::backward(7, origins, 2, base, rest, towards));

  using SimilarityOp = StructuralSimilarityOp<similarity::CpuTiles>;
  const Tensor x = floats({60, 300, 3}), y = floats({60, 300, 3}), one = floats({}, 1, 1);
  const auto compared = SimilarityOp::forward(x, y);
  keep_all(found, compared);
  keep_all(found, SimilarityOp::backward(3, one, std::nullopt, std::get<1>(compared), x, y));

  const NetworkShape shape{8, 32, 16, 4, 2};
  const Tensor network = floats({shape.n_weights()}, -0.3f, 0.3f), directions = floats({n_rays, 4});
  const auto rendered = RenderHashGridOp<CpuRenderer>::forward(
      table, levels, level_weights, network, directions, rays.o, rays.d, box(-1, 1), 32, 16, 2,
      true, 1e-4, a, b, rays.offsets, true);
  keep_all(found, rendered);
  keep_all(found, RenderHashGridOp<CpuRenderer>::backward(
                      7, c, rays.o, near, far, near, std::nullopt, std::nullopt,
                      std::get<0>(rendered), std::get<4>(rendered), std::get<5>(rendered),
                      std::get<6>(rendered), table, levels, level_weights, network, directions,
                      rays.o, rays.d, box(-1, 1), 32, 16, 2, true, 1e-4, a, b, rays.offsets, true));
  return found;
}

void planted_race() {
  const Tensor levels = integers({1, 3}, {2, 0, 32}), table = floats({32, 2});
  const Tensor positions = floats({20000, 3}), grad = floats({20000, 2});
  const HashEncodeInputs in("hash_encode", table, positions, levels, floats({1}));
  const HashBlocks by_block{CpuHashPolicy::kBlock, 1};
  hash_encode_backward(ParallelFor(in.n_samples()), 1, grad, in, {by_block, by_block, by_block});
}

}  // namespace

}  // namespace dietnerf

int main(int n_arguments, char** arguments) {
  if (n_arguments > 1 && std::strcmp(arguments[1], "planted") == 0) {
    dietnerf::planted_race();
    return 0;
  }
  const int n_rounds = n_arguments > 1 ? std::atoi(arguments[1]) : 5;
  n_threads = 1;
  const auto expected = dietnerf::all_ops();
  n_threads = 4;
  for (int i = 0; i < n_rounds; ++i) {
    if (dietnerf::all_ops() != expected) {
      std::fprintf(stderr, "four threads compute something else than one\n");
      return 1;
    }
  }
  std::printf("%d rounds, %zu outputs each, as with one thread\n", n_rounds, expected.size());
  return 0;
}
