// A group of rays from the gradients of the pixels to those of the networks, and all of them to
// those of the table.
#pragma once

#include "render_scene.h"

namespace dietnerf::rendering {

// Samples that count of a group, about.
constexpr int64_t kBackwardGroup = 192;
// The gradients of the networks are summed up in so many parts, whatever the number of threads, so
// that the result does not depend on it.
constexpr int64_t kParts = 32;

// What the backward knows of each sample that counts, and the gradients that go to the table.
struct Kept {
  std::vector<int64_t> offsets;  // (n_rays + 1,) among the samples that count
  Buffer units;                  // (n_kept, 3)
  Buffer grad_encoded;           // (n_kept, n_encoded)
  int64_t n() const { return offsets.back(); }
};

// Samples that count are those up to the last with a weight: what lies behind was culled.
inline std::vector<int64_t> count_kept(const Scene& scene, const float* weights) {
  std::vector<int64_t> offsets(scene.in.n_rays + 1, 0);
  for (int64_t ray = 0; ray < scene.in.n_rays; ++ray) {
    int64_t last = scene.ray_offsets[ray + 1];
    while (last > scene.ray_offsets[ray] && weights[last - 1] == 0) --last;
    offsets[ray + 1] = offsets[ray] + last - scene.ray_offsets[ray];
  }
  return offsets;
}

struct Grads {
  const float *weights, *rgb, *opacity, *depth, *trans;  // null where none arrives
};

class Backward {
 public:
  Backward(const Scene& scene, const std::vector<Group>& groups, Kept& kept, const Grads& grads,
           const float* weights, const float* trans, const float* encoded, float* grad_networks,
           float* grad_directions)
      : scene_(scene),
        groups_(groups),
        kept_(kept),
        grads_(grads),
        weights_(weights),
        trans_(trans),
        encoded_samples_(encoded),
        grad_networks_(grad_networks),
        grad_directions_(grad_directions) {}

  // One part of the groups, whose network gradients have a place of their own.
  void operator()(int64_t part) {
    const int64_t n_groups = static_cast<int64_t>(groups_.size());
    grad_network_ = grad_networks_ + part * scene_.mlps.n_grads;
    const int64_t end = (part + 1) * n_groups / kParts;
    for (int64_t i = part * n_groups / kParts; i < end; ++i) work_through(groups_[i]);
  }

 private:
  void work_through(const Group& group) {
    n_ = kept_.offsets[group.last] - kept_.offsets[group.first];
    lay_out(group.last - group.first);
    gather(group);
    forward(group);
    composite_backward(group);
    backward(group);
  }

  Rows rows(Buffer& buffer, int64_t row) { return {buffer.sized(n_ * row), n_, row}; }

  Rows cleared(Buffer& buffer, int64_t row) {
    const Rows rows_ = rows(buffer, row);
    clear(rows_.data, n_ * row);
    return rows_;
  }

  void lay_out(int64_t n_rays) {
    const NetworkShape& shape = scene_.in.shape;
    encoded_ = rows(encoded_buffer_, shape.n_encoded);
    hidden_ = rows(hidden_buffer_, shape.width);
    geometry_ = rows(geometry_buffer_, shape.n_geometry);
    colours_.clear();
    colour_buffers_.resize(shape.colour_layers + 1);
    for (int64_t i = 0; i < shape.colour_layers; ++i) {
      colours_.push_back(rows(colour_buffers_[i], shape.width));
    }
    colours_.push_back(rows(colour_buffers_.back(), kLanes));
    for (Buffer* buffer : {&sigmas_, &slopes_, &scales_, &lengths_, &ts_, &sample_weights_,
                           &grad_weights_, &grad_sigmas_}) {
      buffer->sized(n_);
    }
    for (Buffer* buffer : {&units_, &rgbs_, &grad_rgbs_}) buffer->sized(3 * n_);
    directions_ = {directions_buffer_.sized(n_rays * shape.width), n_rays, shape.width};
  }

  void gather(const Group& group) {
    int64_t at = 0;
    offsets_.assign(1, 0);
    for (int64_t ray = group.first; ray < group.last; ++ray) {
      const float length = scene_.length_of(ray);
      const int64_t n = kept_.offsets[ray + 1] - kept_.offsets[ray];
      for (int64_t sample = scene_.ray_offsets[ray]; sample < scene_.ray_offsets[ray] + n;
           ++sample, ++at) {
        const bool is_inside = scene_.unit_position(ray, sample, units_.values.data() + 3 * at);
        scales_.values[at] = is_inside ? scene_.density_scale : 0;
        std::copy_n(encoded_samples_ + sample * scene_.in.shape.n_encoded,
                    scene_.in.shape.n_encoded, encoded_.data + at * encoded_.row);
        lengths_.values[at] = scene_.deltas[sample] * length;
        ts_.values[at] = scene_.ts[sample];
        sample_weights_.values[at] = weights_[sample];
        if (grads_.weights) grad_weights_.values[at] = grads_.weights[sample];
      }
      offsets_.push_back(at);
    }
    std::copy_n(units_.values.data(), 3 * n_,
                kept_.units.values.data() + 3 * kept_.offsets[group.first]);
  }

  void forward(const Group& group) {
    const TinyMLPs& mlps = scene_.mlps;
    const int64_t width = scene_.in.shape.width;
    mlps.apply(mlps.density_in, encoded_, hidden_);
    relu(hidden_.data, n_ * hidden_.row);
    mlps.apply(mlps.density_out, hidden_, geometry_);
    scene_.from_directions(group, directions_);
    for (int64_t r = 0; r < directions_.n; ++r) {
      for (int64_t i = offsets_[r]; i < offsets_[r + 1]; ++i) {
        std::copy_n(directions_.data + r * width, width, colours_[0].data + i * width);
      }
    }
    mlps.apply(mlps.from_geometry, geometry_, colours_[0], true);
    for (size_t i = 0; i < mlps.colour.size(); ++i) {
      relu(colours_[i].data, n_ * colours_[i].row);
      mlps.apply(mlps.colour[i], colours_[i], colours_[i + 1]);
    }
    for (int64_t i = 0; i < n_; ++i) {
      const TruncatedExp density =
          TruncatedExp::of(geometry_.data[i * geometry_.row], scales_.values[i]);
      sigmas_.values[i] = density.value;
      slopes_.values[i] = density.slope;
      for (int c = 0; c < 3; ++c) {
        rgbs_.values[3 * i + c] = sigmoid(colours_.back().data[i * kLanes + c]);
      }
    }
  }

  void composite_backward(const Group& group) {
    const int64_t first = group.first;
    const auto from = [](const float* grads, int64_t at) { return grads ? grads + at : nullptr; };
    const CompositeBackward<float> job{grads_.weights ? grad_weights_.values.data() : nullptr,
                                       from(grads_.rgb, 3 * first),
                                       from(grads_.opacity, first),
                                       from(grads_.depth, first),
                                       from(grads_.trans, first),
                                       sample_weights_.values.data(),
                                       trans_ + first,
                                       sigmas_.values.data(),
                                       rgbs_.values.data(),
                                       lengths_.values.data(),
                                       ts_.values.data(),
                                       {offsets_.data(), offsets_.back()},
                                       scene_.in.early_stop,
                                       grad_sigmas_.values.data(),
                                       grad_rgbs_.values.data(),
                                       nullptr,
                                       nullptr};
    run(job, 0, group.last - first);
  }

  void backward(const Group& group) {
    const TinyMLPs& mlps = scene_.mlps;
    const NetworkShape& shape = scene_.in.shape;
    Rows grad_out = cleared(grad_buffers_[0], kLanes);
    for (int64_t i = 0; i < n_; ++i) {
      for (int c = 0; c < 3; ++c) {
        const float rgb = rgbs_.values[3 * i + c];
        grad_out.data[i * kLanes + c] = grad_rgbs_.values[3 * i + c] * rgb * (1 - rgb);
      }
    }
    for (int64_t i = shape.colour_layers; i > 0; --i) {
      const Rows grad_in = rows(grad_buffers_[1 + i % 2], shape.width);
      mlps.backward(mlps.colour[i - 1], colours_[i - 1], grad_out, grad_in, grad_network_);
      relu_backward(colours_[i - 1].data, grad_in.data, n_ * shape.width);
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
    hand_out(group, grad_encoded);
  }

  // The samples of a ray share its direction, so their gradients are summed up first.
  void directions_backward(const Group& group, const Rows& grad_first) {
    const int64_t width = scene_.in.shape.width, n = scene_.in.shape.n_directions;
    clear(directions_.data, directions_.n * width);
    for (int64_t r = 0; r < directions_.n; ++r) {
      float* sum = directions_.data + r * width;
      for (int64_t i = offsets_[r]; i < offsets_[r + 1]; ++i) {
        const float* grad = grad_first.data + i * width;
        for (int64_t k = 0; k < width; ++k) sum[k] += grad[k];
      }
    }
    const Layer& layer = scene_.mlps.from_directions;
    scene_.mlps.multiply({scene_.directions + group.first * n, 1, n, directions_.data, width,
                          grad_network_ + layer.grad_at, width, n, width, directions_.n, true});
    if (grad_directions_ == nullptr) return;
    const int64_t row = padded(n);
    float* grads = grad_directions_buffer_.sized(directions_.n * row);
    scene_.mlps.multiply({directions_.data, width, 1, layer.backward.data(), row, grads, row,
                          directions_.n, row, width, false});
    for (int64_t r = 0; r < directions_.n; ++r) {
      std::copy_n(grads + r * row, n, grad_directions_ + (group.first + r) * n);
    }
  }

  void hand_out(const Group& group, const Rows& grad_encoded) {
    const int64_t n_encoded = scene_.in.shape.n_encoded;
    float* out = kept_.grad_encoded.values.data() + kept_.offsets[group.first] * n_encoded;
    for (int64_t i = 0; i < n_; ++i) {
      std::copy_n(grad_encoded.data + i * grad_encoded.row, n_encoded, out + i * n_encoded);
    }
  }

  const Scene& scene_;
  const std::vector<Group>& groups_;
  Kept& kept_;
  Grads grads_;
  const float *weights_, *trans_, *encoded_samples_;
  float *grad_networks_, *grad_directions_, *grad_network_ = nullptr;
  int64_t n_ = 0;
  Rows encoded_, hidden_, geometry_, directions_;
  std::vector<Rows> colours_;
  Buffer encoded_buffer_, hidden_buffer_, geometry_buffer_, directions_buffer_,
      grad_directions_buffer_;
  std::vector<Buffer> colour_buffers_;
  Buffer grad_buffers_[3];
  Buffer sigmas_, slopes_, scales_, lengths_, ts_, sample_weights_, grad_weights_, grad_sigmas_,
      units_, rgbs_, grad_rgbs_;
  std::vector<int64_t> offsets_;
};

// Each level's entries are written by one thread, its samples in order.
inline Tensor scatter(const Scene& scene, const Kept& kept) {
  const Tensor grad_table = zeros_sized(scene.in.ts, {scene.in.table.size(0), scene.in.n_features});
  with_half_type("render_hash_grid_backward", scene.in.table, [&](auto zero) {
    using Entry = decltype(zero);
    const HashEncodeTableBackward<Entry> job{scene.table<Entry>(kept.units.values.data(), kept.n()),
                                             {std::max<int64_t>(kept.n(), 1), 1},
                                             kept.grad_encoded.values.data(),
                                             writable<float>(grad_table)};
    take_turns(kept.n() ? scene.in.n_levels : 0,
               [&] { return [&](int64_t level) { run(job, level, level + 1); }; });
  });
  return torch::stable::to(grad_table, scene.in.table.scalar_type());
}

}  // namespace dietnerf::rendering
