// Multiresolution hash encoding: input checks and launches. See dietnerf/ops/hash_encode.py for
// shapes and units.
#pragma once

#include "hash_encode/kernels.h"

namespace dietnerf {

// Levels on a GPU are not read, which would synchronize. The kernels assert the range instead.
inline Tensor check_levels(const char* op, const Tensor& levels_, const Tensor& table) {
  check_memory(op, "levels", levels_);
  STD_TORCH_CHECK(levels_.dim() == 2 && levels_.size(1) == 3, op, ": levels must be (n_levels, 3)");
  STD_TORCH_CHECK(levels_.scalar_type() == ScalarType::Long, op, ": levels must be int64");
  STD_TORCH_CHECK(levels_.device() == table.device(), op,
                  ": levels must be on the device of the other arguments");
  const Tensor levels = levels_.is_contiguous() ? levels_ : torch::stable::contiguous(levels_);
  if (!levels.is_cpu()) return levels;
  const int64_t* rows = const_data<int64_t>(levels);
  const int64_t n_entries = first_size(table), n_levels = levels.size(0);
  int64_t end = 0;
  bool fits = true;
  for (int64_t i = 0; fits && i < n_levels; ++i) {
    const HashLevel level{rows[3 * i], rows[3 * i + 1], rows[3 * i + 2]};
    fits = 1 <= level.resolution && level.resolution <= 1 << 20 && end <= level.offset &&
           1 <= level.n_entries && level.n_entries <= n_entries - level.offset;
    if (!fits) break;
    fits = level.is_dense() || (level.n_entries & (level.n_entries - 1)) == 0;
    STD_TORCH_CHECK(level.n_entries <= int64_t{1} << 32, op, ": level ", i, " has ",
                    level.n_entries, " entries, more than the 2^32 that can be indexed");
    end = level.offset + level.n_entries;
  }
  STD_TORCH_CHECK(fits, op,
                  ": levels must be slices of the table in order, with (resolution + 1)^3 entries "
                  "or more, or else a power of two");
  return levels;
}

// The table, copied if it is a slice whose alignment does not allow vector loads on a GPU.
inline Tensor aligned(const Tensor& table) {
  const bool is_aligned = reinterpret_cast<uintptr_t>(table.data_ptr()) % 16 == 0;
  return table.is_cpu() || is_aligned ? table : torch::stable::clone(table);
}

struct HashEncodeInputs {
  Tensor table, positions, levels, level_weights;

  HashEncodeInputs(const char* op, const Tensor& table_, const Tensor& positions_,
                   const Tensor& levels_, const Tensor& level_weights_)
      : table(aligned(
            check_tensor(op, "table", table_, table_, {first_size(table_), last_size(table_)}))),
        positions(
            check_tensor(op, "positions", positions_, positions_, {first_size(positions_), 3})),
        levels(check_levels(op, levels_, table)),
        level_weights(
            check_tensor(op, "level_weights", level_weights_, positions, {levels.size(0)})) {
    const int64_t f = n_features();
    STD_TORCH_CHECK(f == 1 || f == 2 || f == 4 || f == 8, op,
                    ": n_features must be 1, 2, 4 or 8, got ", f);
    STD_TORCH_CHECK(positions.device() == table.device(), op,
                    ": positions must be on the device of the other arguments");
    const bool is_double = table.scalar_type() == ScalarType::Double;
    STD_TORCH_CHECK(positions.scalar_type() == (is_double ? ScalarType::Double : ScalarType::Float),
                    op, ": positions must be ", is_double ? "float64 like" : "float32 with such a",
                    " table");
  }

  int64_t n_features() const { return last_size(table); }
  int64_t n_samples() const { return positions.size(0); }
  int64_t n_levels() const { return levels.size(0); }

  template <typename Entry>
  HashTable<Entry> read() const {
    using T = HashValue<Entry>;
    return {const_data<Entry>(table),
            const_data<T>(positions),
            const_data<int64_t>(levels),
            const_data<T>(level_weights),
            table.size(0),
            n_features(),
            n_samples(),
            n_levels()};
  }
};

// `launch(kernel, n)` calls kernel(i) for every i below n on the launcher's device; `blocks`
// divides the work among the calls.
template <typename Launcher>
Tensor hash_encode(const Launcher& launch, const HashEncodeInputs& in, const HashBlocks& blocks) {
  const int64_t n_samples = in.n_samples(), n_levels = in.n_levels();
  const Tensor features = empty_sized(in.positions, {n_samples, n_levels * in.n_features()});
  with_stored_type("hash_encode", in.table, [&](auto zero) {
    using Entry = decltype(zero);
    launch(HashEncode<Entry>{in.read<Entry>(), blocks, mutable_data<HashValue<Entry>>(features)},
           blocks.count(n_samples, n_levels));
  });
  return features;
}

struct HashBackwardBlocks {
  HashBlocks of_table, of_positions, of_level_weights;
};

template <typename Launcher>
std::tuple<Tensor, Tensor, Tensor> hash_encode_backward(const Launcher& launch, int64_t output_mask,
                                                        const OptionalTensor& grad_features_,
                                                        const HashEncodeInputs& in,
                                                        const HashBackwardBlocks& blocks) {
  const char* op = "hash_encode_backward";
  const int64_t n = in.n_samples(), n_levels = in.n_levels();
  const auto grad_features = check_tensor(op, "grad_features", grad_features_, in.positions,
                                          {n, n_levels * in.n_features()});
  const auto gradient = [&](int bit, std::initializer_list<int64_t> sizes) {
    return output_mask >> bit & 1 ? zeros_sized(in.positions, sizes) : empty_sized(in.table, {0});
  };
  const Tensor grad_table = gradient(0, {in.table.size(0), in.n_features()});
  const Tensor grad_positions = gradient(1, {n, 3});
  const Tensor grad_weights = gradient(2, {n_levels});
  with_stored_type(op, in.table, [&](auto zero) {
    using Entry = decltype(zero);
    using T = HashValue<Entry>;
    const HashTable<Entry> table = in.read<Entry>();
    const T* grad = const_data<T>(grad_features);
    if (grad && output_mask & 1) {
      launch(
          HashEncodeTableBackward<Entry>{table, blocks.of_table, grad, mutable_data<T>(grad_table)},
          blocks.of_table.count(n, n_levels));
    }
    if (grad && output_mask & 2) {
      launch(HashEncodePositionsBackward<Entry>{table, blocks.of_positions, grad,
                                                mutable_data<T>(grad_positions)},
             blocks.of_positions.count(n, n_levels));
    }
    if (grad && output_mask & 4) {
      launch(HashEncodeWeightsBackward<Entry>{table, blocks.of_level_weights, grad,
                                              mutable_data<T>(grad_weights)},
             blocks.of_level_weights.count(n, n_levels));
    }
  });
  return {torch::stable::to(grad_table, in.table.scalar_type()), grad_positions, grad_weights};
}

// The op on the device of `Launcher`. Policy::forward(inputs) and Policy::backward(inputs) divide
// the work there.
template <typename Launcher, typename Policy>
struct HashEncodeOp {
  static Tensor forward(Tensor table, Tensor positions, Tensor levels, Tensor level_weights) {
    const HashEncodeInputs in("hash_encode", table, positions, levels, level_weights);
    return hash_encode(launcher(in), in, Policy::forward(in));
  }

  static std::tuple<Tensor, Tensor, Tensor> backward(int64_t output_mask,
                                                     OptionalTensor grad_features, Tensor table,
                                                     Tensor positions, Tensor levels,
                                                     Tensor level_weights) {
    const HashEncodeInputs in("hash_encode_backward", table, positions, levels, level_weights);
    return hash_encode_backward(launcher(in), output_mask, grad_features, in, Policy::backward(in));
  }

  static Launcher launcher(const HashEncodeInputs& in) {
    return Launcher(in.positions, in.n_samples() * in.n_levels());
  }

  static void register_kernels(torch::stable::detail::StableLibrary& library) {
    library.impl("hash_encode", TORCH_BOX(&HashEncodeOp::forward));
    library.impl("hash_encode_backward", TORCH_BOX(&HashEncodeOp::backward));
  }
};

}  // namespace dietnerf
