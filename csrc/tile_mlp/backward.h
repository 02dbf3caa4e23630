// Gradients of the networks of csrc/tile_mlp/forward.h.
#pragma once

#include "forward.h"

namespace dietnerf {

// The gradients of the networks, which every block sums on its own, and of encoded samples and
// directions.
//
// Loss scaling for half precision: a tile's gradients are multiplied by the power of two that makes
// the largest 16 to 32. Values down to 2^-14 keep their precision, and gradients may grow 2000-fold
// from layer to layer before they saturate.
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
      activation_backward(mlp, tile);
      const float scale = loss_scale(mlp);
      write_output_grad(mlp, scale);
      for (int l = in.layers.last(); l >= 0; --l) {
        block.warps([&](int warp) {
          weight_grad(mlp, warp, l, 1 / scale, own);
          input_grad(mlp, warp, l, tile, scale);
        });
      }
    }
  }

 private:
  // Overwrites the logit and the outputs with their gradients (before the sigmoid).
  template <typename Block>
  DIETNERF_TILE void activation_backward(const TileMLP<Block>& mlp, int64_t tile) const {
    mlp.block.threads([&](int thread) {
      if (thread >= kTile) return;
      const int64_t sample = tile * kTile + thread;
      const bool is_there = sample < in.n_samples;
      float* outputs = mlp.outputs() + 4 * thread;
      float& logit = mlp.logits()[thread];
      logit =
          is_there ? grad_sigmas[sample] * TruncatedExp::of(logit, in.scales[sample]).slope : 0.0f;
      float largest = logit < 0 ? -logit : logit;
      for (int c = 0; c < 3; ++c) {
        const float rgb = sigmoid(outputs[c]);
        outputs[c] = is_there ? grad_rgbs[3 * sample + c] * rgb * (1 - rgb) : 0.0f;
        const float size = outputs[c] < 0 ? -outputs[c] : outputs[c];
        largest = size > largest ? size : largest;
      }
      outputs[3] = largest;
    });
  }

  template <typename Block>
  DIETNERF_TILE float loss_scale(const TileMLP<Block>& mlp) const {
    float largest = 0;
    for (int i = 0; i < kTile; ++i) {
      const float size = mlp.outputs()[4 * i + 3];
      largest = size > largest ? size : largest;
    }
    if (!(largest > 1e-30f && largest < 1e30f)) return 1;
    int exponent;
    frexpf(largest, &exponent);
    return ldexpf(1.0f, 5 - exponent);
  }

  template <typename Block>
  DIETNERF_TILE void write_output_grad(const TileMLP<Block>& mlp, float scale) const {
    mlp.block.threads([&](int thread) {
      const int last = in.layers.last(), row = row_of(in.layers.widest);
      for (int i = thread; i < kTile * 16; i += kTileThreads) {
        const int sample = i / 16, k = i % 16;
        mlp.grads(last)[sample * row + k] =
            to_half(k < 3 ? scale * mlp.outputs()[4 * sample + k] : 0.0f);
      }
    });
  }

  // grad_weights (n_out, n_in) += grads^T inputs; a warp computes every fourth of its 16x16 pieces.
  template <typename Block>
  DIETNERF_TILE void weight_grad(const TileMLP<Block>& mlp, int warp, int l, float inv_scale,
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
  DIETNERF_TILE void input_grad(const TileMLP<Block>& mlp, int warp, int l, int64_t tile,
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
        const int slot = warp * 16 + i / 16, column = 16 * n + i % 16;
        const int64_t sample = tile * kTile + slot;
        float value = staged[i / 16 * kStagingRow + i % 16];
        if (l == 0) {
          const int n_encoded = in.layers.n_in[0];
          if (sample < in.n_samples && column < n_encoded) {
            grad_encoded[sample * n_encoded + column] = value / scale;
          }
          return;
        }
        if (in.layers.takes_relu(l) &&
            static_cast<float>(mlp.inputs(l)[slot * row + column]) <= 0.0f) {
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
          if (column == 0) value += scale * mlp.logits()[slot];
        }
        mlp.grads(l - 1)[slot * grad_row + column] = to_half(value);
      });
    }
  }
};

// The gradient of each weight: the sum over the blocks, always in the same order.
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
