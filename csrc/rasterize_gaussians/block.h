// Compositing on a GPU: one block of threads a tile, a thread a pixel. What a block does is written
// as phases of its threads and warps, so that a test carries it out on a CPU.
#pragma once

#include "ellipse.h"

namespace dietnerf::rasterizing {

constexpr int kThreads = kTileSide * kTileSide;

// Depths to sort by, infinity for Gaussians that are not visible.
template <typename T>
struct SortKeys {
  const T *centers, *conics, *depths, *radii, *opacities;  // as the op takes them
  T* keys;                                                 // (n,)

  DIETNERF_HD void operator()(int64_t i) const {
    const Ellipse ellipse =
        Ellipse::of(centers[2 * i], centers[2 * i + 1], conics + 3 * i, opacities[i]);
    const bool shown = radii[i] > 0 && std::isfinite(depths[i]) && ellipse.counts;
    keys[i] = shown ? depths[i] : T(INFINITY);
  }
};

// Gaussians by depth, and the tiles that they touch. Counting and writing are one kernel: two could
// round differently.
template <typename T>
struct ListPairs {
  const T *centers, *conics, *opacities, *colors;
  const T* keys;         // (n,), in order
  const int64_t* order;  // (n,)
  int64_t width, height;
  Splat<T>* splats;        // (n,), written while counting; number 0 if not visible
  int64_t* counts;         // (n,), or null to write
  const int64_t* offsets;  // (n + 1,), or null to count
  int32_t *tiles, *ranks;  // (n_pairs,)

  DIETNERF_HD void operator()(int64_t rank) const {
    const int64_t i = order[rank];
    const bool shown = std::isfinite(keys[rank]);
    const T *center = centers + 2 * i, *conic = conics + 3 * i, *color = colors + 3 * i;
    if (counts) {
      splats[rank] = {center[0],
                      center[1],
                      conic[0] / 2,
                      conic[1],
                      conic[2] / 2,
                      opacities[i],
                      color[0],
                      color[1],
                      color[2],
                      keys[rank],
                      shown ? static_cast<T>(rank + 1) : T(0)};
    }
    int64_t n = 0;
    if (shown) n = list(Ellipse::of(center[0], center[1], conic, opacities[i]), rank);
    if (counts) counts[rank] = n;
  }

 private:
  DIETNERF_HD int64_t list(const Ellipse& ellipse, int64_t rank) const {
    const int64_t n_columns = (width + kTileSide - 1) / kTileSide;
    const Span columns = ellipse.columns(static_cast<int>(width));
    int64_t n = 0;
    for (int x = columns.first / kTileSide; kTileSide * x < columns.last; ++x) {
      const double left = kTileSide * x + 0.5;
      const Span rows = ellipse.rows(left, left + kTileSide - 1, static_cast<int>(height));
      if (rows.empty()) continue;
      for (int y = rows.first / kTileSide; kTileSide * y < rows.last; ++y, ++n) {
        if (!offsets) continue;
        tiles[offsets[rank] + n] = static_cast<int32_t>(y * n_columns + x);
        ranks[offsets[rank] + n] = static_cast<int32_t>(rank);
      }
    }
    return n;
  }
};

// Where each tile's pairs begin among those sorted by tile.
struct TileOffsets {
  const int32_t* tiles;  // (n_pairs,), ascending
  int64_t n_pairs;
  int64_t* offsets;  // (n_tiles + 1,)

  DIETNERF_HD void operator()(int64_t tile) const {
    int64_t low = 0, high = n_pairs;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (tiles[middle] < tile) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    offsets[tile] = low;
  }
};

template <typename T>
struct TiledSplats {
  const Splat<T>* splats;       // (n,), by depth
  const int32_t* ranks;         // (n_pairs,), of pairs as they were listed
  const int64_t* pairs;         // (n_pairs,), tile after tile, by depth
  const int64_t* tile_offsets;  // (n_tiles + 1,)
  int64_t width, height;

  DIETNERF_HD int32_t rank(int64_t entry) const { return ranks[pairs[entry]]; }
};

// A pixel of a tile.
struct PixelPlace {
  int64_t x, y, index;
  bool is_inside;

  DIETNERF_HD PixelPlace(int64_t tile, int thread, int64_t width, int64_t height) {
    const int64_t n_columns = (width + kTileSide - 1) / kTileSide;
    x = tile % n_columns * kTileSide + thread % kTileSide;
    y = tile / n_columns * kTileSide + thread / kTileSide;
    index = y * width + x;
    is_inside = x < width && y < height;
  }
};

template <typename T>
struct SplatBatch {
  Splat<T> splats[kThreads];
  int32_t ranks[kThreads];

  DIETNERF_HD void load(int thread, int64_t entry, const TiledSplats<T>& in) {
    ranks[thread] = in.rank(entry);
    splats[thread] = in.splats[ranks[thread]];
  }
};

template <typename T>
struct BlockForward {
  TiledSplats<T> in;
  const int64_t* order;                                        // (n,)
  T *rgb, *opacity, *depth, *median_depth, *trans, *n_passed;  // (height, width, 3 or none)
  T* max_weights;                                              // (n,), zero before

  template <typename Block>
  DIETNERF_HD void operator()(Block& block, SplatBatch<T>& batch, int64_t tile) const {
    typename Block::template PerThread<Pixel<T, T>> pixels;
    typename Block::template PerThread<T> weights;
    block.each([&](int t) {
      const PixelPlace place(tile, t, in.width, in.height);
      pixels[t] = {place.is_inside ? T(1) : T(0)};
    });
    const int64_t end = in.tile_offsets[tile + 1];
    for (int64_t from = in.tile_offsets[tile]; from < end; from += kThreads) {
      if (!block.any([&](int t) { return pixels[t].trans >= T(kMinTrans); })) break;
      const int n = static_cast<int>(end - from < kThreads ? end - from : kThreads);
      block.threads([&](int t) {
        if (t < n) batch.load(t, from + t, in);
      });
      for (int k = 0; k < n; ++k) {
        const Splat<T>& splat = batch.splats[k];
        block.each([&](int t) {
          weights[t] = 0;
          if (pixels[t].trans < T(kMinTrans)) return;
          const PixelPlace place(tile, t, in.width, in.height);
          weights[t] = pixels[t].add(splat, static_cast<T>(place.x) + T(0.5) - splat.x,
                                     static_cast<T>(place.y) + T(0.5) - splat.y);
        });
        block.max_warps(weights, max_weights + order[batch.ranks[k]]);
      }
    }
    block.each([&](int t) { write(PixelPlace(tile, t, in.width, in.height), pixels[t]); });
  }

 private:
  DIETNERF_HD void write(const PixelPlace& place, const Pixel<T, T>& pixel) const {
    if (!place.is_inside) return;
    rgb[3 * place.index] = pixel.red;
    rgb[3 * place.index + 1] = pixel.green;
    rgb[3 * place.index + 2] = pixel.blue;
    opacity[place.index] = pixel.opacity;
    depth[place.index] = pixel.depth;
    median_depth[place.index] = pixel.trans <= T(0.5) ? pixel.median : T(0);
    trans[place.index] = pixel.trans;
    n_passed[place.index] = pixel.n_passed;
  }
};

template <typename T, bool kAbsolute>
struct BlockBackward {
  TiledSplats<T> in;
  // Null if there is none: (height, width, 3 or none)
  const T *grad_rgb, *grad_opacity, *grad_depth, *grad_trans;
  const T *trans, *n_passed;  // outputs of the forward
  SplatSums<T>* sums;         // (n,), by depth, zero before

  template <typename Block>
  DIETNERF_HD void operator()(Block& block, SplatBatch<T>& batch, int64_t tile) const {
    typename Block::template PerThread<PixelBackward<T, T>> pixels;
    typename Block::template PerThread<PixelGrads<T>> grads;
    typename Block::template PerThread<SplatSums<T>> own;
    block.each([&](int t) {
      const PixelPlace place(tile, t, in.width, in.height);
      pixels[t] = {};
      grads[t] = {};
      if (place.is_inside) read(place.index, pixels[t], grads[t]);
    });
    const int64_t begin = in.tile_offsets[tile];
    for (int64_t to = in.tile_offsets[tile + 1]; to > begin; to -= kThreads) {
      const int64_t from = to - begin < kThreads ? begin : to - kThreads;
      const int n = static_cast<int>(to - from);
      const T front = in.splats[in.rank(from)].number;
      if (!block.any([&](int t) { return pixels[t].n_passed >= front; })) continue;
      block.threads([&](int t) {
        if (t < n) batch.load(t, from + t, in);
      });
      for (int k = n - 1; k >= 0; --k) {
        const Splat<T>& splat = batch.splats[k];
        block.each([&](int t) {
          own[t] = {};
          if (pixels[t].n_passed < splat.number) return;
          const PixelPlace place(tile, t, in.width, in.height);
          pixels[t].template add<kAbsolute>(splat, static_cast<T>(place.x) + T(0.5) - splat.x,
                                            static_cast<T>(place.y) + T(0.5) - splat.y, grads[t],
                                            own[t]);
        });
        block.template add_warps<kAbsolute>(own, sums + batch.ranks[k]);
      }
    }
  }

 private:
  DIETNERF_HD void read(int64_t i, PixelBackward<T, T>& pixel, PixelGrads<T>& grads) const {
    pixel.trans = trans[i];
    pixel.n_passed = n_passed[i];
    if (grad_trans) pixel.loss_behind = grad_trans[i] * trans[i];
    if (grad_rgb) {
      grads.red = grad_rgb[3 * i];
      grads.green = grad_rgb[3 * i + 1];
      grads.blue = grad_rgb[3 * i + 2];
    }
    if (grad_opacity) grads.opacity = grad_opacity[i];
    if (grad_depth) grads.depth = grad_depth[i];
  }
};

template <typename T>
struct WriteGrads {
  const Splat<T>* splats;    // (n,), by depth
  const SplatSums<T>* sums;  // (n,), by depth
  const int64_t* order;      // (n,)
  SplatGrads<T> grads;

  DIETNERF_HD void operator()(int64_t rank) const {
    if (splats[rank].number > 0) grads.write(order[rank], splats[rank], sums[rank]);
  }
};

}  // namespace dietnerf::rasterizing
