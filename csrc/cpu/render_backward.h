// A group of rays from the gradients of the pixels to those of the networks, and all of them to
// those of the table.
#pragma once

#include "render_backward_inputs.h"

namespace dietnerf::rendering {

// Composited samples of a group, about.
constexpr int64_t kBackwardGroup = 192;
// Gradients of the networks are summed in this many parts, whatever the number of threads, so that
// the result does not depend on it.
constexpr int64_t kParts = 32;

class Backward {
 public:
  Backward(const FieldView& field, const std::vector<Group>& groups, CompositedSamples& samples,
           const Grads& grads, const SavedPointers& saved, float* grad_networks,
           float* grad_directions)
      : field_(field),
        groups_(groups),
        samples_(samples),
        grads_(grads),
        saved_(saved),
        grad_networks_(grad_networks),
        grad_directions_(grad_directions) {}

  // One part of the groups, which has network gradients of its own.
  void operator()(int64_t part) {
    const int64_t n_groups = static_cast<int64_t>(groups_.size());
    grad_network_ = grad_networks_ + part * field_.mlps.n_grads;
    const int64_t end = (part + 1) * n_groups / kParts;
    for (int64_t i = part * n_groups / kParts; i < end; ++i) process(groups_[i]);
  }

 private:
  void process(const Group& group) {
    n_ = samples_.offsets[group.last] - samples_.offsets[group.first];
    resize_buffers(group.last - group.first);
    gather(group);
    forward(group);
    composite_backward(group);
    backward(group);
  }

  Rows rows(Buffer& buffer, int64_t row) { return {buffer.resize(n_ * row), n_, row}; }

  Rows cleared(Buffer& buffer, int64_t row) {
    const Rows rows_ = rows(buffer, row);
    clear(rows_.data, n_ * row);
    return rows_;
  }

  void resize_buffers(int64_t n_rays) {
    const NetworkShape& shape = field_.in.shape;
    encoded_ = rows(encoded_buffer_, shape.n_encoded);
    hidden_ = rows(hidden_buffer_, shape.width);
    geometry_ = rows(geometry_buffer_, shape.n_geometry);
    colors_.clear();
    color_buffers_.resize(shape.color_layers + 1);
    for (int64_t i = 0; i < shape.color_layers; ++i) {
      colors_.push_back(rows(color_buffers_[i], shape.width));
    }
    colors_.push_back(rows(color_buffers_.back(), kLanes));
    for (Buffer* buffer : {&sigmas_, &slopes_, &scales_, &lengths_, &ts_, &sample_weights_,
                           &grad_weights_, &grad_sigmas_}) {
      buffer->resize(n_);
    }
    for (Buffer* buffer : {&units_, &rgbs_, &grad_rgbs_}) buffer->resize(3 * n_);
    directions_ = {directions_buffer_.resize(n_rays * shape.width), n_rays, shape.width};
  }

  void gather(const Group& group) {
    int64_t at = 0;
    offsets_.assign(1, 0);
    for (int64_t ray = group.first; ray < group.last; ++ray) {
      const float length = field_.length_of(ray);
      const int64_t n = samples_.offsets[ray + 1] - samples_.offsets[ray];
      for (int64_t sample = field_.ray_offsets[ray]; sample < field_.ray_offsets[ray] + n;
           ++sample, ++at) {
        const bool is_inside = field_.unit_position(ray, sample, units_.values.data() + 3 * at);
        scales_.values[at] = is_inside ? field_.density_scale : 0;
        std::copy_n(saved_.encoded + sample * field_.in.shape.n_encoded, field_.in.shape.n_encoded,
                    encoded_.data + at * encoded_.row);
        lengths_.values[at] = field_.deltas[sample] * length;
        ts_.values[at] = field_.ts[sample];
        sample_weights_.values[at] = saved_.weights[sample];
        if (grads_.weights) grad_weights_.values[at] = grads_.weights[sample];
      }
      offsets_.push_back(at);
    }
    std::copy_n(units_.values.data(), 3 * n_,
                samples_.units.values.data() + 3 * samples_.offsets[group.first]);
  }

  void forward(const Group& group) {
    const TinyMLPs& mlps = field_.mlps;
    const int64_t width = field_.in.shape.width;
    mlps.apply(mlps.density_in, encoded_, hidden_);
    relu(hidden_.data, n_ * hidden_.row);
    mlps.apply(mlps.density_out, hidden_, geometry_);
    field_.from_directions(group, directions_);
    for (int64_t r = 0; r < directions_.n; ++r) {
      for (int64_t i = offsets_[r]; i < offsets_[r + 1]; ++i) {
        std::copy_n(directions_.data + r * width, width, colors_[0].data + i * width);
      }
    }
    mlps.apply(mlps.from_geometry, geometry_, colors_[0], true);
    for (size_t i = 0; i < mlps.color.size(); ++i) {
      relu(colors_[i].data, n_ * colors_[i].row);
      mlps.apply(mlps.color[i], colors_[i], colors_[i + 1]);
    }
    for (int64_t i = 0; i < n_; ++i) {
      const TruncatedExp density =
          TruncatedExp::of(geometry_.data[i * geometry_.row], scales_.values[i]);
      sigmas_.values[i] = density.value;
      slopes_.values[i] = density.slope;
      for (int c = 0; c < 3; ++c) {
        rgbs_.values[3 * i + c] = sigmoid(colors_.back().data[i * kLanes + c]);
      }
    }
  }

  void composite_backward(const Group& group) {
    const int64_t first = group.first;
    const auto from = [](const float* grads, int64_t at) { return grads ? grads + at : nullptr; };
    const CompositeBackward<float> kernel{grads_.weights ? grad_weights_.values.data() : nullptr,
                                          from(grads_.rgb, 3 * first),
                                          from(grads_.opacity, first),
                                          from(grads_.depth, first),
                                          from(grads_.trans, first),
                                          sample_weights_.values.data(),
                                          saved_.trans + first,
                                          sigmas_.values.data(),
                                          rgbs_.values.data(),
                                          lengths_.values.data(),
                                          ts_.values.data(),
                                          {offsets_.data(), offsets_.back()},
                                          field_.in.early_stop,
                                          grad_sigmas_.values.data(),
                                          grad_rgbs_.values.data(),
                                          nullptr,
                                          nullptr};
    run(kernel, 0, group.last - first);
  }

  void backward(const Group& group) {
    const TinyMLPs& mlps = field_.mlps;
    const NetworkShape& shape = field_.in.shape;
    Rows grad_out = cleared(grad_buffers_[0], kLanes);
    for (int64_t i = 0; i < n_; ++i) {
      for (int c = 0; c < 3; ++c) {
        const float rgb = rgbs_.values[3 * i + c];
        grad_out.data[i * kLanes + c] = grad_rgbs_.values[3 * i + c] * rgb * (1 - rgb);
      }
    }
    for (int64_t i = shape.color_layers; i > 0; --i) {
      const Rows grad_in = rows(grad_buffers_[1 + i % 2], shape.width);
      mlps.backward(mlps.color[i - 1], colors_[i - 1], grad_out, grad_in, grad_network_);
      relu_backward(colors_[i - 1].data, grad_in.data, n_ * shape.width);
      grad_out = grad_in;
    }
    const Rows grad_geometry = rows(grad_buffers_[0], shape.n_geometry);
    mlps.backward(mlps.from_geometry, geometry_, grad_out, grad_geometry, grad_network_);
    directions_backward(group, grad_out);
    for (int64_t i = 0; i < n_; ++i) {
      grad_geometry.data[i * shape.n_geometry] += grad_sigmas_.values[i] * slopes_.values[i];
    }
    const Rows grad_hidden = rows(grad_buffers_[1], shape.width);
    mlps.backward(mlps.density_out, hidden_, grad_geometry, grad_hidden, grad_network_);
    relu_backward(hidden_.data, grad_hidden.data, n_ * shape.width);
    const Rows grad_encoded = rows(grad_buffers_[2], padded(shape.n_encoded));
    mlps.backward(mlps.density_in, encoded_, grad_hidden, grad_encoded, grad_network_);
    write_grad_encoded(group, grad_encoded);
  }

  // The samples of a ray share its direction, so their gradients are summed first.
  void directions_backward(const Group& group, const Rows& grad_first) {
    const int64_t width = field_.in.shape.width, n = field_.in.shape.n_directions;
    clear(directions_.data, directions_.n * width);
    for (int64_t r = 0; r < directions_.n; ++r) {
      float* sum = directions_.data + r * width;
      for (int64_t i = offsets_[r]; i < offsets_[r + 1]; ++i) {
        const float* grad = grad_first.data + i * width;
        for (int64_t k = 0; k < width; ++k) sum[k] += grad[k];
      }
    }
    const Layer& layer = field_.mlps.from_directions;
    field_.mlps.multiply({field_.directions + group.first * n, 1, n, directions_.data, width,
                          grad_network_ + layer.grad_at, width, n, width, directions_.n, true});
    if (grad_directions_ == nullptr) return;
    const int64_t row = padded(n);
    float* grads = grad_directions_buffer_.resize(directions_.n * row);
    field_.mlps.multiply({directions_.data, width, 1, layer.backward.data(), row, grads, row,
                          directions_.n, row, width, false});
    for (int64_t r = 0; r < directions_.n; ++r) {
      std::copy_n(grads + r * row, n, grad_directions_ + (group.first + r) * n);
    }
  }

  void write_grad_encoded(const Group& group, const Rows& grad_encoded) {
    const int64_t n_encoded = field_.in.shape.n_encoded;
    float* out = samples_.grad_encoded.values.data() + samples_.offsets[group.first] * n_encoded;
    for (int64_t i = 0; i < n_; ++i) {
      std::copy_n(grad_encoded.data + i * grad_encoded.row, n_encoded, out + i * n_encoded);
    }
  }

  const FieldView& field_;
  const std::vector<Group>& groups_;
  CompositedSamples& samples_;
  Grads grads_;
  SavedPointers saved_;
  float *grad_networks_, *grad_directions_, *grad_network_ = nullptr;
  int64_t n_ = 0;
  Rows encoded_, hidden_, geometry_, directions_;
  std::vector<Rows> colors_;
  Buffer encoded_buffer_, hidden_buffer_, geometry_buffer_, directions_buffer_,
      grad_directions_buffer_;
  std::vector<Buffer> color_buffers_;
  Buffer grad_buffers_[3];
  Buffer sigmas_, slopes_, scales_, lengths_, ts_, sample_weights_, grad_weights_, grad_sigmas_,
      units_, rgbs_, grad_rgbs_;
  std::vector<int64_t> offsets_;
};

// Adds the later parts of (kParts, n) to the first one.
inline void sum_parts(float* parts, int64_t n) {
  for (int64_t part = 1; part < kParts; ++part) {
    for (int64_t i = 0; i < n; ++i) parts[i] += parts[part * n + i];
  }
}

// Gradient of the table. Each level's entries are written by one thread, its samples in order.
inline Tensor table_grad(const FieldView& field, const CompositedSamples& samples) {
  const Tensor grad_table = zeros_sized(field.in.ts, {field.in.table.size(0), field.in.n_features});
  with_half_type("render_hash_grid_backward", field.in.table, [&](auto zero) {
    using Entry = decltype(zero);
    const HashEncodeTableBackward<Entry> kernel{
        field.table<Entry>(samples.units.values.data(), samples.n()),
        {std::max<int64_t>(samples.n(), 1), 1},
        samples.grad_encoded.values.data(),
        mutable_data<float>(grad_table)};
    parallel_for_dynamic(samples.n() ? field.in.n_levels : 0,
                         [&] { return [&](int64_t level) { run(kernel, level, level + 1); }; });
  });
  return torch::stable::to(grad_table, field.in.table.scalar_type());
}

}  // namespace dietnerf::rendering
