// Sorting numbers by their bits.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

namespace dietnerf {

template <typename Key>
struct Keyed {
  Key key;
  int32_t value;
};

// Unsigned integers in the order of the numbers, none of which is NaN.
inline uint32_t sortable(float number) {
  uint32_t bits;
  number += 0.0f;  // of the two zeros the positive one
  std::memcpy(&bits, &number, sizeof(bits));
  return bits >> 31 ? ~bits : bits | uint32_t{1} << 31;
}

inline uint64_t sortable(double number) {
  uint64_t bits;
  number += 0.0;
  std::memcpy(&bits, &number, sizeof(bits));
  return bits >> 63 ? ~bits : bits | uint64_t{1} << 63;
}

// By key; equal keys stay in order.
template <typename Key>
void radix_sort(std::vector<Keyed<Key>>& items) {
  constexpr int kBits = 11;
  std::vector<Keyed<Key>> sorted(items.size());
  for (size_t shift = 0; shift < 8 * sizeof(Key); shift += kBits) {
    const auto digit = [&](const Keyed<Key>& item) {
      return item.key >> shift & ((1 << kBits) - 1);
    };
    std::array<size_t, (1 << kBits) + 1> begins{};
    for (const auto& item : items) ++begins[digit(item) + 1];
    for (size_t i = 1; i < begins.size(); ++i) begins[i] += begins[i - 1];
    for (const auto& item : items) sorted[begins[digit(item)]++] = item;
    items.swap(sorted);
  }
}

}  // namespace dietnerf
