// The blocks of csrc/rasterize_gaussians/ on the CPU: their threads take turns.
#include <algorithm>
#include <numeric>
#include <vector>

#include "csrc/rasterize_gaussians/block.h"

using namespace dietnerf;
using namespace dietnerf::rasterizing;

struct HostBlock {
  template <typename Value>
  struct PerThread {
    std::vector<Value> values = std::vector<Value>(kThreads);
    Value& operator[](int thread) { return values[thread]; }
  };

  // Backwards, so that nothing may lean on the order.
  template <typename Body>
  void each(const Body& body) {
    for (int i = kThreads - 1; i >= 0; --i) body(i);
  }
  template <typename Body>
  void threads(const Body& body) {
    each(body);
  }
  template <typename Body>
  bool any(const Body& body) {
    bool found = false;
    each([&](int i) { found |= body(i); });
    return found;
  }
  void max_warps(PerThread<float>& values, float* to) {
    each([&](int i) { *to = std::max(*to, values[i]); });
  }
  template <bool kAbsolute>
  void add_warps(PerThread<SplatSums<float>>& own, SplatSums<float>* to) {
    each([&](int i) { *to += own[i]; });
  }
};

struct Arguments {
  int64_t n, width, height;
  const float *centers, *conics, *depths, *radii, *opacities, *colors;
};

struct HostBins {
  std::vector<int64_t> order, pairs, tile_offsets;
  std::vector<int32_t> ranks;
  std::vector<Splat<float>> splats;
  TiledSplats<float> tiled;

  explicit HostBins(const Arguments& a) : order(a.n), splats(a.n) {
    std::vector<float> keys(a.n), sorted(a.n);
    const SortKeys<float> sort{a.centers, a.conics, a.depths, a.radii, a.opacities, keys.data()};
    for (int64_t i = 0; i < a.n; ++i) sort(i);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t i, int64_t j) { return keys[i] < keys[j]; });
    for (int64_t i = 0; i < a.n; ++i) sorted[i] = keys[order[i]];
    std::vector<int64_t> counts(a.n), offsets(a.n + 1);
    ListPairs<float> list{a.centers,    a.conics, a.opacities, a.colors,      sorted.data(),
                          order.data(), a.width,  a.height,    splats.data(), counts.data()};
    for (int64_t i = 0; i < a.n; ++i) list(i);
    std::partial_sum(counts.begin(), counts.end(), offsets.begin() + 1);
    const int64_t n_pairs = offsets[a.n];
    std::vector<int32_t> tiles(n_pairs), tiles_in_order(n_pairs);
    ranks.resize(n_pairs);
    list.counts = nullptr;
    list.offsets = offsets.data();
    list.tiles = tiles.data();
    list.ranks = ranks.data();
    for (int64_t i = 0; i < a.n; ++i) list(i);
    pairs.resize(n_pairs);
    std::iota(pairs.begin(), pairs.end(), 0);
    std::stable_sort(pairs.begin(), pairs.end(),
                     [&](int64_t i, int64_t j) { return tiles[i] < tiles[j]; });
    for (int64_t i = 0; i < n_pairs; ++i) tiles_in_order[i] = tiles[pairs[i]];
    tile_offsets.resize(n_tiles(a) + 1);
    const TileOffsets find{tiles_in_order.data(), n_pairs, tile_offsets.data()};
    for (int64_t i = 0; i <= n_tiles(a); ++i) find(i);
    tiled = {splats.data(), ranks.data(), pairs.data(), tile_offsets.data(), a.width, a.height};
  }

  static int64_t n_tiles(const Arguments& a) {
    return (a.width + kTileSide - 1) / kTileSide * ((a.height + kTileSide - 1) / kTileSide);
  }

  template <typename Kernel>
  static void run(const Arguments& a, const Kernel& kernel) {
    SplatBatch<float> batch;
    HostBlock block;
    for (int64_t tile = 0; tile < n_tiles(a); ++tile) kernel(block, batch, tile);
  }
};

extern "C" void splats_forward(const Arguments* a, float* rgb, float* opacity, float* depth,
                               float* median_depth, float* max_weights, float* trans,
                               float* n_passed) {
  const HostBins bins(*a);
  HostBins::run(*a, BlockForward<float>{bins.tiled, bins.order.data(), rgb, opacity, depth,
                                        median_depth, trans, n_passed, max_weights});
}

extern "C" void splats_backward(const Arguments* a, const float* grad_rgb,
                                const float* grad_opacity, const float* grad_depth,
                                const float* trans, const float* n_passed, float* centers,
                                float* conics, float* depths, float* opacities, float* colors,
                                float* absgrad) {
  const HostBins bins(*a);
  std::vector<SplatSums<float>> sums(a->n);
  HostBins::run(*a, BlockBackward<float, true>{bins.tiled, grad_rgb, grad_opacity, grad_depth,
                                               nullptr, trans, n_passed, sums.data()});
  const WriteGrads<float> write{bins.splats.data(),
                                sums.data(),
                                bins.order.data(),
                                {centers, conics, depths, opacities, colors, absgrad}};
  for (int64_t i = 0; i < a->n; ++i) write(i);
}
