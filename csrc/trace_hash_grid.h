// Pictures of a hash-grid field in one go on a GPU: what must hold, and what a block of threads
// does. See dietnerf/ops/trace_hash_grid.py for shapes and units.
//
// A block holds 64 rays. In each turn all of them march on to their next sample, and these 64 are
// encoded, put through the networks (csrc/tile_mlp.h), and composited. A ray that has left the box,
// or has no light left, makes room for another, so that there are 64 samples as long as there are
// rays. Nothing of a sample leaves the multiprocessor.
#pragma once

#include "march_rays.h"
#include "math.h"
#include "tile_mlp.h"

namespace dietnerf {

// A ray of a block, and its next sample.
struct TracedRay {
  int64_t ray;  // negative where there is none
  Walk<float> walk;
  float rgb[3], opacity, depth, left;
  float length_of_t;  // scene units
  float t, length;    // of the sample; length in scene units
  float scale;        // of its density, 0 outside of the field's box
  float unit[3];
};

// Places in shared memory behind those of the networks, in bytes.
struct TraceMemory {
  TileMemory tiles;
  int rays, is_busy;

  static TraceMemory of(const TileLayers& layers) {
    TraceMemory memory{};
    memory.tiles = TileMemory::of(layers, false);
    memory.rays = memory.tiles.take(kTile * static_cast<int>(sizeof(TracedRay)));
    memory.is_busy = memory.tiles.take(static_cast<int>(sizeof(int)));
    return memory;
  }
};

template <typename Entry>
struct TraceHashGrid {
  TileInputs in;  // of layers, memory, network and directions
  TraceMemory memory;
  Marching<float> marching;
  HashEncode<Entry> grid;
  const float* bounds;  // of the field, (2, 3)
  bool is_unbounded;
  float early_stop;
  int64_t n_rays;
  unsigned long long* next_ray;  // the first that no block has taken yet
  float *rgb, *opacity, *depth;  // (n_rays, 3), (n_rays,), (n_rays,)

  template <typename Block>
  DIETNERF_TILE void operator()(Block& block, char* shared, int64_t, int64_t) const {
    const TileMLP<Block> mlp{block, in, shared};
    TracedRay* rays = reinterpret_cast<TracedRay*>(shared + memory.rays);
    int* is_busy = reinterpret_cast<int*>(shared + memory.is_busy);
    mlp.load_weights();
    block.threads([&](int thread) {
      if (thread < kTile) rays[thread].ray = -1;
    });
    for (;;) {
      block.threads([&](int thread) {
        if (thread == 0) *is_busy = 0;
      });
      block.threads([&](int thread) {
        if (thread < kTile && go_on(rays[thread])) *is_busy = 1;
      });
      if (!*is_busy) return;
      block.threads([&](int thread) { tell(mlp, rays, thread); });
      mlp.answer();
      block.threads([&](int thread) {
        if (thread < kTile) take_up(mlp, rays[thread], thread);
      });
    }
  }

 private:
  // To the next sample of this ray, or of the next one that has any. False where none is left.
  DIETNERF_TILE bool go_on(TracedRay& own) const {
    const CellFrame<float> frame = marching.frame();
    for (;;) {
      float delta;
      if (own.ray >= 0) {
        if (own.left >= early_stop && goes_on(own, delta)) {
          place(own, delta);
          return true;
        }
        write(own);
      }
      own.ray = taken();
      if (own.ray < 0) return false;
      begin(own, frame);
    }
  }

  DIETNERF_TILE bool goes_on(TracedRay& own, float& delta) const {
    Walk<float> walk = own.walk;  // in registers meanwhile
    float t;
    const bool is_on = marching.next(walk, t, delta);
    own.walk = walk;
    own.t = t;
    return is_on;
  }

  DIETNERF_TILE int64_t taken() const {
#if defined(__CUDA_ARCH__)
    const int64_t ray = static_cast<int64_t>(atomicAdd(next_ray, 1ULL));
#else
    const int64_t ray = static_cast<int64_t>((*next_ray)++);
#endif
    return ray < n_rays ? ray : -1;
  }

  DIETNERF_TILE void begin(TracedRay& own, const CellFrame<float>& frame) const {
    const float* d = marching.rays_d + 3 * own.ray;
    own.walk = marching.walk(frame, own.ray);
    own.length_of_t = sqrtf(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
    for (int c = 0; c < 3; ++c) own.rgb[c] = 0;
    own.opacity = own.depth = 0;
    own.left = 1;
  }

  DIETNERF_TILE void place(TracedRay& own, float delta) const {
    const UnitCube<float> cube = unit_cube(bounds, is_unbounded);
    float position[3];
    for (int axis = 0; axis < 3; ++axis) {
      position[axis] =
          marching.rays_o[3 * own.ray + axis] + own.t * marching.rays_d[3 * own.ray + axis];
    }
    const bool is_inside = cube.map(position, own.unit);
    const float* inv = cube.inv_half;
    const float least = inv[0] < inv[1] ? inv[0] : inv[1];
    own.scale = is_inside ? (least < inv[2] ? least : inv[2]) : 0.0f;
    own.length = delta * own.length_of_t;
  }

  DIETNERF_TILE void write(const TracedRay& own) const {
    for (int c = 0; c < 3; ++c) rgb[3 * own.ray + c] = own.rgb[c];
    opacity[own.ray] = own.opacity;
    depth[own.ray] = own.depth;
  }

  // What the networks are told of the samples: threads beside each other have the same level, so
  // that they find its entries in the cache.
  template <typename Block>
  DIETNERF_TILE void tell(const TileMLP<Block>& mlp, const TracedRay* rays, int thread) const {
    const int n_levels = static_cast<int>(grid.in.n_levels);
    const int n_features = static_cast<int>(grid.in.n_features);
    const int n_encoded = in.layers.n_in[0], row = row_of(n_encoded);
    for (int i = thread; i < kTile * n_levels; i += kTileThreads) {
      const int place = i % kTile, level = i / kTile;
      float found[kMostFeatures] = {};
      if (rays[place].ray >= 0) grid.encode(rays[place].unit, level, found);
      Half* to = mlp.inputs(0) + place * row + level * n_features;
      DIETNERF_UNROLL
      for (int f = 0; f < kMostFeatures; ++f) {
        if (f < n_features) to[f] = to_half(found[f]);
      }
    }
    const int n_empty = to_16(n_encoded) - n_encoded;
    for (int i = thread; i < kTile * n_empty; i += kTileThreads) {
      mlp.inputs(0)[i / n_empty * row + n_encoded + i % n_empty] = static_cast<Half>(0.0f);
    }
    const int n_told = row_of(in.layers.n_in[2]), from = in.layers.n_geometry;
    const int n_free = to_16(in.layers.n_in[2]) - from, n_directions = in.layers.n_directions;
    for (int i = thread; i < kTile * n_free; i += kTileThreads) {
      const int place = i / n_free, k = i % n_free;
      const bool is_there = rays[place].ray >= 0 && k < n_directions;
      mlp.inputs(2)[place * n_told + from + k] =
          to_half(is_there ? in.directions[rays[place].ray * n_directions + k] : 0.0f);
    }
  }

  template <typename Block>
  DIETNERF_TILE void take_up(const TileMLP<Block>& mlp, TracedRay& own, int place) const {
    if (own.ray < 0) return;
    const float sigma = TruncatedExp::of(mlp.logits()[place], own.scale).value;
    const Decay<float> light = decay(sigma * own.length);
    const float weight = own.left * light.stopped;
    for (int c = 0; c < 3; ++c) own.rgb[c] += weight * sigmoid(mlp.answers()[4 * place + c]);
    own.opacity += weight;
    own.depth += weight * own.t;
    own.left *= light.kept;
  }

  static constexpr int kMostFeatures = 8;
};

}  // namespace dietnerf
