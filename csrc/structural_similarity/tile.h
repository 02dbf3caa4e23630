// The mean structural similarity of two images, and its gradient: a tile of the image by a block of
// threads on a GPU, or by one thread of a CPU. See dietnerf/ops/structural_similarity.py for the
// formulas, shapes and units.
//
// A tile is blurred down its columns into memory of its own, and from there along its rows. The
// channels of a pixel count as columns, so that the window's next pixel is three of them ahead.
#pragma once

#include "../common.h"

namespace dietnerf::similarity {

constexpr int kChannels = 3;
constexpr int kWindow = 11;
constexpr int kBorder = kWindow - 1;  // pixels by which blurring makes an image smaller

template <int kRows_, int kColumns_>
struct TileSize {
  static constexpr int kRows = kRows_, kColumns = kColumns_;

  static int64_t n_tiles(int64_t height, int64_t width) {
    return (height + kRows - 1) / kRows * ((width + kColumns - 1) / kColumns);
  }
};

// Which pixels of an image are a tile's.
template <typename Size>
struct TilePlace {
  int64_t row, column;  // the first
  int n_rows, n_columns;

  DIETNERF_HD TilePlace(int64_t tile, int64_t height, int64_t width) {
    const int64_t n_across = (width + Size::kColumns - 1) / Size::kColumns;
    row = tile / n_across * Size::kRows;
    column = tile % n_across * Size::kColumns;
    n_rows = static_cast<int>(height - row < Size::kRows ? height - row : Size::kRows);
    n_columns = static_cast<int>(width - column < Size::kColumns ? width - column : Size::kColumns);
  }

  // Of the first value in an image of rows of so many pixels.
  DIETNERF_HD int64_t offset(int64_t columns) const { return kChannels * (row * columns + column); }
};

// Sums of kMaps numbers over the window along one axis, a Gaussian of standard deviation 1.5 and
// sum 1. at(k, values) gives those under its weight k.
template <int kMaps, typename T, typename At>
DIETNERF_HD void blur(T (&sums)[kMaps], const At& at) {
  constexpr double kWeights[kWindow] = {
      0.00102838008447911, 0.007598758135239185, 0.03600077212843083, 0.10936068950970002,
      0.2130055377112537,  0.26601172486179436,  0.2130055377112537,  0.10936068950970002,
      0.03600077212843083, 0.007598758135239185, 0.00102838008447911};
  for (int m = 0; m < kMaps; ++m) sums[m] = 0;
  DIETNERF_UNROLL
  for (int k = 0; k < kWindow; ++k) {
    T values[kMaps];
    at(k, values);
    for (int m = 0; m < kMaps; ++m) sums[m] += static_cast<T>(kWeights[k]) * values[m];
  }
}

// As many maps of a tile, blurred down its columns.
template <typename T, int kMaps, typename Size>
struct TileMemory {
  T maps[kMaps][Size::kRows][kChannels * (Size::kColumns + kBorder)];

  // Blurred along the row as well.
  DIETNERF_HD void blur_row(int row, int column, T (&sums)[kMaps]) const {
    blur(sums, [&](int k, T(&values)[kMaps]) {
      for (int m = 0; m < kMaps; ++m) values[m] = maps[m][row][column + kChannels * k];
    });
  }
};

// The similarity at a pixel, from the blurred maps x, y, x^2 + y^2 and x y, and its derivatives by
// all but the second.
template <typename T>
struct PixelSimilarity {
  T value, by_x, by_squares, by_product;

  DIETNERF_HD explicit PixelSimilarity(const T (&blurred)[4]) {
    const T c1 = T(0.01 * 0.01), c2 = T(0.03 * 0.03);
    const T x = blurred[0], y = blurred[1], squares = x * x + y * y;
    const T a1 = 2 * x * y + c1, a2 = 2 * (blurred[3] - x * y) + c2;
    const T b1 = squares + c1, b2 = blurred[2] - squares + c2;
    const T scale = 1 / (b1 * b2);
    value = a1 * a2 * scale;
    by_squares = -value / b2;
    by_product = 2 * a1 * scale;
    by_x = 2 * (y * (a2 - a1) * scale - x * (value / b1 + by_squares));
  }
};

template <typename T, typename Size>
struct Similarity {
  using Memory = TileMemory<T, 4, Size>;

  const T *x, *y;  // (height, width, 3)
  int64_t height, width;
  T* derivatives;  // of the mean, (3, height + 10, width + 10, 3), the border being 0 already
  T* sums;         // of the tiles, divided by the number of values

  template <typename Block>
  DIETNERF_HD void operator()(Block& block, Memory& memory, int64_t tile) const {
    const TilePlace<Size> place(tile, height - kBorder, width - kBorder);
    blur_columns(block, memory, place);
    const T scale = T(1) / (kChannels * (height - kBorder) * (width - kBorder));
    const int64_t line = kChannels * (width + kBorder), map = (height + kBorder) * line;
    T* first = derivatives + place.offset(width + kBorder) + kBorder * (line + kChannels);
    block.sum(place.n_rows, kChannels * place.n_columns, sums + tile, [&](int row, int i) {
      T blurred[4];
      memory.blur_row(row, i, blurred);
      const PixelSimilarity<T> found(blurred);
      T* to = first + row * line + i;
      to[0] = scale * found.by_x;
      to[map] = scale * found.by_squares;
      to[2 * map] = scale * found.by_product;
      return scale * found.value;
    });
  }

 private:
  template <typename Block>
  DIETNERF_HD void blur_columns(Block& block, Memory& memory, const TilePlace<Size>& place) const {
    const int64_t line = kChannels * width, first = place.offset(width);
    block.each(place.n_rows, kChannels * (place.n_columns + kBorder), [&](int row, int i) {
      const T *x_at = x + first + row * line + i, *y_at = y + first + row * line + i;
      T sums[4];
      blur(sums, [&](int k, T(&values)[4]) {
        const T a = x_at[k * line], b = y_at[k * line];
        values[0] = a;
        values[1] = b;
        values[2] = a * a + b * b;
        values[3] = a * b;
      });
      for (int m = 0; m < 4; ++m) memory.maps[m][row][i] = sums[m];
    });
  }
};

template <typename T, typename Size>
struct SimilarityBackward {
  using Memory = TileMemory<T, 3, Size>;

  const T* grad;         // one number
  const T* derivatives;  // (3, height + 10, width + 10, 3)
  const T *x, *y;        // (height, width, 3)
  int64_t height, width;
  T* grad_x;  // (height, width, 3)

  template <typename Block>
  DIETNERF_HD void operator()(Block& block, Memory& memory, int64_t tile) const {
    const TilePlace<Size> place(tile, height, width);
    blur_columns(block, memory, place);
    const T factor = *grad;
    const int64_t line = kChannels * width, first = place.offset(width);
    block.each(place.n_rows, kChannels * place.n_columns, [&](int row, int i) {
      T sums[3];
      memory.blur_row(row, i, sums);
      const int64_t at = first + row * line + i;
      grad_x[at] = factor * (sums[0] + 2 * x[at] * sums[1] + y[at] * sums[2]);
    });
  }

 private:
  template <typename Block>
  DIETNERF_HD void blur_columns(Block& block, Memory& memory, const TilePlace<Size>& place) const {
    const int64_t line = kChannels * (width + kBorder), map = (height + kBorder) * line;
    const T* first = derivatives + place.offset(width + kBorder);
    block.each(place.n_rows, kChannels * (place.n_columns + kBorder), [&](int row, int i) {
      const T* from = first + row * line + i;
      T sums[3];
      blur(sums, [&](int k, T(&values)[3]) {
        for (int m = 0; m < 3; ++m) values[m] = from[m * map + k * line];
      });
      for (int m = 0; m < 3; ++m) memory.maps[m][row][i] = sums[m];
    });
  }
};

}  // namespace dietnerf::similarity
