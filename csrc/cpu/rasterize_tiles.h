// A tile of pixels, forward and backward, its pixels in groups of one row.
#pragma once

#include "rasterize_bins.h"

namespace dietnerf::rasterizing {

constexpr int kGroups = kStrips * kTileSide;  // of a tile: strip after strip, row after row
constexpr int kBatch = 64;                    // Gaussians at a time

// The first n lanes to and from memory, the others being 0.
template <typename T>
DIETNERF_HD Lanes<T> load(const T* from, int n) {
  Lanes<T> found{};
  if (n == kGroup) {
    std::memcpy(&found, from, sizeof(found));
  } else {
    for (int i = 0; i < n; ++i) found[i] = from[i];
  }
  return found;
}

template <typename V, typename T>
DIETNERF_HD void store(const V& values, T* to, int n) {
  if (n == kGroup) {
    std::memcpy(to, &values, sizeof(values));
  } else {
    for (int i = 0; i < n; ++i) to[i] = values[i];
  }
}

template <typename T>
DIETNERF_HD void load_colors(const T* from, int n, PixelGrads<Lanes<T>>& to) {
  for (int i = 0; i < n; ++i) {
    to.red[i] = from[3 * i];
    to.green[i] = from[3 * i + 1];
    to.blue[i] = from[3 * i + 2];
  }
}

template <typename V, typename T>
DIETNERF_HD void store_colors(const V& red, const V& green, const V& blue, T* to, int n) {
  for (int i = 0; i < n; ++i) {
    to[3 * i] = red[i];
    to[3 * i + 1] = green[i];
    to[3 * i + 2] = blue[i];
  }
}

// Where a tile lies in the image.
struct TilePlace {
  int64_t x, y, width, height;

  DIETNERF_HD TilePlace(int64_t tile, int64_t width_, int64_t height_)
      : width(width_), height(height_) {
    const int64_t columns = (width + kTileSide - 1) / kTileSide;
    x = tile % columns * kTileSide;
    y = tile / columns * kTileSide;
  }

  // Calls body(group, index of its first pixel in the image, number of pixels in the image) for
  // every group that has any.
  template <typename Body>
  DIETNERF_HD void each_group(const Body& body) const {
    for (int row = 0; row < kTileSide && y + row < height; ++row) {
      for (int strip = 0; strip < kStrips; ++strip) {
        const int64_t left = x + strip * kGroup, rest = width - left;
        if (rest <= 0) break;
        body(strip * kTileSide + row, (y + row) * width + left,
             rest < kGroup ? static_cast<int>(rest) : kGroup);
      }
    }
  }

  template <typename T>
  DIETNERF_HD Lanes<T> xs(int strip) const {
    Lanes<T> found{};
    for (int i = 0; i < kGroup; ++i) found[i] = static_cast<T>(x + strip * kGroup + i) + T(0.5);
    return found;
  }

  template <typename T>
  DIETNERF_HD T y_of(int row) const {
    return static_cast<T>(y + row) + T(0.5);
  }
};

template <typename T>
struct RasterizeTile {
  const Splat<T>* splats;
  const Entry* entries;
  const int32_t* tile_offsets;
  int64_t width, height;
  T *rgb, *opacity, *depth, *median_depth, *trans, *n_passed;  // (height, width, 3 or none)
  T* entry_weights;                                            // (n_pairs,), the largest

  DIETNERF_HD void operator()(int64_t tile) const {
    const TilePlace place(tile, width, height);
    Pixel<T, Lanes<T>> pixels[kGroups];
    for (auto& pixel : pixels) pixel = {Lanes<T>{}};
    place.each_group([&](int group, int64_t, int n) {
      for (int lane = 0; lane < n; ++lane) pixels[group].trans[lane] = 1;
    });
    for (int32_t at = tile_offsets[tile]; at < tile_offsets[tile + 1]; at += kBatch) {
      const int32_t n = tile_offsets[tile + 1] - at;
      add(place, at, n < kBatch ? n : kBatch, pixels);
    }
    place.each_group([&](int group, int64_t i, int n) {
      const Pixel<T, Lanes<T>>& pixel = pixels[group];
      const Lanes<T> zero{}, half = zero + T(0.5);
      store_colors(pixel.red, pixel.green, pixel.blue, rgb + 3 * i, n);
      store(pixel.opacity, opacity + i, n);
      store(pixel.depth, depth + i, n);
      store(pixel.trans > half ? zero : pixel.median, median_depth + i, n);
      store(pixel.trans, trans + i, n);
      store(pixel.n_passed, n_passed + i, n);
    });
  }

 private:
  // Group by group, so that what a group shows stays in registers.
  DIETNERF_HD void add(const TilePlace& place, int32_t at, int n,
                       Pixel<T, Lanes<T>>* pixels) const {
    const Entry* batch = entries + at;
    Splat<T> gathered[kBatch];
    uint8_t lists[kGroups][kBatch];
    int counts[kGroups] = {};
    Lanes<T> largest[kBatch];
    for (int i = 0; i < n; ++i) {
      gathered[i] = splats[batch[i].rank];
      largest[i] = Lanes<T>{};
      for (int strip = 0; strip < kStrips; ++strip) {
        for (int row = batch[i].first[strip]; row < batch[i].last[strip]; ++row) {
          const int group = strip * kTileSide + row;
          lists[group][counts[group]++] = static_cast<uint8_t>(i);
        }
      }
    }
    for (int group = 0; group < kGroups; ++group) {
      if (counts[group] == 0 || max_lanes(pixels[group].trans) < T(kMinTrans)) continue;
      Pixel<T, Lanes<T>> pixel = pixels[group];
      const Lanes<T> x = place.xs<T>(group / kTileSide);
      const T y = place.y_of<T>(group % kTileSide);
      for (int k = 0; k < counts[group]; ++k) {
        const int i = lists[group][k];
        const Splat<T>& splat = gathered[i];
        const Lanes<T> weight = pixel.add(splat, x - splat.x, y - splat.y);
        largest[i] = weight > largest[i] ? weight : largest[i];
      }
      pixels[group] = pixel;
    }
    for (int i = 0; i < n; ++i) entry_weights[at + i] = max_lanes(largest[i]);
  }
};

template <typename T, bool kAbsolute>
struct RasterizeTileBackward {
  const Splat<T>* splats;
  const Entry* entries;
  const int32_t* tile_offsets;
  int64_t width, height;
  // Null if there is none: (height, width, 3 or none)
  const T *grad_rgb, *grad_opacity, *grad_depth, *grad_trans;
  const T *trans, *n_passed;  // outputs of the forward
  SplatSums<T>* entry_sums;   // (n_pairs,)

  DIETNERF_HD void operator()(int64_t tile) const {
    const TilePlace place(tile, width, height);
    PixelBackward<T, Lanes<T>> pixels[kGroups] = {};
    PixelGrads<Lanes<T>> grads[kGroups] = {};
    T last[kGroups];  // number of the last Gaussian that counts in a pixel of the group
    read(place, pixels, grads);
    for (int group = 0; group < kGroups; ++group) last[group] = max_lanes(pixels[group].n_passed);
    const Lanes<T> xs[kStrips] = {place.xs<T>(0), place.xs<T>(1)};
    for (int32_t at = tile_offsets[tile + 1] - 1; at >= tile_offsets[tile]; --at) {
      const Entry entry = entries[at];
      const Splat<T> splat = splats[entry.rank];
      SplatSums<Lanes<T>> sums;
      for (int strip = 0; strip < kStrips; ++strip) {
        const Lanes<T> dx = xs[strip] - splat.x;
        for (int row = entry.first[strip]; row < entry.last[strip]; ++row) {
          const int group = strip * kTileSide + row;
          if (splat.number > last[group]) continue;
          const T dy = place.y_of<T>(row) - splat.y;
          pixels[group].template add<kAbsolute>(splat, dx, dy, grads[group], sums);
        }
      }
      entry_sums[at] = summed(sums);
    }
  }

 private:
  DIETNERF_HD void read(const TilePlace& place, PixelBackward<T, Lanes<T>>* pixels,
                        PixelGrads<Lanes<T>>* grads) const {
    place.each_group([&](int group, int64_t i, int n) {
      pixels[group].trans = load(trans + i, n);
      pixels[group].n_passed = load(n_passed + i, n);
      if (grad_trans) pixels[group].loss_behind = load(grad_trans + i, n) * pixels[group].trans;
      if (grad_rgb) load_colors(grad_rgb + 3 * i, n, grads[group]);
      if (grad_opacity) grads[group].opacity = load(grad_opacity + i, n);
      if (grad_depth) grads[group].depth = load(grad_depth + i, n);
    });
  }

  DIETNERF_HD static SplatSums<T> summed(const SplatSums<Lanes<T>>& sums) {
    SplatSums<T> found;
    found.h = sum_lanes(sums.h);
    found.x = sum_lanes(sums.x);
    found.y = sum_lanes(sums.y);
    found.xx = sum_lanes(sums.xx);
    found.xy = sum_lanes(sums.xy);
    found.yy = sum_lanes(sums.yy);
    found.red = sum_lanes(sums.red);
    found.green = sum_lanes(sums.green);
    found.blue = sum_lanes(sums.blue);
    found.depth = sum_lanes(sums.depth);
    if (kAbsolute) {
      found.abs_x = sum_lanes(sums.abs_x);
      found.abs_y = sum_lanes(sums.abs_y);
    }
    return found;
  }
};

}  // namespace dietnerf::rasterizing
