// Runs kernels on the cores of a CPU: the only shared CPU helper.
#pragma once

#include <algorithm>
#include <atomic>

#include "../common.h"

// Defines `run(kernel, begin, end)` for a kernel type, compiled once a processor generation. The
// loop has to be in the attributed function, which cannot be a template.
#define DIETNERF_CPU_KERNEL(Kernel)                                                     \
  [[maybe_unused]] DIETNERF_CLONES static void run(const Kernel& kernel, int64_t begin, \
                                                   int64_t end) {                       \
    for (int64_t i = begin; i < end; ++i) kernel(i);                                    \
  }

namespace dietnerf {

// Calls make() once on every thread, and what it returned with each number below n. Threads take
// the next number as they become free.
template <typename Make>
void parallel_for_dynamic(int64_t n, const Make& make) {
  if (n == 0) return;
  std::atomic<int64_t> next{0};
  const int64_t n_threads = std::min<int64_t>(n, torch::stable::get_num_threads());
  torch::stable::parallel_for(0, n_threads, 1, [&](int64_t, int64_t) {
    auto worker = make();
    for (int64_t i = next++; i < n; i = next++) worker(i);
  });
}

// Calls kernel(i) for every i below n. A kernel does all of its work alone, so the result depends
// neither on the number of threads nor on the chunks.
class ParallelFor {
 public:
  explicit ParallelFor(int64_t n_samples) : n_samples_(n_samples) {}
  ParallelFor(const Tensor&, int64_t n_samples) : n_samples_(n_samples) {}

  template <typename Kernel>
  void operator()(const Kernel& kernel, int64_t n) const {
    if (n == 0) return;
    const int64_t chunk = kSamplesPerChunk / (n_samples_ / n + 1) + 1;
    // Dynamic scheduling: rays differ in length, and cores in their load.
    parallel_for_dynamic((n + chunk - 1) / chunk, [&] {
      return [&](int64_t i) { run(kernel, i * chunk, std::min(n, (i + 1) * chunk)); };
    });
  }

  // Fewer do not justify waking a second thread.
  static constexpr int64_t kSamplesPerChunk = 8192;

 private:
  int64_t n_samples_;
};

}  // namespace dietnerf
