// The blocks of csrc/structural_similarity/tile.h on the CPU: their threads take turns.
#include <memory>

#include "csrc/structural_similarity/tile.h"

using namespace dietnerf;
using namespace dietnerf::similarity;

struct HostBlock {
  // Backwards, so that nothing may lean on the order.
  template <typename Body>
  void each(int n_rows, int n, const Body& body) const {
    for (int i = n_rows * n - 1; i >= 0; --i) body(i / n, i % n);
  }

  template <typename Body>
  void sum(int n_rows, int n, float* to, const Body& body) const {
    *to = 0;
    each(n_rows, n, [&](int row, int i) { *to += body(row, i); });
  }
};

using BlockSize = TileSize<8, 38>;

template <typename Kernel>
static void run_tiles(const Kernel& kernel, int64_t n_tiles) {
  for (int64_t tile = n_tiles - 1; tile >= 0; --tile) {
    const auto memory = std::make_unique<typename Kernel::Memory>();
    const HostBlock block;
    kernel(block, *memory, tile);
  }
}

extern "C" int64_t similarity_tiles(int64_t height, int64_t width) {
  return BlockSize::n_tiles(height - kBorder, width - kBorder);
}

extern "C" void similarity_forward(int64_t height, int64_t width, const float* x, const float* y,
                                   float* derivatives, float* sums) {
  run_tiles(Similarity<float, BlockSize>{x, y, height, width, derivatives, sums},
            similarity_tiles(height, width));
}

extern "C" void similarity_backward(int64_t height, int64_t width, const float* grad,
                                    const float* derivatives, const float* x, const float* y,
                                    float* grad_x) {
  run_tiles(SimilarityBackward<float, BlockSize>{grad, derivatives, x, y, height, width, grad_x},
            BlockSize::n_tiles(height, width));
}
