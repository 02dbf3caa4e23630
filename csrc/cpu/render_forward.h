// A group of rays from the table to the pixels.
#pragma once

#include "render_scene.h"

namespace dietnerf::rendering {

// Marched samples of a group, about.
constexpr int64_t kForwardGroup = 1024;

struct Outputs {
  float *weights, *rgb, *opacity, *depth, *trans;
  float* encoded;  // null where no backward will follow
};

class Forward {
 public:
  Forward(const Scene& scene, const std::vector<Group>& groups, const Outputs& out)
      : scene_(scene), groups_(groups), out_(out) {}

  void operator()(int64_t index) {
    const Group group = groups_[index];
    find_densities(group);
    find_colours(group);
    composite(group);
  }

 private:
  // Asks for the density of a few samples of each ray, then goes on with the rays that are not
  // done.
  void find_densities(const Group& group) {
    const int64_t* offsets = scene_.ray_offsets;
    const int64_t n_marched = offsets[group.last] - offsets[group.first];
    base_ = offsets[group.first];
    n_geometry_ = scene_.in.shape.n_geometry;
    geometry_.sized(n_marched * n_geometry_);
    sigmas_.sized(n_marched);
    kept_.assign(group.last - group.first, 0);
    left_.assign(group.last - group.first, 1.0f);
    alive_.clear();
    for (int64_t ray = group.first; ray < group.last; ++ray) {
      if (offsets[ray + 1] > offsets[ray]) alive_.push_back(ray);
    }
    while (!alive_.empty()) {
      size_t n_alive = 0;
      for (size_t from = 0; from < alive_.size(); from += kPoints / kStride) {
        const size_t to = std::min(alive_.size(), from + kPoints / kStride);
        ask(group, from, to);
        for (size_t i = from; i < to; ++i) {
          if (advance(group, alive_[i])) alive_[n_alive++] = alive_[i];
        }
      }
      alive_.resize(n_alive);
    }
  }

  int64_t n_next(const Group& group, int64_t ray) const {
    const int64_t done = kept_[ray - group.first];
    return std::min(kStride, scene_.ray_offsets[ray + 1] - scene_.ray_offsets[ray] - done);
  }

  void ask(const Group& group, size_t from, size_t to) {
    const NetworkShape& shape = scene_.in.shape;
    float units[3 * kPoints];
    float scales[kPoints];
    int64_t slots[kPoints], n = 0;
    for (size_t i = from; i < to; ++i) {
      const int64_t ray = alive_[i];
      const int64_t next = scene_.ray_offsets[ray] + kept_[ray - group.first];
      const int64_t n_samples = n_next(group, ray);
      for (int64_t k = 0; k < n_samples; ++k, ++n) {
        scales[n] = scene_.unit_position(ray, next + k, units + 3 * n) ? scene_.density_scale : 0;
        slots[n] = next + k - base_;
      }
    }
    const Rows encoded{encoded_.sized(kPoints * shape.n_encoded), n, shape.n_encoded};
    const Rows hidden{hidden_.sized(kPoints * shape.width), n, shape.width};
    const Rows out{answer_.sized(kPoints * shape.n_geometry), n, shape.n_geometry};
    scene_.encode(units, encoded);
    scene_.mlps.apply(scene_.mlps.density_in, encoded, hidden);
    relu(hidden.data, n * hidden.row);
    scene_.mlps.apply(scene_.mlps.density_out, hidden, out);
    for (int64_t i = 0; i < n; ++i) {
      if (out_.encoded) {
        std::copy_n(encoded.data + i * encoded.row, shape.n_encoded,
                    out_.encoded + (base_ + slots[i]) * shape.n_encoded);
      }
      const float* row = out.data + i * out.row;
      sigmas_.values[slots[i]] = TruncatedExp::of(row[0], scales[i]).value;
      std::copy(row, row + out.row, geometry_.values.data() + slots[i] * n_geometry_);
    }
  }

  // Counts the samples that light reaches; false when the ray is done.
  bool advance(const Group& group, int64_t ray) {
    int64_t& kept = kept_[ray - group.first];
    float& left = left_[ray - group.first];
    const int64_t start = scene_.ray_offsets[ray], n = n_next(group, ray);
    const float length = scene_.length_of(ray);
    for (int64_t k = 0; k < n; ++k) {
      const int64_t sample = start + kept++;
      left *= decay(sigmas_.values[sample - base_] * scene_.deltas[sample] * length).kept;
      if (left < scene_.in.early_stop) return false;
    }
    return start + kept < scene_.ray_offsets[ray + 1];
  }

  // Closes the gaps that culled samples left, and asks for the colour of those that stay.
  void find_colours(const Group& group) {
    const NetworkShape& shape = scene_.in.shape;
    const int64_t n_rays = group.last - group.first;
    offsets_.assign(1, 0);
    for (int64_t kept : kept_) offsets_.push_back(offsets_.back() + kept);
    const int64_t n_kept = offsets_.back();
    const Rows directions{directions_.sized(n_rays * shape.width), n_rays, shape.width};
    scene_.from_directions(group, directions);
    float* rgbs = rgbs_.sized(3 * n_kept);
    lengths_.sized(n_kept);
    ts_.sized(n_kept);
    const Rows geometry{answer_.sized(kPoints * shape.n_geometry), 0, shape.n_geometry};
    const Rows first{hidden_.sized(kPoints * shape.width), 0, shape.width};
    int64_t n = 0, at = 0;
    for (int64_t r = 0; r < n_rays; ++r) {
      const float length = scene_.length_of(group.first + r);
      for (int64_t k = 0; k < kept_[r]; ++k, ++at) {
        const int64_t sample = scene_.ray_offsets[group.first + r] + k;
        const float* from = geometry_.values.data() + (sample - base_) * shape.n_geometry;
        std::copy(from, from + shape.n_geometry, geometry.data + n * shape.n_geometry);
        std::copy(directions.data + r * shape.width, directions.data + (r + 1) * shape.width,
                  first.data + n * shape.width);
        sigmas_.values[at] = sigmas_.values[sample - base_];
        lengths_.values[at] = scene_.deltas[sample] * length;
        ts_.values[at] = scene_.ts[sample];
        if (++n == kPoints) {
          colour({geometry.data, n, geometry.row}, {first.data, n, first.row},
                 rgbs + 3 * (at + 1 - n));
          n = 0;
        }
      }
    }
    if (n)
      colour({geometry.data, n, geometry.row}, {first.data, n, first.row}, rgbs + 3 * (at - n));
  }

  // `first` holds what the directions add to the first layer.
  void colour(const Rows& geometry, const Rows& first, float* rgbs) {
    const TinyMLPs& mlps = scene_.mlps;
    mlps.apply(mlps.from_geometry, geometry, first, true);
    Rows in = first;
    Buffer* spare = &second_;
    for (const Layer& layer : mlps.colour) {
      relu(in.data, in.n * in.row);
      const Rows out{spare->sized(kPoints * padded(layer.n_out)), in.n, padded(layer.n_out)};
      mlps.apply(layer, in, out);
      spare = spare == &second_ ? &hidden_ : &second_;
      in = out;
    }
    for (int64_t i = 0; i < in.n; ++i) {
      for (int c = 0; c < 3; ++c) rgbs[3 * i + c] = sigmoid(in.data[i * in.row + c]);
    }
  }

  void composite(const Group& group) {
    const int64_t n_rays = group.last - group.first;
    float* weights = weights_.sized(offsets_.back());
    const int64_t first = group.first;
    const Composite<float> job{sigmas_.values.data(),
                               rgbs_.values.data(),
                               lengths_.values.data(),
                               ts_.values.data(),
                               {offsets_.data(), offsets_.back()},
                               scene_.in.early_stop,
                               weights,
                               out_.rgb + 3 * first,
                               out_.opacity + first,
                               out_.depth + first,
                               out_.trans + first};
    run(job, 0, n_rays);
    for (int64_t r = 0; r < n_rays; ++r) {
      const int64_t start = scene_.ray_offsets[first + r], end = scene_.ray_offsets[first + r + 1];
      std::copy(weights + offsets_[r], weights + offsets_[r + 1], out_.weights + start);
      std::fill(out_.weights + start + kept_[r], out_.weights + end, 0.0f);
      if (out_.encoded) {
        const int64_t row = scene_.in.shape.n_encoded;
        std::fill(out_.encoded + (start + kept_[r]) * row, out_.encoded + end * row, 0.0f);
      }
    }
  }

  const Scene& scene_;
  const std::vector<Group>& groups_;
  Outputs out_;
  int64_t base_ = 0, n_geometry_ = 0;
  Buffer encoded_, hidden_, second_, answer_, geometry_, sigmas_, directions_, rgbs_, lengths_, ts_,
      weights_;
  std::vector<int64_t> alive_, kept_, offsets_;
  std::vector<float> left_;
};

}  // namespace dietnerf::rendering
