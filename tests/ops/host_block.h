// A block of GPU threads on the CPU: its threads, and its warps, take turns.
#pragma once

#include <algorithm>
#include <vector>

#include "csrc/tile_mlp/backward.h"

using namespace dietnerf;

struct HostBlock {
  struct Sum {
    static constexpr int kElements = 256;
    float values[256];

    float& operator[](int i) { return values[i]; }
    void clear() { std::fill(values, values + 256, 0.0f); }

    template <bool kLeftTransposed, bool kRightTransposed>
    void add(const Half* left, int left_row, const Half* right, int right_row) {
      for (int i = 0; i < 16; ++i) {
        for (int j = 0; j < 16; ++j) {
          for (int k = 0; k < 16; ++k) {
            const Half a = kLeftTransposed ? left[k * left_row + i] : left[i * left_row + k];
            const Half b = kRightTransposed ? right[j * right_row + k] : right[k * right_row + j];
            values[16 * i + j] += static_cast<float>(a) * static_cast<float>(b);
          }
        }
      }
    }

    void load(const float* from, int row) {
      for (int i = 0; i < 256; ++i) values[i] = from[i / 16 * row + i % 16];
    }
    void store(float* to, int row) const {
      for (int i = 0; i < 256; ++i) to[i / 16 * row + i % 16] = values[i];
    }
  };

  // Backwards, so that nothing may lean on the order.
  template <typename Body>
  void threads(const Body& body) {
    for (int i = kTileThreads - 1; i >= 0; --i) body(i);
  }
  template <typename Body>
  void warps(const Body& body) {
    for (int i = kTileWarps - 1; i >= 0; --i) body(i);
  }
  template <typename Body>
  void lanes(int n, const Body& body) {
    for (int i = n - 1; i >= 0; --i) body(i);
  }
};

template <typename Kernel>
static void run_blocks(const Kernel& kernel, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i) {
    std::vector<char> shared(kernel.in.memory.total, char(0x7f));  // NaN, in half precision as well
    HostBlock block;
    kernel(block, shared.data(), i, n_blocks);
  }
}
