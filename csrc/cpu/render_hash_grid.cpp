// Rendering a hash-grid field on the CPU, forward and backward: groups of rays small enough that
// everything between the table and the pixel stays in the cache.
#include "../render_hash_grid.h"

#include <atomic>
#include <cmath>
#include <vector>

#include "composite_jobs.h"
#include "hash_encode_jobs.h"
#include "tiny_mlp.h"

namespace dietnerf {

namespace {

// Samples of a ray that are asked before it is looked at whether light is left.
constexpr int64_t kStride = 8;
// Samples that are asked together.
constexpr int64_t kPoints = 128;
// Groups hold about so many samples: marched ones forward, ones that count backward.
constexpr int64_t kForwardGroup = 1024, kBackwardGroup = 192;
// The gradients of the networks are summed up in so many parts, whatever the number of threads, so
// that the result does not depend on it.
constexpr int64_t kParts = 32;

// Consecutive rays.
struct Group {
  int64_t first, last;
};

// Cuts rays into groups of about `n_samples` samples; counts(ray) are theirs.
std::vector<Group> cut(const int64_t* ray_offsets, int64_t n_rays, int64_t n_samples) {
  std::vector<Group> groups;
  int64_t first = 0;
  for (int64_t ray = 1; ray <= n_rays; ++ray) {
    const bool is_full =
        ray < n_rays && ray_offsets[ray + 1] - ray_offsets[first] > n_samples && ray > first;
    if (ray == n_rays || is_full) {
      groups.push_back({first, ray});
      first = ray;
    }
  }
  return groups;
}

// Calls make() once on every worker, and what it returned with each of the numbers below n, which
// the workers take as they get free.
template <typename Make>
void take_turns(int64_t n, const Make& make) {
  if (n == 0) return;
  std::atomic<int64_t> next{0};
  const int64_t n_workers = std::min<int64_t>(n, torch::stable::get_num_threads());
  torch::stable::parallel_for(0, n_workers, 1, [&](int64_t, int64_t) {
    auto worker = make();
    for (int64_t i = next++; i < n; i = next++) worker(i);
  });
}

// Grows and never shrinks, so that a worker allocates only a few times.
struct Buffer {
  std::vector<float> values;
  float* sized(int64_t n) {
    if (static_cast<int64_t>(values.size()) < n) values.resize(n);
    return values.data();
  }
};

// The field as plain pointers.
struct Scene {
  const RenderHashGridInputs& in;
  const TinyMLPs& mlps;
  UnitCube<float> cube;
  float density_scale;
  const float *level_weights, *directions, *rays_o, *rays_d, *ts, *deltas;
  const int64_t* ray_offsets;

  Scene(const RenderHashGridInputs& inputs, const TinyMLPs& networks)
      : in(inputs),
        mlps(networks),
        cube(unit_cube(inputs.bounds.const_data_ptr<float>(), inputs.is_unbounded)),
        density_scale(std::min({cube.inv_half[0], cube.inv_half[1], cube.inv_half[2]})),
        level_weights(inputs.level_weights.const_data_ptr<float>()),
        directions(inputs.directions.const_data_ptr<float>()),
        rays_o(inputs.rays_o.const_data_ptr<float>()),
        rays_d(inputs.rays_d.const_data_ptr<float>()),
        ts(inputs.ts.const_data_ptr<float>()),
        deltas(inputs.deltas.const_data_ptr<float>()),
        ray_offsets(inputs.ray_offsets.const_data_ptr<int64_t>()) {}

  // False where there is nothing.
  bool unit_position(int64_t ray, int64_t sample, float* unit) const {
    float position[3];
    for (int axis = 0; axis < 3; ++axis) {
      position[axis] = rays_o[3 * ray + axis] + ts[sample] * rays_d[3 * ray + axis];
    }
    return cube.map(position, unit);
  }

  float length_of(int64_t ray) const {
    const float* d = rays_d + 3 * ray;
    return std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
  }

  // The table, to be asked at points of the unit cube (n, 3).
  template <typename Entry>
  HashTable<Entry> table(const float* units, int64_t n) const {
    return {static_cast<const Entry*>(in.table.data_ptr()),
            units,
            in.levels.const_data_ptr<int64_t>(),
            level_weights,
            in.table.size(0),
            in.n_features,
            n,
            in.n_levels};
  }

  // Encodes points of the unit cube, (n, 3) to (n, n_encoded).
  void encode(const float* units, const Rows& out) const {
    with_half_type("render_hash_grid", in.table, [&](auto zero) {
      using Entry = decltype(zero);
      run(HashEncode<Entry>{table<Entry>(units, out.n), {out.n, in.n_levels}, out.data}, 0, 1);
    });
  }

  // What the rays' directions add to the first colour layer, (n_rays, width).
  void from_directions(const Group& group, const Rows& out) const {
    const int64_t n = in.shape.n_directions;
    mlps.multiply({directions + group.first * n, n, 1, mlps.from_directions.forward.data(),
                   in.shape.width, out.data, out.row, out.n, in.shape.width, n, false});
  }
};

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
                               offsets_.data(),
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

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> render_hash_grid_cpu(
    Tensor table, Tensor levels, Tensor level_weights, Tensor network, Tensor directions,
    Tensor rays_o, Tensor rays_d, Tensor ts, Tensor deltas, Tensor ray_offsets, Tensor bounds,
    int64_t width, int64_t n_geometry, int64_t colour_layers, bool is_unbounded, double early_stop,
    bool keeps_encoded) {
  const RenderHashGridInputs in("render_hash_grid", table, levels, level_weights, network,
                                directions, rays_o, rays_d, ts, deltas, ray_offsets, bounds, width,
                                n_geometry, colour_layers, is_unbounded, early_stop);
  const Tensor weights = empty_sized(in.ts, {in.n_samples});
  const Tensor rgb = empty_sized(in.ts, {in.n_rays, 3});
  const Tensor opacity = empty_sized(in.ts, {in.n_rays});
  const Tensor depth = empty_sized(in.ts, {in.n_rays});
  const Tensor trans = empty_sized(in.ts, {in.n_rays});
  const Tensor encoded = empty_sized(in.ts, {keeps_encoded ? in.n_samples : 0, in.shape.n_encoded});
  const TinyMLPs mlps(in.network.const_data_ptr<float>(), in.shape);
  const Scene scene(in, mlps);
  const std::vector<Group> groups = cut(scene.ray_offsets, in.n_rays, kForwardGroup);
  const Outputs out{writable<float>(weights), writable<float>(rgb),
                    writable<float>(opacity), writable<float>(depth),
                    writable<float>(trans),   keeps_encoded ? writable<float>(encoded) : nullptr};
  take_turns(groups.size(), [&] { return Forward(scene, groups, out); });
  return {weights, rgb, opacity, depth, trans, encoded};
}

// What the backward knows of each sample that counts, and the gradients that go to the table.
struct Kept {
  std::vector<int64_t> offsets;  // (n_rays + 1,) among the samples that count
  Buffer units;                  // (n_kept, 3)
  Buffer grad_encoded;           // (n_kept, n_encoded)
  int64_t n() const { return offsets.back(); }
};

// Samples that count are those up to the last with a weight: what lies behind was culled.
std::vector<int64_t> count_kept(const Scene& scene, const float* weights) {
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
                                       offsets_.data(),
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
Tensor scatter(const Scene& scene, const Kept& kept) {
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

std::tuple<Tensor, Tensor, Tensor> render_hash_grid_backward_cpu(
    int64_t wanted, OptionalTensor grad_weights, OptionalTensor grad_rgb,
    OptionalTensor grad_opacity, OptionalTensor grad_depth, OptionalTensor grad_trans,
    OptionalTensor /*grad_encoded*/, Tensor weights, Tensor trans, Tensor encoded, Tensor table,
    Tensor levels, Tensor level_weights, Tensor network, Tensor directions, Tensor rays_o,
    Tensor rays_d, Tensor ts, Tensor deltas, Tensor ray_offsets, Tensor bounds, int64_t width,
    int64_t n_geometry, int64_t colour_layers, bool is_unbounded, double early_stop,
    bool keeps_encoded) {
  const char* op = "render_hash_grid_backward";
  const RenderHashGridInputs in(op, table, levels, level_weights, network, directions, rays_o,
                                rays_d, ts, deltas, ray_offsets, bounds, width, n_geometry,
                                colour_layers, is_unbounded, early_stop);
  const auto g_weights = checked(op, "grad_weights", grad_weights, in.ts, {in.n_samples});
  const auto g_rgb = checked(op, "grad_rgb", grad_rgb, in.ts, {in.n_rays, 3});
  const auto g_opacity = checked(op, "grad_opacity", grad_opacity, in.ts, {in.n_rays});
  const auto g_depth = checked(op, "grad_depth", grad_depth, in.ts, {in.n_rays});
  const auto g_trans = checked(op, "grad_trans", grad_trans, in.ts, {in.n_rays});
  const Grads grads{readable<float>(g_weights), readable<float>(g_rgb), readable<float>(g_opacity),
                    readable<float>(g_depth), readable<float>(g_trans)};
  const TinyMLPs mlps(in.network.const_data_ptr<float>(), in.shape);
  const Scene scene(in, mlps);
  const Tensor weights_ = checked(op, "weights", weights, in.ts, {in.n_samples});
  const Tensor trans_ = checked(op, "trans", trans, in.ts, {in.n_rays});
  const Tensor encoded_ =
      checked(op, "encoded", encoded, in.ts, {in.n_samples, in.shape.n_encoded});

  Kept kept;
  kept.offsets = count_kept(scene, weights_.const_data_ptr<float>());
  kept.units.sized(3 * kept.n());
  kept.grad_encoded.sized(kept.n() * in.shape.n_encoded);
  const std::vector<Group> groups = cut(kept.offsets.data(), in.n_rays, kBackwardGroup);
  std::vector<float> parts(kParts * mlps.n_grads);
  const Tensor grad_directions =
      empty_sized(in.ts, {wanted & 4 ? in.n_rays : 0, in.shape.n_directions});
  take_turns(kParts, [&] {
    return Backward(scene, groups, kept, grads, weights_.const_data_ptr<float>(),
                    trans_.const_data_ptr<float>(), encoded_.const_data_ptr<float>(), parts.data(),
                    wanted & 4 ? writable<float>(grad_directions) : nullptr);
  });

  const Tensor grad_table = scatter(scene, kept);
  for (int64_t part = 1; part < kParts; ++part) {
    for (int64_t i = 0; i < mlps.n_grads; ++i) parts[i] += parts[part * mlps.n_grads + i];
  }
  const Tensor grad_network = empty_sized(in.ts, {in.network.numel()});
  mlps.write_grads(parts.data(), writable<float>(grad_network));
  return {grad_table, grad_network, grad_directions};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, m) {
  m.impl("render_hash_grid", TORCH_BOX(&render_hash_grid_cpu));
  m.impl("render_hash_grid_backward", TORCH_BOX(&render_hash_grid_backward_cpu));
}

}  // namespace dietnerf
