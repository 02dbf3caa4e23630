// Shared by all ops: the tensor alias, the host+device macro, input checks and the dtype switch.
// The only file that includes torch; with the stable ABI one binary serves several torch releases.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/Half.h>

#include <cassert>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <sstream>
#include <string>
#include <tuple>

#if defined(__CUDACC__)
#define DIETNERF_HD __host__ __device__ __forceinline__
#elif defined(__GNUC__)
// Must end up inside the function that carries DIETNERF_CLONES, or it is compiled for the baseline
// processor.
#define DIETNERF_HD inline __attribute__((always_inline))
#else
#define DIETNERF_HD inline
#endif

// One copy of the function a processor generation, chosen when the library is loaded. Levels rather
// than names of processors: `arch=haswell` would be taken on those of one maker only.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && __GNUC__ >= 12 && \
    !defined(__clang__) && !defined(__CUDACC__)
#define DIETNERF_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DIETNERF_CLONES
#endif

#define DIETNERF_SIMD _Pragma("omp simd")

// Before a short loop over arrays that must end up in registers: at most 16 harmonics, or 11 taps
// of a window.
#if defined(__CUDACC__)
#define DIETNERF_UNROLL _Pragma("unroll")
#else
#define DIETNERF_UNROLL _Pragma("GCC unroll 16")
#endif

namespace dietnerf {

using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;
using torch::headeronly::ScalarType;

inline std::string shape_text(const int64_t* sizes, int64_t n_dims) {
  std::ostringstream text;
  text << "(";
  for (int64_t i = 0; i < n_dims; ++i) text << (i ? ", " : "") << sizes[i];
  text << (n_dims == 1 ? ",)" : ")");
  return text.str();
}

// Refuses what only a raw call can pass: None, or a tensor whose storage was resized.
inline void check_memory(const char* op, const char* name, const Tensor& tensor) {
  STD_TORCH_CHECK(tensor.defined(), op, ": ", name, " must be given");
  if (tensor.numel() == 0) return;
  int64_t n_bytes = 0, last = tensor.storage_offset();
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_size(tensor.get(), &n_bytes));
  for (int64_t i = 0; i < tensor.dim(); ++i) last += (tensor.size(i) - 1) * tensor.stride(i);
  STD_TORCH_CHECK((last + 1) * static_cast<int64_t>(tensor.element_size()) <= n_bytes, op, ": ",
                  name, " is longer than its storage, which has ", n_bytes, " bytes");
}

// Checks that an argument has the sizes given, and the dtype and device of `like`; returns it
// contiguous.
inline Tensor check_tensor(const char* op, const char* name, const Tensor& tensor,
                           const Tensor& like, std::initializer_list<int64_t> sizes) {
  check_memory(op, name, tensor);
  STD_TORCH_CHECK(like.defined(), op, ": the other floating arguments must be given");
  const int64_t n_dims = static_cast<int64_t>(sizes.size());
  bool fits = tensor.dim() == n_dims;
  for (int64_t i = 0; fits && i < n_dims; ++i) fits = tensor.size(i) == sizes.begin()[i];
  STD_TORCH_CHECK(fits, op, ": ", name, " must be ", shape_text(sizes.begin(), n_dims), ", got ",
                  shape_text(tensor.sizes().data(), tensor.dim()));
  STD_TORCH_CHECK(tensor.scalar_type() == like.scalar_type(), op, ": ", name,
                  " must have the dtype of the other floating arguments");
  STD_TORCH_CHECK(tensor.device() == like.device(), op, ": ", name,
                  " must be on the device of the other arguments");
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

inline OptionalTensor check_tensor(const char* op, const char* name, const OptionalTensor& tensor,
                                   const Tensor& like, std::initializer_list<int64_t> sizes) {
  if (!tensor.has_value()) return std::nullopt;
  return check_tensor(op, name, *tensor, like, sizes);
}

// Whether there may be samples behind the last ray's, which belong to none.
enum class Padding { kNone, kTrailing };

// Offsets on a GPU are not read, which would synchronize. The kernels assert the range instead.
inline Tensor check_offsets(const char* op, const Tensor& ray_offsets, const Tensor& like,
                            int64_t n_samples, Padding padding = Padding::kNone) {
  check_memory(op, "ray_offsets", ray_offsets);
  STD_TORCH_CHECK(ray_offsets.dim() == 1 && ray_offsets.size(0) >= 1, op,
                  ": ray_offsets must be (n_rays+1,)");
  STD_TORCH_CHECK(ray_offsets.scalar_type() == ScalarType::Long, op, ": ray_offsets must be int64");
  STD_TORCH_CHECK(ray_offsets.device() == like.device(), op,
                  ": ray_offsets must be on the device of the other arguments");
  const Tensor offsets =
      ray_offsets.is_contiguous() ? ray_offsets : torch::stable::contiguous(ray_offsets);
  if (offsets.is_cpu()) {
    const int64_t* values = offsets.const_data_ptr<int64_t>();
    const int64_t n_rays = offsets.size(0) - 1;
    bool ascends = values[0] == 0 && values[n_rays] <= n_samples;
    if (padding == Padding::kNone) ascends &= values[n_rays] == n_samples;
    for (int64_t i = 0; i < n_rays; ++i) ascends &= values[i] <= values[i + 1];
    STD_TORCH_CHECK(ascends, op, ": ray_offsets must ascend from 0 to ",
                    padding == Padding::kTrailing ? "at most " : "", "n_samples = ", n_samples);
  }
  return offsets;
}

// Number of columns; check_tensor() refuses a wrong number of dimensions.
inline int64_t last_size(const Tensor& tensor) {
  return tensor.dim() ? tensor.size(tensor.dim() - 1) : 0;
}

inline int64_t first_size(const Tensor& tensor) { return tensor.dim() ? tensor.size(0) : 0; }

inline Tensor empty_sized(const Tensor& like, std::initializer_list<int64_t> sizes) {
  return torch::stable::new_empty(like, sizes);
}

inline Tensor zeros_sized(const Tensor& like, std::initializer_list<int64_t> sizes) {
  return torch::stable::new_zeros(like, sizes);
}

// An output that kernels write ray by ray, zero for samples that belong to no ray.
inline Tensor new_per_sample(const Tensor& like, const Tensor& ray_offsets,
                             std::initializer_list<int64_t> sizes) {
  const int64_t n_samples = *sizes.begin(), n_rays = ray_offsets.size(0) - 1;
  const bool has_none =
      ray_offsets.is_cpu() && ray_offsets.const_data_ptr<int64_t>()[n_rays] == n_samples;
  return has_none ? empty_sized(like, sizes) : zeros_sized(like, sizes);
}

template <typename T>
T* mutable_data(const Tensor& tensor) {
  return tensor.numel() ? tensor.mutable_data_ptr<T>() : nullptr;
}

template <typename T>
const T* const_data(const OptionalTensor& tensor) {
  return tensor.has_value() ? tensor->const_data_ptr<T>() : nullptr;
}

// Calls `body(T())` with the floating type T of `like`.
template <typename Body>
void with_floating_type(const char* op, const Tensor& like, const Body& body) {
  if (like.scalar_type() == ScalarType::Float) {
    body(float());
  } else if (like.scalar_type() == ScalarType::Double) {
    body(double());
  } else {
    STD_TORCH_CHECK(false, op, ": floating arguments must be float32 or float64");
  }
}

// The same for values stored in half precision or in float32 and converted to float32.
template <typename Body>
void with_half_type(const char* op, const Tensor& like, const Body& body) {
  if (like.scalar_type() == ScalarType::Half) {
    body(torch::headeronly::Half());
  } else if (like.scalar_type() == ScalarType::BFloat16) {
    body(torch::headeronly::BFloat16());
  } else {
    STD_TORCH_CHECK(like.scalar_type() == ScalarType::Float, op,
                    ": floating arguments must be float32, float16 or bfloat16");
    body(float());
  }
}

// The same for values stored in any of these, or in float64.
template <typename Body>
void with_stored_type(const char* op, const Tensor& like, const Body& body) {
  if (like.scalar_type() == ScalarType::Double) {
    body(double());
  } else {
    with_half_type(op, like, body);
  }
}

// A box, (2, 3). Its corners are not read on a GPU, which would synchronize.
inline Tensor check_aabb(const char* op, const Tensor& bounds_, const Tensor& like) {
  const Tensor aabb = check_tensor(op, "aabb", bounds_, like, {2, 3});
  if (!aabb.is_cpu()) return aabb;
  with_floating_type(op, aabb, [&](auto zero) {
    using T = decltype(zero);
    const T* corners = aabb.const_data_ptr<T>();
    for (int axis = 0; axis < 3; ++axis) {
      const T size = corners[3 + axis] - corners[axis];
      STD_TORCH_CHECK(size > 0 && std::isfinite(size), op,
                      ": aabb must be a lower and a higher corner, got ", corners[axis], " and ",
                      corners[3 + axis]);
    }
  });
  return aabb;
}

inline void check_early_stop(const char* op, double early_stop) {
  STD_TORCH_CHECK(!std::isnan(early_stop), op, ": early_stop must be a number, got nan");
}

// The samples of a ray.
struct Range {
  int64_t start, count;
};

struct RayOffsets {
  const int64_t* ends;  // (n_rays + 1,)
  int64_t n_samples;

  DIETNERF_HD Range operator[](int64_t ray) const {
    const int64_t start = ends[ray], end = ends[ray + 1];
#if defined(__CUDA_ARCH__)
    // check_offsets() does not read offsets on a GPU.
    assert(0 <= start && start <= end && end <= n_samples);
#endif
    return {start, end - start};
  }
};

}  // namespace dietnerf
