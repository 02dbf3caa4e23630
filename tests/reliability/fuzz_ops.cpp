// An op's kernels on the CPU, called past its Python with arguments that are made of the fuzzer's
// bytes: right ones, ones that are a little wrong, wild ones. To refuse them in a sentence that
// names the op is an answer; to crash, to hang, or to read and write out of aabb is none.
//
// DIETNERF_FUZZED says which op. See tests/reliability/sanitized.py.
#include <fuzzer/FuzzedDataProvider.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
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

namespace dietnerf {

namespace {

using Sizes = std::vector<int64_t>;
using torch::headeronly::DeviceType;

constexpr double kSpecialNumbers[] = {
    0.0,     -0.0, 1.0,  -1.0, NAN,    INFINITY, -INFINITY,    1e-45,    1e-300, 3.4e38,
    -3.4e38, 2e9,  -3e9, 1e30, -1e-30, 1e300,    4294967296.0, 0.999999, 1e10,   16777216.0};
constexpr int64_t kSpecialIntegers[] = {0,
                                        1,
                                        -1,
                                        2,
                                        7,
                                        8,
                                        9,
                                        16,
                                        24,
                                        4096,
                                        INT32_MAX,
                                        int64_t{INT32_MAX} + 1,
                                        int64_t{1} << 32,
                                        int64_t{1} << 40,
                                        int64_t{1} << 60,
                                        int64_t{1} << 62,
                                        INT64_MAX,
                                        INT64_MIN,
                                        INT64_MIN + 1,
                                        -(int64_t{1} << 32)};
constexpr ScalarType kTypes[] = {ScalarType::Float, ScalarType::Double,   ScalarType::Half,
                                 ScalarType::Byte,  ScalarType::BFloat16, ScalarType::Int,
                                 ScalarType::Long,  ScalarType::Bool};

int64_t bytes_of(ScalarType type) {
  switch (type) {
    case ScalarType::Double:
    case ScalarType::Long:
      return 8;
    case ScalarType::Float:
    case ScalarType::Int:
      return 4;
    case ScalarType::Half:
    case ScalarType::BFloat16:
      return 2;
    default:
      return 1;
  }
}

// One call's arguments. Their memory ends where the last element does, and lives until it is over.
class Case {
 public:
  FuzzedDataProvider bytes;
  ScalarType type;

  Case(const uint8_t* data, size_t size)
      : bytes(data, size),
        type(bytes.ConsumeBool() ? ScalarType::Float : ScalarType::Double),
        is_right_(bytes.ConsumeBool()),
        state_(bytes.ConsumeIntegral<uint32_t>()) {}

  int64_t upto(int64_t most) { return bytes.ConsumeIntegralInRange<int64_t>(0, most); }
  bool rarely() { return bytes.ConsumeIntegralInRange<int>(0, 15) == 15; }
  bool is_wrong() { return !is_right_ && rarely(); }

  int64_t integer(int64_t right) {
    return is_wrong() ? bytes.PickValueInArray(kSpecialIntegers) : right;
  }
  double number(double right) {
    return is_wrong() ? bytes.PickValueInArray(kSpecialNumbers) : right;
  }

  Tensor floats(Sizes sizes) { return floats(std::move(sizes), type); }

  Tensor floats(Sizes sizes, ScalarType its_type) {
    const int mood = bytes.ConsumeIntegralInRange<int>(0, 5);
    return made(std::move(sizes), its_type, [&](ScalarType t, char* at, int64_t n) {
      for (int64_t i = 0; i < n; ++i) put(t, at + i * bytes_of(t), next(mood));
      for (int64_t pokes = n ? upto(2) : 0; pokes > 0; --pokes) {
        put(t, at + upto(n - 1) * bytes_of(t), bytes.PickValueInArray(kSpecialNumbers));
      }
    });
  }

  OptionalTensor perhaps(Sizes sizes) {
    if (bytes.ConsumeBool()) return std::nullopt;
    return floats(std::move(sizes));
  }

  Tensor integers(Sizes sizes, const Sizes& values) {
    return made(std::move(sizes), ScalarType::Long, [&](ScalarType t, char* at, int64_t n) {
      for (int64_t i = 0; i < n; ++i) {
        const int64_t value = i < static_cast<int64_t>(values.size()) ? values[i] : 0;
        put(t, at + i * bytes_of(t), integer(value));
      }
    });
  }

  Tensor bits(Sizes sizes) {
    const uint8_t share = bytes.ConsumeIntegral<uint8_t>();
    return made(std::move(sizes), ScalarType::Byte, [&](ScalarType t, char* at, int64_t n) {
      for (int64_t i = 0; i < n * bytes_of(t); ++i) at[i] = random() % 256 < share ? random() : 0;
    });
  }

  // Of a few rays; the last is the number of samples, but for some that may belong to none.
  Sizes offsets(int64_t most = 300) {
    Sizes found{0};
    for (int64_t n = rarely() ? upto(most) : upto(6); n > 0; --n) {
      found.push_back(found.back() + (rarely() ? upto(200) : upto(9)));
    }
    return found;
  }

 private:
  bool is_right_;
  uint32_t state_;
  std::vector<std::unique_ptr<char[]>> memory_;

  uint32_t random() {
    state_ = state_ * 1664525u + 1013904223u;
    return state_ >> 8;
  }

  double next(int mood) {
    const double share = random() / double(1 << 24);
    switch (mood) {
      case 3:
        return 200 * share - 100;
      case 4:
        return std::exp(200 * share - 100) * (random() % 2 ? 1 : -1);
      case 5:
        return random() % 8 ? share : kSpecialNumbers[random() % std::size(kSpecialNumbers)];
      default:
        return share;
    }
  }

  static void put(ScalarType t, char* at, double value) {
    if (t == ScalarType::Double) {
      std::memcpy(at, &value, 8);
    } else if (t == ScalarType::Float) {
      const float narrow = static_cast<float>(value);
      std::memcpy(at, &narrow, 4);
    } else if (t == ScalarType::Half) {
      const Half narrow(static_cast<float>(value));
      std::memcpy(at, &narrow, 2);
    } else if (t == ScalarType::BFloat16) {
      const BFloat16 narrow(static_cast<float>(value));
      std::memcpy(at, &narrow, 2);
    } else {
      put(t, at, static_cast<int64_t>(std::fabs(value) < 1e18 ? value : 0));
    }
  }

  static void put(ScalarType t, char* at, int64_t value) {
    if (t == ScalarType::Bool) value &= 1;
    std::memcpy(at, &value, bytes_of(t));
  }

  template <typename Fill>
  Tensor made(Sizes sizes, ScalarType t, const Fill& fill) {
    if (is_wrong()) twist(&sizes, &t);
    Sizes strides(sizes.size());
    int64_t n = 1;
    const bool is_column_major = rarely(), is_spaced = rarely(), is_expanded = rarely();
    for (size_t i = 0; i < sizes.size(); ++i) {
      const size_t dim = is_column_major ? i : sizes.size() - 1 - i;
      strides[dim] = n * (is_spaced ? 2 : 1);
      n *= sizes[dim];
    }
    if (is_expanded && !sizes.empty()) strides[upto(sizes.size() - 1)] = 0;
    int64_t n_elements = n ? 1 : 0;
    for (size_t i = 0; n && i < sizes.size(); ++i) n_elements += (sizes[i] - 1) * strides[i];
    memory_.push_back(std::make_unique<char[]>(n_elements * bytes_of(t)));
    fill(t, memory_.back().get(), n_elements);
    return torch::stable::from_blob(memory_.back().get(), sizes, strides,
                                    torch::stable::Device(DeviceType::CPU), t);
  }

  void twist(Sizes* sizes, ScalarType* t) {
    const int64_t at = sizes->empty() ? 0 : upto(sizes->size() - 1);
    switch (upto(5)) {
      case 0:
        if (!sizes->empty()) ++(*sizes)[at];
        break;
      case 1:
        if (!sizes->empty() && (*sizes)[at] > 0) --(*sizes)[at];
        break;
      case 2:
        if (!sizes->empty()) sizes->erase(sizes->begin() + at);
        break;
      case 3:
        sizes->insert(sizes->begin() + at, upto(2));
        break;
      case 4:
        if (!sizes->empty()) (*sizes)[at] = 0;
        break;
      default:
        *t = bytes.PickValueInArray(kTypes);
    }
  }
};

void fuzz_adam_step(Case& of) {
  const int64_t rows = of.upto(of.rarely() ? 3000 : 40), columns = of.upto(3);
  const auto tensor = [&] { return of.floats({rows, columns}); };
  const Tensor parameter = tensor(), grad = tensor(), exp_avg = tensor(), exp_avg_sq = tensor();
  const Tensor rule = of.floats({3}, ScalarType::Double);
  const double beta1 = of.number(0.9), beta2 = of.number(0.99), eps = of.number(1e-8);
  AdamStepOp<AdamLines, ParallelFor>::forward(parameter, grad, exp_avg, exp_avg_sq, rule, beta1,
                                              beta2, eps);
}

void fuzz_composite(Case& of) {
  const Sizes rows = of.offsets();
  const int64_t n_rays = static_cast<int64_t>(rows.size()) - 1;
  const int64_t n = rows.back() + (of.rarely() ? of.upto(9) : 0);
  const Tensor sigmas = of.floats({n}), rgbs = of.floats({n, 3}), deltas = of.floats({n});
  const Tensor ts = of.floats({n}), ray_offsets = of.integers({n_rays + 1}, rows);
  const double early_stop = of.number(1e-4);
  if (of.bytes.ConsumeBool()) {
    CompositeOp<ParallelFor>::forward(sigmas, rgbs, deltas, ts, ray_offsets, early_stop);
    return;
  }
  const OptionalTensor grad_weights = of.perhaps({n}), grad_rgb = of.perhaps({n_rays, 3});
  const OptionalTensor grad_opacity = of.perhaps({n_rays}), grad_depth = of.perhaps({n_rays});
  const OptionalTensor grad_trans = of.perhaps({n_rays});
  const Tensor weights = of.floats({n}), trans = of.floats({n_rays});
  const int64_t output_mask = of.integer(of.upto(31));
  CompositeOp<ParallelFor>::backward(output_mask, grad_weights, grad_rgb, grad_opacity, grad_depth,
                                     grad_trans, weights, trans, sigmas, rgbs, deltas, ts,
                                     ray_offsets, early_stop);
}

void fuzz_distortion(Case& of) {
  const Sizes rows = of.offsets();
  const int64_t n_rays = static_cast<int64_t>(rows.size()) - 1;
  const int64_t n = rows.back() + (of.rarely() ? of.upto(9) : 0);
  const Tensor weights = of.floats({n}), ts = of.floats({n}), deltas = of.floats({n});
  const Tensor ray_offsets = of.integers({n_rays + 1}, rows);
  if (of.bytes.ConsumeBool()) {
    DistortionOp<ParallelFor>::forward(weights, ts, deltas, ray_offsets);
    return;
  }
  const int64_t output_mask = of.integer(of.upto(15));
  const OptionalTensor grad = of.perhaps({n_rays});
  DistortionOp<ParallelFor>::backward(output_mask, grad, weights, ts, deltas, ray_offsets);
}

// Levels that lie one after the other, and how many entries they need.
struct FuzzedLevels {
  Sizes rows;
  int64_t n = 0, n_entries = 0, n_features = 1;

  explicit FuzzedLevels(Case& of) : n_features(int64_t{1} << of.upto(3)) {
    for (n = 0; n < 4 && of.upto(3); ++n) {
      const int64_t resolution = of.rarely() ? 1 + of.upto(1 << 20) : 1 + of.upto(6);
      const bool is_dense = resolution < 8 && of.bytes.ConsumeBool();
      const int64_t own = is_dense ? (resolution + 1) * (resolution + 1) * (resolution + 1)
                                   : int64_t{1} << of.upto(9);
      const int64_t offset = n_entries + (of.rarely() ? of.upto(3) : 0);
      rows.insert(rows.end(), {resolution, offset, own});
      n_entries = offset + own;
    }
  }
};

ScalarType stored(Case& of) {
  constexpr ScalarType kStored[] = {ScalarType::Float, ScalarType::Half, ScalarType::BFloat16};
  return of.bytes.PickValueInArray(kStored);
}

void fuzz_hash_encode(Case& of) {
  const FuzzedLevels grid(of);
  const int64_t n = of.upto(of.rarely() ? 1200 : 70);
  const ScalarType entries = of.type == ScalarType::Double ? of.type : stored(of);
  const Tensor table = of.floats({grid.n_entries, grid.n_features}, entries);
  const Tensor positions = of.floats({n, 3}), levels = of.integers({grid.n, 3}, grid.rows);
  const Tensor level_weights = of.floats({grid.n});
  if (of.bytes.ConsumeBool()) {
    HashEncodeOp<ParallelFor, CpuHashPolicy>::forward(table, positions, levels, level_weights);
    return;
  }
  const int64_t output_mask = of.integer(of.upto(15));
  const OptionalTensor grad = of.perhaps({n, grid.n * grid.n_features});
  HashEncodeOp<ParallelFor, CpuHashPolicy>::backward(output_mask, grad, table, positions, levels,
                                                     level_weights);
}

Tensor box(Case& of) {
  const Tensor aabb = torch::stable::empty({2, 3}, of.type);
  with_floating_type("march_rays", aabb, [&](auto zero) {
    auto* corners = aabb.mutable_data_ptr<decltype(zero)>();
    for (int axis = 0; axis < 3; ++axis) {
      corners[axis] = -static_cast<double>(of.upto(2));
      corners[3 + axis] = corners[axis] + 1 + axis;
    }
  });
  return aabb;
}

void fuzz_march_rays(Case& of) {
  // A wild box may hold 2^24 intervals, so that few rays are enough.
  const bool is_wild = of.is_wrong();
  const int64_t n_rays = is_wild ? of.upto(1) : (of.rarely() ? of.upto(600) : of.upto(6));
  const int64_t resolution = 8 * (1 + of.upto(3)), n_levels = 1 + of.upto(of.rarely() ? 15 : 2);
  const Tensor rays_o = of.floats({n_rays, 3}), rays_d = of.floats({n_rays, 3});
  const Tensor near = of.floats({n_rays}), far = of.floats({n_rays});
  const Tensor aabb = is_wild ? of.floats({2, 3}) : box(of);
  const Tensor occupied = of.bits({n_levels, resolution * resolution * resolution / 8});
  const double even = std::exp2(n_levels - 1.0 - of.upto(7));
  const double step = is_wild ? of.number(even) : even;
  const double cone_angle = of.number(of.bytes.ConsumeBool() ? 0.0 : 1.0 / (1 + of.upto(255)));
  const OptionalTensor jitter = of.perhaps({n_rays});
  std::optional<int64_t> capacity;
  if (of.bytes.ConsumeBool()) capacity = of.rarely() ? -of.upto(1) : of.upto(200);
  if (of.is_wrong()) capacity = int64_t{1} << (32 + of.upto(30));
  const auto [ts, deltas, ray_offsets, n_total] =
      march_rays_cpu(rays_o, rays_d, near, far, aabb, occupied, of.integer(resolution), step,
                     cone_angle, jitter, capacity);
  check_offsets("march_rays", ray_offsets, ts, ts.numel(),
                capacity ? Padding::kTrailing : Padding::kNone);
  if (ts.numel() != deltas.numel()) std::abort();
  if (*n_total.const_data_ptr<int64_t>() < ray_offsets.const_data_ptr<int64_t>()[n_rays])
    std::abort();
}

void fuzz_render_hash_grid(Case& of) {
  of.type = ScalarType::Float;
  const FuzzedLevels grid(of);
  const Sizes rows = of.offsets(9);
  const int64_t n_rays = static_cast<int64_t>(rows.size()) - 1;
  const int64_t n = rows.back() + (of.rarely() ? of.upto(9) : 0);
  const NetworkShape shape{grid.n * grid.n_features, 16 * (1 + of.upto(1)), 16 * (1 + of.upto(1)),
                           of.upto(5), 1 + of.upto(2)};
  const Tensor table = of.floats({grid.n_entries, grid.n_features}, stored(of));
  const Tensor levels = of.integers({grid.n, 3}, grid.rows), level_weights = of.floats({grid.n});
  const Tensor network = of.floats({shape.n_weights()});
  const Tensor directions = of.floats({n_rays, shape.n_directions});
  const Tensor rays_o = of.floats({n_rays, 3}), rays_d = of.floats({n_rays, 3});
  const Tensor ts = of.floats({n}), deltas = of.floats({n});
  const Tensor ray_offsets = of.integers({n_rays + 1}, rows),
               aabb = of.is_wrong() ? of.floats({2, 3}) : box(of);
  const int64_t width = of.integer(shape.width), n_geometry = of.integer(shape.n_geometry);
  const int64_t color_layers = of.integer(shape.color_layers);
  const bool is_unbounded = of.bytes.ConsumeBool(), saves_samples = of.bytes.ConsumeBool();
  const double early_stop = of.number(1e-4);
  if (of.bytes.ConsumeBool()) {
    RenderHashGridOp<CpuRenderer>::forward(
        table, levels, level_weights, network, directions, rays_o, rays_d, aabb, width, n_geometry,
        color_layers, is_unbounded, early_stop, ts, deltas, ray_offsets, saves_samples);
    return;
  }
  const OptionalTensor grad_weights = of.perhaps({n}), grad_rgb = of.perhaps({n_rays, 3});
  const OptionalTensor grad_opacity = of.perhaps({n_rays}), grad_depth = of.perhaps({n_rays});
  const OptionalTensor grad_trans = of.perhaps({n_rays});
  const Tensor weights = of.floats({n}), trans = of.floats({n_rays});
  const Tensor encoded = of.floats({n, shape.n_encoded}), rgbs = of.floats({0, 3});
  const int64_t output_mask = of.integer(of.upto(15));
  RenderHashGridOp<CpuRenderer>::backward(
      output_mask, grad_weights, grad_rgb, grad_opacity, grad_depth, grad_trans, std::nullopt,
      std::nullopt, weights, trans, encoded, rgbs, table, levels, level_weights, network,
      directions, rays_o, rays_d, aabb, width, n_geometry, color_layers, is_unbounded, early_stop,
      ts, deltas, ray_offsets, saves_samples);
}

void fuzz_sample_pdf(Case& of) {
  const Sizes rows = of.offsets();
  const int64_t n = rows.back(), n_rays = static_cast<int64_t>(rows.size()) - 1, n_new = of.upto(9);
  const Tensor t_starts = of.floats({n}), t_ends = of.floats({n}), weights = of.floats({n});
  const Tensor ray_offsets = of.integers({n_rays + 1}, rows), u = of.floats({n_rays, n_new});
  if (of.bytes.ConsumeBool()) {
    SamplePdfOp<ParallelFor>::forward(t_starts, t_ends, weights, ray_offsets, u);
    return;
  }
  const int64_t output_mask = of.integer(of.upto(31));
  const OptionalTensor grad = of.perhaps({n_rays, n_new});
  SamplePdfOp<ParallelFor>::backward(output_mask, grad, t_starts, t_ends, weights, ray_offsets, u);
}

void fuzz_sample_stratified(Case& of) {
  const Sizes rows = of.offsets();
  const int64_t n = rows.back(), n_rays = static_cast<int64_t>(rows.size()) - 1;
  const Tensor near = of.floats({n_rays}), far = of.floats({n_rays});
  const Tensor ray_offsets = of.integers({n_rays + 1}, rows);
  const OptionalTensor jitter = of.perhaps({n});
  const int64_t n_samples = of.integer(n);
  const bool lindisp = of.bytes.ConsumeBool();
  if (of.bytes.ConsumeBool()) {
    SampleStratifiedOp<ParallelFor>::forward(near, far, ray_offsets, jitter, n_samples, lindisp);
    return;
  }
  const int64_t output_mask = of.integer(of.upto(15));
  const OptionalTensor grad = of.perhaps({n});
  SampleStratifiedOp<ParallelFor>::backward(output_mask, grad, near, far, ray_offsets, jitter,
                                            n_samples, lindisp);
}

void fuzz_eval_sh(Case& of) {
  const int64_t n = of.rarely() ? of.upto(3000) : of.upto(40);
  const int64_t degree = of.integer(of.upto(3)), n_rest = of.upto(17);
  const Tensor base = of.floats({n, 1, 3}), rest = of.floats({n, n_rest, 3});
  const Tensor directions = of.floats({n, 3});
  if (of.bytes.ConsumeBool()) {
    EvalShOp<ParallelFor>::forward(degree, base, rest, directions);
    return;
  }
  const int64_t output_mask = of.integer(of.upto(7));
  const OptionalTensor grad = of.perhaps({n, 3});
  EvalShOp<ParallelFor>::backward(output_mask, grad, degree, base, rest, directions);
}

void fuzz_structural_similarity(Case& of) {
  using SimilarityOp = StructuralSimilarityOp<similarity::CpuTiles>;
  const int64_t height = 9 + of.upto(of.rarely() ? 20 : 4);
  const int64_t width = 9 + of.upto(of.rarely() ? 260 : 4);
  const Tensor x = of.floats({height, width, 3}), y = of.floats({height, width, 3});
  if (of.bytes.ConsumeBool()) {
    SimilarityOp::forward(x, y);
    return;
  }
  const Tensor derivatives = of.floats({3, height + 10, width + 10, 3});
  const int64_t output_mask = of.integer(of.upto(7));
  const OptionalTensor grad = of.perhaps({});
  SimilarityOp::backward(output_mask, grad, std::nullopt, derivatives, x, y);
}

struct Fuzzed {
  const char* name;
  void (*call)(Case&);
  int64_t n_answered = 0, n_refused = 0;

  ~Fuzzed() {
    if (n_answered + n_refused == 0) return;
    std::fprintf(stderr, "answered: %lld, refused: %lld\n", static_cast<long long>(n_answered),
                 static_cast<long long>(n_refused));
  }
};

Fuzzed kOps[] = {
    {"adam_step", fuzz_adam_step},
    {"composite", fuzz_composite},
    {"distortion", fuzz_distortion},
    {"eval_sh", fuzz_eval_sh},
    {"hash_encode", fuzz_hash_encode},
    {"march_rays", fuzz_march_rays},
    {"render_hash_grid", fuzz_render_hash_grid},
    {"sample_pdf", fuzz_sample_pdf},
    {"sample_stratified", fuzz_sample_stratified},
    {"structural_similarity", fuzz_structural_similarity},
};

Fuzzed& chosen() {
  const char* name = std::getenv("DIETNERF_FUZZED");
  for (Fuzzed& op : kOps) {
    if (name && std::strcmp(op.name, name) == 0) return op;
  }
  std::fprintf(stderr, "DIETNERF_FUZZED must name an op\n");
  std::exit(2);
}

}  // namespace

}  // namespace dietnerf

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static dietnerf::Fuzzed& op = dietnerf::chosen();
  try {
    dietnerf::Case of(data, size);
    op.call(of);
    ++op.n_answered;
  } catch (const std::exception& error) {
    ++op.n_refused;
    if (std::strstr(error.what(), op.name) == nullptr) {
      std::fprintf(stderr, "refused without the op's name: %s\n", error.what());
      std::abort();
    }
  }
  return 0;
}
