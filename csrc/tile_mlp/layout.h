// Layers and shared memory of the two networks of a hash-grid field on the tensor cores of a GPU.
#pragma once

#include <cmath>
#include <limits>

#include "../render_hash_grid.h"

namespace dietnerf {

#if defined(__CUDACC__)
#define DIETNERF_TILE __device__ __forceinline__
#else
#define DIETNERF_TILE inline
#endif

using Half = torch::headeronly::Half;

constexpr int kTile = 64;               // samples
constexpr int kTileWarps = kTile / 16;  // each has 16 of them
constexpr int kTileThreads = 32 * kTileWarps;
constexpr int kMaxLayers = 8;
constexpr int kStagingRow = 20;  // floats; 16 and a gap, against bank conflicts

DIETNERF_HD int to_16(int n) { return (n + 15) / 16 * 16; }

// The nearest number in half precision. Finite numbers saturate, so that sums stay finite; inf and
// NaN are kept, so that the guard against divergence sees them.
DIETNERF_HD Half to_half(float value) {
  constexpr float kMax = 65504.0f;
  const float size = std::fabs(value);
  const bool is_beyond = size > kMax && size < std::numeric_limits<float>::infinity();
  return static_cast<Half>(is_beyond ? std::copysign(kMax, value) : value);
}

// Elements from one row to the next: the gap puts rows into different banks.
DIETNERF_HD int row_of(int n) { return to_16(n) + 8; }

// Sizes and offsets: layer l maps n_in[l] to n_out[l] features, its weights (n_out, n_in) begin at
// `flat[l]` of the network, and at `padded[l]` of a copy whose sizes are multiples of 16.
struct TileLayers {
  int n, n_geometry, n_directions;
  int n_in[kMaxLayers], n_out[kMaxLayers], flat[kMaxLayers], padded[kMaxLayers];
  int n_padded;  // floats of that copy
  int widest;    // features between layers, at most

  static TileLayers of(const NetworkShape& shape) {
    TileLayers layers{};
    const int width = static_cast<int>(shape.width),
              n_geometry = static_cast<int>(shape.n_geometry);
    const int n_directions = static_cast<int>(shape.n_directions);
    layers.n_geometry = n_geometry;
    layers.n_directions = n_directions;
    layers.add(static_cast<int>(shape.n_encoded), width);
    layers.add(width, n_geometry);
    layers.add(n_geometry + n_directions, width);
    for (int64_t i = 1; i < shape.color_layers; ++i) layers.add(width, width);
    layers.add(width, 3);
    return layers;
  }

  void add(int in, int out) {
    const int end = n ? flat[n - 1] + n_in[n - 1] * n_out[n - 1] : 0;
    n_in[n] = in;
    n_out[n] = out;
    flat[n] = end;
    padded[n] = n_padded;
    n_padded += to_16(in) * to_16(out);
    widest = to_16(in) > widest ? to_16(in) : widest;
    widest = to_16(out) > widest ? to_16(out) : widest;
    ++n;
  }

  DIETNERF_HD int last() const { return n - 1; }
  DIETNERF_HD bool takes_relu(int layer) const { return layer == 1 || layer > 2; }
};

// Offsets in shared memory, in bytes.
struct TileMemory {
  int weights[kMaxLayers], inputs[kMaxLayers], grads[2], staging, logits, outputs, total;

  // The backward needs the inputs of all layers, the forward only those of a layer and the next,
  // which alternate between two buffers; the first color layer has its own, as its directions are
  // written early.
  static TileMemory of(const TileLayers& layers, bool is_backward) {
    TileMemory memory{};
    for (int l = 0; l < layers.n; ++l) {
      memory.weights[l] = memory.take(to_16(layers.n_out[l]) * row_of(layers.n_in[l]) * 2);
    }
    const int widest = kTile * row_of(layers.widest) * 2;
    const int buffers[2] = {is_backward ? 0 : memory.take(widest),
                            is_backward ? 0 : memory.take(widest)};
    for (int l = 0; l < layers.n; ++l) {
      const bool is_own = is_backward || l == 2;
      memory.inputs[l] = is_own ? memory.take(kTile * row_of(layers.n_in[l]) * 2) : buffers[l % 2];
    }
    if (is_backward) {
      for (int& grads : memory.grads) grads = memory.take(widest);
    }
    memory.staging = memory.take(kTileWarps * 16 * kStagingRow * 4);
    memory.logits = memory.take(kTile * 4);
    memory.outputs = memory.take(kTile * 4 * 4);
    return memory;
  }

  int take(int n_bytes) {
    const int offset = total;
    total += (n_bytes + 127) / 128 * 128;
    return offset;
  }
};

// Inputs of the networks.
struct TileInputs {
  TileLayers layers;
  TileMemory memory;
  const float *network, *encoded,
      *directions;      // flat, (n_samples, n_encoded), (n_rays, n_directions)
  const int32_t* rays;  // (n_samples,); negative where a sample belongs to none
  const float* scales;  // of the density, 0 outside of the box, (n_samples,)
  int64_t n_samples;

  DIETNERF_HD int64_t n_tiles() const { return (n_samples + kTile - 1) / kTile; }
};

}  // namespace dietnerf
