// The two networks of a hash-grid field on the tensor cores of a GPU: 64 samples at a time, in half
// precision with sums in float32, everything between the encoded samples and the answer in shared
// memory.
//
// What a block of threads does is written as phases of its threads or warps, between which it
// waits. So the same code runs on a GPU (csrc/cuda/tile_block.cuh) and, one thread after the other,
// in the tests.
#pragma once

#include <cmath>
#include <limits>

#include "render_hash_grid.h"

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
// The nearest number in half precision. What lies beyond its last one becomes that, so that sums
// stay finite; what is not finite stays so, for others to notice.
DIETNERF_HD Half to_half(float value) {
  constexpr float kMost = 65504.0f;
  const float size = std::fabs(value);
  const bool is_beyond = size > kMost && size < std::numeric_limits<float>::infinity();
  return static_cast<Half>(is_beyond ? std::copysign(kMost, value) : value);
}

// Elements from one row to the next: the gap puts rows into different banks.
DIETNERF_HD int row_of(int n) { return to_16(n) + 8; }

// Where everything stands: layer l maps n_in[l] to n_out[l] features, its weights (n_out, n_in)
// begin at `flat[l]` of the network, and at `padded[l]` of a copy whose sizes are multiples of 16.
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
    for (int64_t i = 1; i < shape.colour_layers; ++i) layers.add(width, width);
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

// Places in shared memory, in bytes.
struct TileMemory {
  int weights[kMaxLayers], inputs[kMaxLayers], grads[2], staging, logits, answers, total;

  // The backward needs the inputs of all layers, the forward only those of one and the next: but
  // the first colour layer's, whose directions are written early.
  static TileMemory of(const TileLayers& layers, bool is_backward) {
    TileMemory memory{};
    for (int l = 0; l < layers.n; ++l) {
      memory.weights[l] = memory.take(to_16(layers.n_out[l]) * row_of(layers.n_in[l]) * 2);
    }
    const int widest = kTile * row_of(layers.widest) * 2;
    const int turns[2] = {is_backward ? 0 : memory.take(widest),
                          is_backward ? 0 : memory.take(widest)};
    for (int l = 0; l < layers.n; ++l) {
      const bool is_own = is_backward || l == 2;
      memory.inputs[l] = is_own ? memory.take(kTile * row_of(layers.n_in[l]) * 2) : turns[l % 2];
    }
    if (is_backward) {
      for (int& grads : memory.grads) grads = memory.take(widest);
    }
    memory.staging = memory.take(kTileWarps * 16 * kStagingRow * 4);
    memory.logits = memory.take(kTile * 4);
    memory.answers = memory.take(kTile * 4 * 4);
    return memory;
  }

  int take(int n_bytes) {
    const int at = total;
    total += (n_bytes + 127) / 128 * 128;
    return at;
  }
};

// What is known of samples before the networks are asked.
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

template <typename Block>
struct TileMLP {
  Block& block;
  const TileInputs& in;
  char* shared;

  DIETNERF_TILE Half* weights(int l) const {
    return reinterpret_cast<Half*>(shared + in.memory.weights[l]);
  }
  DIETNERF_TILE Half* inputs(int l) const {
    return reinterpret_cast<Half*>(shared + in.memory.inputs[l]);
  }
  DIETNERF_TILE Half* grads(int l) const {
    return reinterpret_cast<Half*>(shared + in.memory.grads[l % 2]);
  }
  DIETNERF_TILE float* staging(int warp) const {
    return reinterpret_cast<float*>(shared + in.memory.staging) + warp * 16 * kStagingRow;
  }
  DIETNERF_TILE float* logits() const {
    return reinterpret_cast<float*>(shared + in.memory.logits);
  }
  DIETNERF_TILE float* answers() const {
    return reinterpret_cast<float*>(shared + in.memory.answers);
  }

  // Once for all tiles of a block.
  DIETNERF_TILE void load_weights() const {
    block.threads([&](int thread) {
      for (int l = 0; l < in.layers.n; ++l) {
        const int n_in = in.layers.n_in[l], n_out = in.layers.n_out[l], row = row_of(n_in);
        for (int i = thread; i < to_16(n_out) * row; i += kTileThreads) {
          const int o = i / row, k = i % row;
          const bool is_there = o < n_out && k < n_in;
          weights(l)[i] = to_half(is_there ? in.network[in.layers.flat[l] + o * n_in + k] : 0.0f);
        }
      }
    });
  }

  // From encoded samples to logits() and, before the sigmoid, answers().
  DIETNERF_TILE void forward(int64_t tile) const {
    const int64_t first = tile * kTile;
    block.threads([&](int thread) {
      const int n_in = in.layers.n_in[0], row = row_of(n_in), n_columns = to_16(n_in);
      for (int i = thread; i < kTile * n_columns; i += kTileThreads) {
        const int sample = i / n_columns, k = i % n_columns;
        const bool is_there = first + sample < in.n_samples && k < n_in;
        inputs(0)[sample * row + k] =
            to_half(is_there ? in.encoded[(first + sample) * n_in + k] : 0.0f);
      }
      const int n_told = row_of(in.layers.n_in[2]), from = in.layers.n_geometry;
      const int n_free = to_16(in.layers.n_in[2]) - from;
      for (int i = thread; i < kTile * n_free; i += kTileThreads) {
        const int sample = i / n_free, k = i % n_free;
        const int64_t ray = first + sample < in.n_samples ? in.rays[first + sample] : -1;
        const bool is_there = ray >= 0 && k < in.layers.n_directions;
        inputs(2)[sample * n_told + from + k] =
            to_half(is_there ? in.directions[ray * in.layers.n_directions + k] : 0.0f);
      }
    });
    answer();
  }

  // From inputs(0), and the directions in inputs(2), to logits() and answers().
  DIETNERF_TILE void answer() const {
    for (int l = 0; l < in.layers.n; ++l) {
      block.warps([&](int warp) { apply(warp, l); });
    }
  }

  // What a warp's 16 samples answer to layer l.
  DIETNERF_TILE void apply(int warp, int l) const {
    const int row = row_of(in.layers.n_in[l]), n_k = to_16(in.layers.n_in[l]) / 16;
    const Half* from = inputs(l) + warp * 16 * row;
    float* staged = staging(warp);
    for (int n = 0; n < to_16(in.layers.n_out[l]) / 16; ++n) {
      typename Block::Sum sum;
      sum.clear();
      for (int k = 0; k < n_k; ++k) {
        // The weights (n_out, n_in) are the transposed right factor.
        sum.template add<false, true>(from + 16 * k, row, weights(l) + 16 * n * row + 16 * k, row);
      }
      sum.store(staged, kStagingRow);
      block.lanes(256, [&](int i) {
        const int sample = i / 16, k = i % 16;
        const float value = staged[sample * kStagingRow + k];
        if (l == in.layers.last()) {
          if (k < 4) answers()[(warp * 16 + sample) * 4 + k] = value;
          return;
        }
        if (l == 1 && n == 0 && k == 0) logits()[warp * 16 + sample] = value;
        const float kept = in.layers.takes_relu(l + 1) && value < 0.0f ? 0.0f : value;  // or NaN
        inputs(l + 1)[(warp * 16 + sample) * row_of(in.layers.n_in[l + 1]) + 16 * n + k] =
            to_half(kept);
      });
    }
  }
};

// Densities and colours of all samples. A block takes every n_blocks-th tile.
struct TileForward {
  TileInputs in;
  float *sigmas, *rgbs;  // (n_samples,), (n_samples, 3)

  template <typename Block>
  DIETNERF_TILE void operator()(Block& block, char* shared, int64_t index, int64_t n_blocks) const {
    const TileMLP<Block> mlp{block, in, shared};
    mlp.load_weights();
    for (int64_t tile = index; tile < in.n_tiles(); tile += n_blocks) {
      mlp.forward(tile);
      block.threads([&](int thread) {
        const int64_t sample = tile * kTile + thread;
        if (thread >= kTile || sample >= in.n_samples) return;
        sigmas[sample] = TruncatedExp::of(mlp.logits()[thread], in.scales[sample]).value;
        for (int c = 0; c < 3; ++c) rgbs[3 * sample + c] = sigmoid(mlp.answers()[4 * thread + c]);
      });
    }
  }
};

// The gradients of the networks, which every block sums up on its own, and of encoded samples and
// directions.
//
// Half precision has few numbers, so a tile's gradients are multiplied by the power of two that
// makes its largest 16 to 32: down to 2^-14 nothing is lost, and what the layers make of it on the
// way may be 2000 times as much.
struct TileBackward {
  TileInputs in;
  const float *grad_sigmas, *grad_rgbs;  // (n_samples,), (n_samples, 3)
  float* grad_encoded;                   // (n_samples, n_encoded)
  float* grad_directions;                // (n_rays, n_directions), zeros, or null
  float* grad_network;                   // (n_blocks, n_padded), zeros

  template <typename Block>
  DIETNERF_TILE void operator()(Block& block, char* shared, int64_t index, int64_t n_blocks) const {
    const TileMLP<Block> mlp{block, in, shared};
    mlp.load_weights();
    float* own = grad_network + index * in.layers.n_padded;
    for (int64_t tile = index; tile < in.n_tiles(); tile += n_blocks) {
      mlp.forward(tile);
      enter(mlp, tile);
      const float scale = largest(mlp);
      write_first(mlp, scale);
      for (int l = in.layers.last(); l >= 0; --l) {
        block.warps([&](int warp) {
          sum_up(mlp, warp, l, 1 / scale, own);
          hand_back(mlp, warp, l, tile, scale);
        });
      }
    }
  }

 private:
  // Gradients of the logit and of the answers before their sigmoid take the places of these.
  template <typename Block>
  DIETNERF_TILE void enter(const TileMLP<Block>& mlp, int64_t tile) const {
    mlp.block.threads([&](int thread) {
      if (thread >= kTile) return;
      const int64_t sample = tile * kTile + thread;
      const bool is_there = sample < in.n_samples;
      float* answers = mlp.answers() + 4 * thread;
      float& logit = mlp.logits()[thread];
      logit =
          is_there ? grad_sigmas[sample] * TruncatedExp::of(logit, in.scales[sample]).slope : 0.0f;
      float most = logit < 0 ? -logit : logit;
      for (int c = 0; c < 3; ++c) {
        const float rgb = sigmoid(answers[c]);
        answers[c] = is_there ? grad_rgbs[3 * sample + c] * rgb * (1 - rgb) : 0.0f;
        const float size = answers[c] < 0 ? -answers[c] : answers[c];
        most = size > most ? size : most;
      }
      answers[3] = most;
    });
  }

  template <typename Block>
  DIETNERF_TILE float largest(const TileMLP<Block>& mlp) const {
    float most = 0;
    for (int i = 0; i < kTile; ++i) {
      const float size = mlp.answers()[4 * i + 3];
      most = size > most ? size : most;
    }
    if (!(most > 1e-30f && most < 1e30f)) return 1;
    int exponent;
    frexpf(most, &exponent);
    return ldexpf(1.0f, 5 - exponent);
  }

  template <typename Block>
  DIETNERF_TILE void write_first(const TileMLP<Block>& mlp, float scale) const {
    mlp.block.threads([&](int thread) {
      const int last = in.layers.last(), row = row_of(in.layers.widest);
      for (int i = thread; i < kTile * 16; i += kTileThreads) {
        const int sample = i / 16, k = i % 16;
        mlp.grads(last)[sample * row + k] =
            to_half(k < 3 ? scale * mlp.answers()[4 * sample + k] : 0.0f);
      }
    });
  }

  // grad_weights (n_out, n_in) += grads^T inputs; of its 16x16 pieces a warp has every fourth.
  template <typename Block>
  DIETNERF_TILE void sum_up(const TileMLP<Block>& mlp, int warp, int l, float inv_scale,
                            float* own) const {
    const int n_in = to_16(in.layers.n_in[l]), n_out = to_16(in.layers.n_out[l]);
    const int row = row_of(in.layers.n_in[l]), grad_row = row_of(in.layers.widest);
    for (int piece = warp; piece < n_out / 16 * (n_in / 16); piece += kTileWarps) {
      const int o = piece / (n_in / 16) * 16, k = piece % (n_in / 16) * 16;
      typename Block::Sum sum, total;
      sum.clear();
      for (int s = 0; s < kTile; s += 16) {
        sum.template add<true, false>(mlp.grads(l) + s * grad_row + o, grad_row,
                                      mlp.inputs(l) + s * row + k, row);
      }
      float* at = own + in.layers.padded[l] + o * n_in + k;
      total.load(at, n_in);
      DIETNERF_UNROLL
      for (int i = 0; i < Block::Sum::kElements; ++i) total[i] += inv_scale * sum[i];
      total.store(at, n_in);
    }
  }

  // The gradients of a warp's inputs to layer l.
  template <typename Block>
  DIETNERF_TILE void hand_back(const TileMLP<Block>& mlp, int warp, int l, int64_t tile,
                               float scale) const {
    const int row = row_of(in.layers.n_in[l]), grad_row = row_of(in.layers.widest);
    const Half* from = mlp.grads(l) + warp * 16 * grad_row;
    float* staged = mlp.staging(warp);
    for (int n = 0; n < to_16(in.layers.n_in[l]) / 16; ++n) {
      typename Block::Sum sum;
      sum.clear();
      for (int k = 0; k < to_16(in.layers.n_out[l]) / 16; ++k) {
        sum.template add<false, false>(from + 16 * k, grad_row,
                                       mlp.weights(l) + 16 * k * row + 16 * n, row);
      }
      sum.store(staged, kStagingRow);
      mlp.block.lanes(256, [&](int i) {
        const int place = warp * 16 + i / 16, column = 16 * n + i % 16;
        const int64_t sample = tile * kTile + place;
        float value = staged[i / 16 * kStagingRow + i % 16];
        if (l == 0) {
          const int n_encoded = in.layers.n_in[0];
          if (sample < in.n_samples && column < n_encoded) {
            grad_encoded[sample * n_encoded + column] = value / scale;
          }
          return;
        }
        if (in.layers.takes_relu(l) &&
            static_cast<float>(mlp.inputs(l)[place * row + column]) <= 0.0f) {
          value = 0;
        }
        if (l == 2) {
          const int direction = column - in.layers.n_geometry;
          if (direction >= 0) {
            const int64_t ray = sample < in.n_samples ? in.rays[sample] : -1;
            if (grad_directions && direction < in.layers.n_directions && ray >= 0) {
              add_to(grad_directions + ray * in.layers.n_directions + direction, value / scale);
            }
            return;
          }
          if (column == 0) value += scale * mlp.logits()[place];
        }
        mlp.grads(l - 1)[place * grad_row + column] = to_half(value);
      });
    }
  }
};

// The gradient of each weight: the sum of what the blocks found, always in the same order.
struct SumNetworks {
  TileLayers layers;
  const float* parts;  // (n_parts, n_padded)
  int64_t n_parts;
  float* grad_network;

  DIETNERF_HD void operator()(int64_t i) const {
    int l = layers.last();
    while (layers.flat[l] > i) --l;
    const int at = static_cast<int>(i) - layers.flat[l];
    const int o = at / layers.n_in[l], k = at % layers.n_in[l];
    const float* from = parts + layers.padded[l] + o * to_16(layers.n_in[l]) + k;
    float sum = 0;
    for (int64_t part = 0; part < n_parts; ++part) sum += from[part * layers.n_padded];
    grad_network[i] = sum;
  }
};

}  // namespace dietnerf
