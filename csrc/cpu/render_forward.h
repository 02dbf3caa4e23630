// A group of rays from the table to the pixels.
#pragma once

#include "render_field.h"

namespace dietnerf::rendering {

// Samples of a group, about.
constexpr int64_t kForwardGroup = 1024;

struct Outputs {
  float *weights, *rgb, *opacity, *depth, *trans;
  float* encoded;  // null if no backward follows
};

class Forward {
 public:
  Forward(const FieldView& field, const std::vector<Group>& groups, const Outputs& out)
      : field_(field), groups_(groups), out_(out) {}

  void operator()(int64_t index) {
    const Group group = groups_[index];
    evaluate_densities(group);
    evaluate_colors(group);
    composite(group);
  }

 private:
  // Evaluates the density of a few samples of each ray, then continues with the rays that are not
  // done.
  void evaluate_densities(const Group& group) {
    const int64_t* offsets = field_.ray_offsets;
    const int64_t n_samples = offsets[group.last] - offsets[group.first];
    base_ = offsets[group.first];
    n_geometry_ = field_.in.shape.n_geometry;
    geometry_.resize(n_samples * n_geometry_);
    sigmas_.resize(n_samples);
    n_composited_.assign(group.last - group.first, 0);
    transmittance_.assign(group.last - group.first, 1.0f);
    active_.clear();
    for (int64_t ray = group.first; ray < group.last; ++ray) {
      if (offsets[ray + 1] > offsets[ray]) active_.push_back(ray);
    }
    while (!active_.empty()) {
      size_t n_active = 0;
      for (size_t from = 0; from < active_.size(); from += kPoints / kStride) {
        const size_t to = std::min(active_.size(), from + kPoints / kStride);
        evaluate_density(group, from, to);
        for (size_t i = from; i < to; ++i) {
          if (advance(group, active_[i])) active_[n_active++] = active_[i];
        }
      }
      active_.resize(n_active);
    }
  }

  int64_t n_next(const Group& group, int64_t ray) const {
    const int64_t done = n_composited_[ray - group.first];
    return std::min(kStride, field_.ray_offsets[ray + 1] - field_.ray_offsets[ray] - done);
  }

  void evaluate_density(const Group& group, size_t from, size_t to) {
    const NetworkShape& shape = field_.in.shape;
    float units[3 * kPoints];
    float scales[kPoints];
    int64_t slots[kPoints], n = 0;
    for (size_t i = from; i < to; ++i) {
      const int64_t ray = active_[i];
      const int64_t next = field_.ray_offsets[ray] + n_composited_[ray - group.first];
      const int64_t n_samples = n_next(group, ray);
      for (int64_t k = 0; k < n_samples; ++k, ++n) {
        scales[n] = field_.unit_position(ray, next + k, units + 3 * n) ? field_.density_scale : 0;
        slots[n] = next + k - base_;
      }
    }
    const Rows encoded{encoded_.resize(kPoints * shape.n_encoded), n, shape.n_encoded};
    const Rows hidden{hidden_.resize(kPoints * shape.width), n, shape.width};
    const Rows out{output_.resize(kPoints * shape.n_geometry), n, shape.n_geometry};
    field_.encode(units, encoded);
    field_.mlps.apply(field_.mlps.density_in, encoded, hidden);
    relu(hidden.data, n * hidden.row);
    field_.mlps.apply(field_.mlps.density_out, hidden, out);
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

  // Counts the samples up to the first with a transmittance below early_stop; false when the ray is
  // done.
  bool advance(const Group& group, int64_t ray) {
    int64_t& n_composited = n_composited_[ray - group.first];
    float& transmittance = transmittance_[ray - group.first];
    const int64_t start = field_.ray_offsets[ray], n = n_next(group, ray);
    const float length = field_.length_of(ray);
    for (int64_t k = 0; k < n; ++k) {
      const int64_t sample = start + n_composited++;
      transmittance *=
          decay(sigmas_.values[sample - base_] * field_.deltas[sample] * length).transmitted;
      if (transmittance < field_.in.early_stop) return false;
    }
    return start + n_composited < field_.ray_offsets[ray + 1];
  }

  // Compacts the samples that are composited, and evaluates their colors.
  void evaluate_colors(const Group& group) {
    const NetworkShape& shape = field_.in.shape;
    const int64_t n_rays = group.last - group.first;
    offsets_.assign(1, 0);
    for (int64_t n : n_composited_) offsets_.push_back(offsets_.back() + n);
    const int64_t n_total = offsets_.back();
    const Rows directions{directions_.resize(n_rays * shape.width), n_rays, shape.width};
    field_.from_directions(group, directions);
    float* rgbs = rgbs_.resize(3 * n_total);
    lengths_.resize(n_total);
    ts_.resize(n_total);
    const Rows geometry{output_.resize(kPoints * shape.n_geometry), 0, shape.n_geometry};
    const Rows first{hidden_.resize(kPoints * shape.width), 0, shape.width};
    int64_t n = 0, at = 0;
    for (int64_t r = 0; r < n_rays; ++r) {
      const float length = field_.length_of(group.first + r);
      for (int64_t k = 0; k < n_composited_[r]; ++k, ++at) {
        const int64_t sample = field_.ray_offsets[group.first + r] + k;
        const float* from = geometry_.values.data() + (sample - base_) * shape.n_geometry;
        std::copy(from, from + shape.n_geometry, geometry.data + n * shape.n_geometry);
        std::copy(directions.data + r * shape.width, directions.data + (r + 1) * shape.width,
                  first.data + n * shape.width);
        sigmas_.values[at] = sigmas_.values[sample - base_];
        lengths_.values[at] = field_.deltas[sample] * length;
        ts_.values[at] = field_.ts[sample];
        if (++n == kPoints) {
          color({geometry.data, n, geometry.row}, {first.data, n, first.row},
                rgbs + 3 * (at + 1 - n));
          n = 0;
        }
      }
    }
    if (n) color({geometry.data, n, geometry.row}, {first.data, n, first.row}, rgbs + 3 * (at - n));
  }

  // `first` holds the contribution of the directions to the first layer.
  void color(const Rows& geometry, const Rows& first, float* rgbs) {
    const TinyMLPs& mlps = field_.mlps;
    mlps.apply(mlps.from_geometry, geometry, first, true);
    Rows in = first;
    Buffer* next = &second_;
    for (const Layer& layer : mlps.color) {
      relu(in.data, in.n * in.row);
      const Rows out{next->resize(kPoints * padded(layer.n_out)), in.n, padded(layer.n_out)};
      mlps.apply(layer, in, out);
      next = next == &second_ ? &hidden_ : &second_;
      in = out;
    }
    for (int64_t i = 0; i < in.n; ++i) {
      for (int c = 0; c < 3; ++c) rgbs[3 * i + c] = sigmoid(in.data[i * in.row + c]);
    }
  }

  void composite(const Group& group) {
    const int64_t n_rays = group.last - group.first;
    float* weights = weights_.resize(offsets_.back());
    const int64_t first = group.first;
    const Composite<float> kernel{sigmas_.values.data(),
                                  rgbs_.values.data(),
                                  lengths_.values.data(),
                                  ts_.values.data(),
                                  {offsets_.data(), offsets_.back()},
                                  field_.in.early_stop,
                                  weights,
                                  out_.rgb + 3 * first,
                                  out_.opacity + first,
                                  out_.depth + first,
                                  out_.trans + first};
    run(kernel, 0, n_rays);
    for (int64_t r = 0; r < n_rays; ++r) {
      const int64_t start = field_.ray_offsets[first + r], end = field_.ray_offsets[first + r + 1];
      std::copy(weights + offsets_[r], weights + offsets_[r + 1], out_.weights + start);
      std::fill(out_.weights + start + n_composited_[r], out_.weights + end, 0.0f);
      if (out_.encoded) {
        const int64_t row = field_.in.shape.n_encoded;
        std::fill(out_.encoded + (start + n_composited_[r]) * row, out_.encoded + end * row, 0.0f);
      }
    }
  }

  const FieldView& field_;
  const std::vector<Group>& groups_;
  Outputs out_;
  int64_t base_ = 0, n_geometry_ = 0;
  Buffer encoded_, hidden_, second_, output_, geometry_, sigmas_, directions_, rgbs_, lengths_, ts_,
      weights_;
  std::vector<int64_t> active_, n_composited_, offsets_;
  std::vector<float> transmittance_;
};

}  // namespace dietnerf::rendering
