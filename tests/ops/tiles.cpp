// The tiles of csrc/tile_mlp/ on the CPU.
#include "host_block.h"

struct Arguments {
  int64_t n_encoded, width, n_geometry, n_directions, color_layers, n_samples, n_blocks;
  const float *network, *encoded, *directions, *scales;
  const int32_t* rays;
};

static TileInputs inputs_of(const Arguments& a, bool is_backward) {
  TileInputs in{};
  in.layers = TileLayers::of({a.n_encoded, a.width, a.n_geometry, a.n_directions, a.color_layers});
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
