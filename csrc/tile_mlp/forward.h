// The two networks of a hash-grid field on the tensor cores of a GPU: 64 samples at a time, in half
// precision with sums in float32, everything between the encoded samples and the outputs in shared
// memory.
//
// The code of a thread block is written as phases of its threads or warps with a barrier after
// each. So the same code runs on a GPU (csrc/cuda/tile_block.cuh) and, one thread after the other,
// in the tests.
#pragma once

#include "layout.h"

namespace dietnerf {

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
  DIETNERF_TILE float* outputs() const {
    return reinterpret_cast<float*>(shared + in.memory.outputs);
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

  // From encoded samples to logits() and outputs(), which are before the sigmoid.
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
      const int row_inputs = row_of(in.layers.n_in[2]), from = in.layers.n_geometry;
      const int n_free = to_16(in.layers.n_in[2]) - from;
      for (int i = thread; i < kTile * n_free; i += kTileThreads) {
        const int sample = i / n_free, k = i % n_free;
        const int64_t ray = first + sample < in.n_samples ? in.rays[first + sample] : -1;
        const bool is_there = ray >= 0 && k < in.layers.n_directions;
        inputs(2)[sample * row_inputs + from + k] =
            to_half(is_there ? in.directions[ray * in.layers.n_directions + k] : 0.0f);
      }
    });
    evaluate();
  }

  // From inputs(0), and the directions in inputs(2), to logits() and outputs().
  DIETNERF_TILE void evaluate() const {
    for (int l = 0; l < in.layers.n; ++l) {
      block.warps([&](int warp) { apply(warp, l); });
    }
  }

  // Layer l of a warp's 16 samples.
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
          if (k < 4) outputs()[(warp * 16 + sample) * 4 + k] = value;
          return;
        }
        if (l == 1 && n == 0 && k == 0) logits()[warp * 16 + sample] = value;
        const float activated =
            in.layers.takes_relu(l + 1) && value < 0.0f ? 0.0f : value;  // or NaN
        inputs(l + 1)[(warp * 16 + sample) * row_of(in.layers.n_in[l + 1]) + 16 * n + k] =
            to_half(activated);
      });
    }
  }
};

// Densities and colors of all samples. A block processes every n_blocks-th tile.
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
        for (int c = 0; c < 3; ++c) rgbs[3 * sample + c] = sigmoid(mlp.outputs()[4 * thread + c]);
      });
    }
  }
};

}  // namespace dietnerf
