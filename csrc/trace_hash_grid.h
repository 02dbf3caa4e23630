// Images of a hash-grid field by one kernel on a GPU: the work of a block of threads. See
// dietnerf/ops/trace_hash_grid.py for shapes and units.
//
// A block holds 64 rays. In each iteration all of them advance to their next sample, and these 64
// are encoded, evaluated by the networks (csrc/tile_mlp/forward.h), and composited. A ray that has
// left the box, or whose transmittance is below early_stop, is replaced by another, so that there
// are 64 samples as long as there are rays. Nothing of a sample leaves the multiprocessor.
#pragma once

#include "march_rays.h"
#include "math.h"
#include "tile_mlp/forward.h"

namespace dietnerf {

// A ray of a block, and its next sample.
struct TracedRay {
  int64_t ray;  // negative if there is none
  MarchState<float> march;
  float rgb[3], opacity, depth, transmittance;
  float length_of_t;  // scene units
  float t, length;    // of the sample; length in scene units
  float scale;        // of its density, 0 outside of the field's box
  float unit[3];
};

// Offsets in shared memory behind those of the networks, in bytes.
struct TraceMemory {
  TileMemory tiles;
  int rays, is_active;

  static TraceMemory of(const TileLayers& layers) {
    TraceMemory memory{};
    memory.tiles = TileMemory::of(layers, false);
    memory.rays = memory.tiles.take(kTile * static_cast<int>(sizeof(TracedRay)));
    memory.is_active = memory.tiles.take(static_cast<int>(sizeof(int)));
    return memory;
  }
};

template <typename Entry>
struct TraceHashGrid {
  TileInputs in;  // of layers, memory, network and directions
  TraceMemory memory;
  OccupancyMarcher<float> marcher;
  HashEncode<Entry> grid;
  const float* aabb;  // of the field, (2, 3)
  bool is_unbounded;
  float early_stop;
  int64_t n_rays;
  unsigned long long* next_ray;  // the first that no block has fetched yet
  float *rgb, *opacity, *depth;  // (n_rays, 3), (n_rays,), (n_rays,)

  template <typename Block>
  DIETNERF_TILE void operator()(Block& block, char* shared, int64_t, int64_t) const {
    const TileMLP<Block> mlp{block, in, shared};
    TracedRay* rays = reinterpret_cast<TracedRay*>(shared + memory.rays);
    int* is_active = reinterpret_cast<int*>(shared + memory.is_active);
    mlp.load_weights();
    block.threads([&](int thread) {
      if (thread < kTile) rays[thread].ray = -1;
    });
    for (;;) {
      block.threads([&](int thread) {
        if (thread == 0) *is_active = 0;
      });
      block.threads([&](int thread) {
        if (thread < kTile && advance(rays[thread])) *is_active = 1;
      });
      if (!*is_active) return;
      block.threads([&](int thread) { encode_inputs(mlp, rays, thread); });
      mlp.evaluate();
      block.threads([&](int thread) {
        if (thread < kTile) composite(mlp, rays[thread], thread);
      });
    }
  }

 private:
  // Advances to the next sample of this ray, or of the next one that has any. False if none is
  // left.
  DIETNERF_TILE bool advance(TracedRay& own) const {
    const CellFrame<float> frame = marcher.frame();
    for (;;) {
      float delta;
      if (own.ray >= 0) {
        if (own.transmittance >= early_stop && next_sample(own, delta)) {
          locate(own, delta);
          return true;
        }
        write(own);
      }
      own.ray = fetch_ray();
      if (own.ray < 0) return false;
      begin(own, frame);
    }
  }

  DIETNERF_TILE bool next_sample(TracedRay& own, float& delta) const {
    MarchState<float> march = own.march;  // in registers meanwhile
    float t;
    const bool has_sample = marcher.next(march, t, delta);
    own.march = march;
    own.t = t;
    return has_sample;
  }

  DIETNERF_TILE int64_t fetch_ray() const {
#if defined(__CUDA_ARCH__)
    const int64_t ray = static_cast<int64_t>(atomicAdd(next_ray, 1ULL));
#else
    const int64_t ray = static_cast<int64_t>((*next_ray)++);
#endif
    return ray < n_rays ? ray : -1;
  }

  DIETNERF_TILE void begin(TracedRay& own, const CellFrame<float>& frame) const {
    const float* d = marcher.rays_d + 3 * own.ray;
    own.march = marcher.start(frame, own.ray);
    own.length_of_t = sqrtf(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
    for (int c = 0; c < 3; ++c) own.rgb[c] = 0;
    own.opacity = own.depth = 0;
    own.transmittance = 1;
  }

  DIETNERF_TILE void locate(TracedRay& own, float delta) const {
    const UnitCube<float> cube = unit_cube(aabb, is_unbounded);
    float position[3];
    for (int axis = 0; axis < 3; ++axis) {
      position[axis] =
          marcher.rays_o[3 * own.ray + axis] + own.t * marcher.rays_d[3 * own.ray + axis];
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

  // Writes the inputs of the networks. Neighboring threads have the same level, so that its entries
  // stay in the cache.
  template <typename Block>
  DIETNERF_TILE void encode_inputs(const TileMLP<Block>& mlp, const TracedRay* rays,
                                   int thread) const {
    const int n_levels = static_cast<int>(grid.in.n_levels);
    const int n_features = static_cast<int>(grid.in.n_features);
    const int n_encoded = in.layers.n_in[0], row = row_of(n_encoded);
    for (int i = thread; i < kTile * n_levels; i += kTileThreads) {
      const int slot = i % kTile, level = i / kTile;
      float found[kMaxFeatures] = {};
      if (rays[slot].ray >= 0) grid.encode(rays[slot].unit, level, found);
      Half* to = mlp.inputs(0) + slot * row + level * n_features;
      DIETNERF_UNROLL
      for (int f = 0; f < kMaxFeatures; ++f) {
        if (f < n_features) to[f] = to_half(found[f]);
      }
    }
    const int n_empty = to_16(n_encoded) - n_encoded;
    for (int i = thread; i < kTile * n_empty; i += kTileThreads) {
      mlp.inputs(0)[i / n_empty * row + n_encoded + i % n_empty] = static_cast<Half>(0.0f);
    }
    const int row_inputs = row_of(in.layers.n_in[2]), from = in.layers.n_geometry;
    const int n_free = to_16(in.layers.n_in[2]) - from, n_directions = in.layers.n_directions;
    for (int i = thread; i < kTile * n_free; i += kTileThreads) {
      const int slot = i / n_free, k = i % n_free;
      const bool is_there = rays[slot].ray >= 0 && k < n_directions;
      mlp.inputs(2)[slot * row_inputs + from + k] =
          to_half(is_there ? in.directions[rays[slot].ray * n_directions + k] : 0.0f);
    }
  }

  template <typename Block>
  DIETNERF_TILE void composite(const TileMLP<Block>& mlp, TracedRay& own, int slot) const {
    if (own.ray < 0) return;
    const float sigma = TruncatedExp::of(mlp.logits()[slot], own.scale).value;
    const Decay<float> light = decay(sigma * own.length);
    const float weight = own.transmittance * light.absorbed;
    for (int c = 0; c < 3; ++c) own.rgb[c] += weight * sigmoid(mlp.outputs()[4 * slot + c]);
    own.opacity += weight;
    own.depth += weight * own.t;
    own.transmittance *= light.transmitted;
  }

  static constexpr int kMaxFeatures = 8;
};

}  // namespace dietnerf
