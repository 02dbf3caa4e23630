// Networks so small that their weights and the rows of a block stay in the cache.
#pragma once

#include <algorithm>
#include <vector>

#include "../render_hash_grid.h"
#include "matrix.h"

namespace dietnerf {

// A matrix without bias, in the two orders that products need, and where its gradient is summed up.
struct Layer {
  int64_t n_in, n_out;
  std::vector<float> forward;   // (n_in, padded(n_out))
  std::vector<float> backward;  // (n_out, padded(n_in))
  int64_t grad_at;              // of a (n_in, padded(n_out)) matrix in a gradient buffer

  // From columns `from` on of a weight (n_out, row) as torch keeps it.
  Layer(const float* weight, int64_t row, int64_t from, int64_t n_in_, int64_t n_out_,
        int64_t* n_grads)
      : n_in(n_in_),
        n_out(n_out_),
        forward(std::max<int64_t>(n_in, 1) * padded(n_out)),  // not null, where nothing is read
        backward(n_out * padded(n_in)),
        grad_at(*n_grads) {
    for (int64_t o = 0; o < n_out; ++o) {
      for (int64_t i = 0; i < n_in; ++i) {
        forward[i * padded(n_out) + o] = backward[o * padded(n_in) + i] =
            weight[o * row + from + i];
      }
    }
    *n_grads += n_in * padded(n_out);
  }

  void write_grad(const float* grads, float* weight, int64_t row, int64_t from) const {
    for (int64_t o = 0; o < n_out; ++o) {
      for (int64_t i = 0; i < n_in; ++i) {
        weight[o * row + from + i] = grads[grad_at + i * padded(n_out) + o];
      }
    }
  }
};

// Rows of features, `row` floats apart.
struct Rows {
  float* data;
  int64_t n, row;
};

struct TinyMLPs {
  NetworkShape shape;
  Multiply multiply;
  int64_t n_grads = 0;
  Layer density_in, density_out, from_geometry, from_directions;
  std::vector<Layer> color;  // behind the first

  TinyMLPs(const float* network, const NetworkShape& s)
      : shape(s),
        multiply(choose_multiply()),
        density_in(network, s.n_encoded, 0, s.n_encoded, s.width, &n_grads),
        density_out(network + geometry_at(), s.width, 0, s.width, s.n_geometry, &n_grads),
        from_geometry(network + color_at(), s.n_geometry + s.n_directions, 0, s.n_geometry, s.width,
                      &n_grads),
        from_directions(network + color_at(), s.n_geometry + s.n_directions, s.n_geometry,
                        s.n_directions, s.width, &n_grads) {
    const float* weight = network + hidden_at();
    for (int64_t i = 1; i <= s.color_layers; ++i) {
      const int64_t n_out = i < s.color_layers ? s.width : 3;
      color.emplace_back(weight, s.width, 0, s.width, n_out, &n_grads);
      weight += s.width * n_out;
    }
  }

  void write_grads(const float* grads, float* network) const {
    const int64_t first = shape.n_geometry + shape.n_directions;
    density_in.write_grad(grads, network, shape.n_encoded, 0);
    density_out.write_grad(grads, network + geometry_at(), shape.width, 0);
    from_geometry.write_grad(grads, network + color_at(), first, 0);
    from_directions.write_grad(grads, network + color_at(), first, shape.n_geometry);
    float* weight = network + hidden_at();
    for (const Layer& layer : color) {
      layer.write_grad(grads, weight, shape.width, 0);
      weight += shape.width * layer.n_out;
    }
  }

  // out = in * layer, or with `adds` added to it
  void apply(const Layer& layer, const Rows& in, const Rows& out, bool adds = false) const {
    multiply({in.data, in.row, 1, layer.forward.data(), padded(layer.n_out), out.data, out.row,
              in.n, padded(layer.n_out), layer.n_in, adds});
  }

  // grad_in = grad_out * layer^T, and what is added to the gradient of the layer
  void backward(const Layer& layer, const Rows& in, const Rows& grad_out, const Rows& grad_in,
                float* grads) const {
    if (in.n == 0) return;
    multiply({in.data, 1, in.row, grad_out.data, grad_out.row, grads + layer.grad_at,
              padded(layer.n_out), layer.n_in, padded(layer.n_out), in.n, true});
    multiply({grad_out.data, grad_out.row, 1, layer.backward.data(), padded(layer.n_in),
              grad_in.data, grad_in.row, grad_out.n, padded(layer.n_in), layer.n_out, false});
  }

 private:
  int64_t geometry_at() const { return shape.width * shape.n_encoded; }
  int64_t color_at() const { return geometry_at() + shape.n_geometry * shape.width; }
  int64_t hidden_at() const {
    return color_at() + shape.width * (shape.n_geometry + shape.n_directions);
  }
};

DIETNERF_CLONES static void clear(float* values, int64_t n) {
  for (int64_t i = 0; i < n; ++i) values[i] = 0;
}

DIETNERF_CLONES static void relu(float* values, int64_t n) {
  DIETNERF_SIMD
  for (int64_t i = 0; i < n; ++i) values[i] = values[i] < 0 ? 0 : values[i];  // or NaN
}

DIETNERF_CLONES static void relu_backward(const float* values, float* grads, int64_t n) {
  DIETNERF_SIMD
  for (int64_t i = 0; i < n; ++i) grads[i] = values[i] <= 0 ? 0 : grads[i];
}

}  // namespace dietnerf
