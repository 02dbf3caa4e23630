// The tiles of csrc/tile_mlp.h on the CPU: a block whose threads, and whose warps, take turns.
#include "csrc/tile_mlp.h"

#include <cmath>
#include <vector>

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

template <typename Job>
static void run_blocks(const Job& job, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i) {
    std::vector<char> shared(job.in.memory.total, char(0x7f));  // NaN, in half precision as well
    HostBlock block;
    job(block, shared.data(), i, n_blocks);
  }
}

struct Arguments {
  int64_t n_encoded, width, n_geometry, n_directions, colour_layers, n_samples, n_blocks;
  const float *network, *encoded, *directions, *scales;
  const int32_t* rays;
};

static TileInputs inputs_of(const Arguments& a, bool is_backward) {
  TileInputs in{};
  in.layers = TileLayers::of({a.n_encoded, a.width, a.n_geometry, a.n_directions, a.colour_layers});
  in.memory = TileMemory::of(in.layers, is_backward);
  in.network = a.network;
  in.encoded = a.encoded;
  in.directions = a.directions;
  in.rays = a.rays;
  in.scales = a.scales;
  in.n_samples = a.n_samples;
  return in;
}

extern "C" void tile_forward(const Arguments* a, float* sigmas, float* rgbs) {
  run_blocks(TileForward{inputs_of(*a, false), sigmas, rgbs}, a->n_blocks);
}

extern "C" int64_t tile_memory(const Arguments* a, bool is_backward) {
  return inputs_of(*a, is_backward).memory.total;
}

// `grad_network` as the op returns it; `parts` is room for (n_blocks, n_padded) zeros.
extern "C" int64_t tile_backward(const Arguments* a, const float* grad_sigmas,
                                 const float* grad_rgbs, float* grad_encoded,
                                 float* grad_directions, float* grad_network) {
  const TileInputs in = inputs_of(*a, true);
  std::vector<float> parts(a->n_blocks * in.layers.n_padded);
  run_blocks(TileBackward{in, grad_sigmas, grad_rgbs, grad_encoded, grad_directions, parts.data()},
             a->n_blocks);
  const SumNetworks sum{in.layers, parts.data(), a->n_blocks, grad_network};
  const int64_t n = in.layers.flat[in.layers.last()] + 3 * a->width;
  for (int64_t i = 0; i < n; ++i) sum(i);
  return n;
}
