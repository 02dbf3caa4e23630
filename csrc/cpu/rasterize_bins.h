// Which Gaussians touch which tiles, front to back.
#pragma once

#include <algorithm>
#include <vector>

// First, so that the templates of the others find its functions.
#include "lanes.h"

#include "../rasterize_gaussians.h"
#include "../rasterize_gaussians/ellipse.h"
#include "parallel_for.h"
#include "radix_sort.h"

namespace dietnerf::rasterizing {

constexpr int kStrips = kTileSide / kGroup;  // of columns, in a tile

// A Gaussian in a tile: which one, by depth, and the rows of the tile that it covers in each strip
// of columns.
struct Entry {
  int32_t rank;
  uint8_t first[kStrips], last[kStrips];
};

template <typename T>
class Bins {
 public:
  explicit Bins(const RasterizeInputs& in)
      : columns_(in.tiles(in.width)), n_tiles_(in.n_tiles()), width_(in.width), height_(in.height) {
    sort(in);
    find_pairs();
    deal();
  }

  int64_t n_ranks() const { return ids.size(); }
  int64_t n_pairs() const { return entries.size(); }

  std::vector<int32_t> ids;           // of the Gaussians, by depth
  std::vector<Splat<T>> splats;       // (n_ranks,)
  std::vector<Entry> entries;         // (n_pairs,), tile after tile, by depth
  std::vector<int32_t> tile_offsets;  // (n_tiles + 1,)
  std::vector<int32_t> pair_offsets;  // (n_ranks + 1,), of the pairs of a Gaussian with tiles
  std::vector<int32_t> positions;     // (n_pairs,), of the pairs among the entries

 private:
  struct Pair {
    int32_t tile;
    Entry entry;
  };

  static constexpr int64_t kPerBlock = 1024;
  static constexpr int64_t kMostPairs = int64_t{1} << 28;  // 6 GB, and 13 more backwards

  void sort(const RasterizeInputs& in) {
    const T *centers = const_data<T>(in.centers), *conics = const_data<T>(in.conics);
    const T *depths = const_data<T>(in.depths), *radii = const_data<T>(in.radii);
    const T *opacities = const_data<T>(in.opacities), *colors = const_data<T>(in.colors);
    std::vector<Ellipse> found(in.n);
    each_block(in.n, [&](int64_t, int64_t i) {
      found[i] = Ellipse::of(centers[2 * i], centers[2 * i + 1], conics + 3 * i, opacities[i]);
    });
    std::vector<Keyed<decltype(sortable(T()))>> keys;
    keys.reserve(in.n);
    for (int32_t i = 0; i < in.n; ++i) {
      if (radii[i] > 0 && std::isfinite(depths[i]) && found[i].counts)
        keys.push_back({sortable(depths[i]), i});
    }
    radix_sort(keys);
    ids.resize(keys.size());
    splats.resize(keys.size());
    ellipses_.resize(keys.size());
    each_block(keys.size(), [&](int64_t, int64_t rank) {
      const int32_t i = ids[rank] = keys[rank].value;
      const T *center = centers + 2 * i, *conic = conics + 3 * i, *color = colors + 3 * i;
      splats[rank] = {center[0],
                      center[1],
                      conic[0] / 2,
                      conic[1],
                      conic[2] / 2,
                      opacities[i],
                      color[0],
                      color[1],
                      color[2],
                      depths[i],
                      static_cast<T>(rank + 1)};
      ellipses_[rank] = found[i];
    });
  }

  // Calls body(block, i) for every i below n, in order within each block.
  template <typename Body>
  static void each_block(int64_t n, const Body& body) {
    parallel_for_dynamic(n_blocks(n), [&] {
      return [&](int64_t block) {
        const int64_t end = std::min(n, (block + 1) * kPerBlock);
        for (int64_t i = block * kPerBlock; i < end; ++i) body(block, i);
      };
    });
  }

  static int64_t n_blocks(int64_t n) { return (n + kPerBlock - 1) / kPerBlock; }

  void find_pairs() {
    const int64_t n = n_ranks();
    blocks_.resize(n_blocks(n));
    pair_offsets.assign(n + 1, 0);
    std::atomic<int64_t> total{0};
    each_block(n, [&](int64_t block, int64_t rank) {
      if (total > kMostPairs) return;
      const size_t before = blocks_[block].size();
      add_pairs(rank, blocks_[block]);
      pair_offsets[rank + 1] = static_cast<int32_t>(blocks_[block].size() - before);
      total += pair_offsets[rank + 1];
    });
    STD_TORCH_CHECK(total <= kMostPairs, "rasterize_gaussians: centers and conics are of ", n,
                    " Gaussians that cover more than ", kMostPairs, " tiles together");
    for (int64_t rank = 0; rank < n; ++rank) pair_offsets[rank + 1] += pair_offsets[rank];
  }

  // Column of tiles by column of tiles.
  void add_pairs(int64_t rank, std::vector<Pair>& pairs) const {
    const Ellipse& ellipse = ellipses_[rank];
    const Span columns = ellipse.columns(width_);
    if (columns.empty()) return;
    for (int tile_x = columns.first / kTileSide; kTileSide * tile_x < columns.last; ++tile_x) {
      Span strips[kStrips], all{height_, 0};
      for (int i = 0; i < kStrips; ++i) {
        const double left = kTileSide * tile_x + kGroup * i;
        strips[i] = ellipse.rows(left + 0.5, left + kGroup - 0.5, height_);
        if (strips[i].empty()) continue;
        all = {std::min(all.first, strips[i].first), std::max(all.last, strips[i].last)};
      }
      if (all.empty()) continue;
      for (int tile_y = all.first / kTileSide; kTileSide * tile_y < all.last; ++tile_y) {
        Pair pair{static_cast<int32_t>(tile_y * columns_ + tile_x), {static_cast<int32_t>(rank)}};
        for (int i = 0; i < kStrips; ++i) {
          pair.entry.first[i] = within(strips[i].first - kTileSide * tile_y);
          pair.entry.last[i] = within(strips[i].last - kTileSide * tile_y);
        }
        pairs.push_back(pair);
      }
    }
  }

  static uint8_t within(int row) { return static_cast<uint8_t>(std::clamp(row, 0, kTileSide)); }

  // Pairs in the order of their Gaussians into tiles.
  void deal() {
    tile_offsets.assign(n_tiles_ + 1, 0);
    for (const auto& pairs : blocks_) {
      for (const Pair& pair : pairs) ++tile_offsets[pair.tile + 1];
    }
    for (int64_t i = 0; i < n_tiles_; ++i) tile_offsets[i + 1] += tile_offsets[i];
    std::vector<int32_t> next(tile_offsets.begin(), tile_offsets.end() - 1);
    entries.resize(tile_offsets[n_tiles_]);
    positions.reserve(entries.size());
    for (const auto& pairs : blocks_) {
      for (const Pair& pair : pairs) {
        positions.push_back(next[pair.tile]++);
        entries[positions.back()] = pair.entry;
      }
    }
  }

  int64_t columns_, n_tiles_;
  int width_, height_;
  std::vector<Ellipse> ellipses_;
  std::vector<std::vector<Pair>> blocks_;
};

}  // namespace dietnerf::rasterizing
