// Prints value and gradient of a generated problem to the last bit, on a number of threads.
//
//   thread_driver threads N D K correlated n_groups
//
// Without Stan: the likelihood alone. Built with and without STAN_THREADS.
#include "row_groups.hpp"

#ifdef STAN_THREADS
#include <tbb/global_control.h>
#endif

#include <cstdio>
#include <cstdlib>
#include <random>

int main(int, char** argv) {
  const int threads = std::atoi(argv[1]);
  const std::ptrdiff_t N = std::atol(argv[2]);
  stangmm::mixture_values p;
  p.D = std::atoi(argv[3]);
  p.K = std::atoi(argv[4]);
  p.n_scales = p.K;
  p.scale_size = p.D;
  p.n_correlations = std::atoi(argv[5]) ? p.K : 0;
  p.resize();
#ifdef STAN_THREADS
  tbb::global_control control(tbb::global_control::max_allowed_parallelism, threads);
#else
  (void)threads;
#endif
  std::mt19937_64 generator(1);
  std::uniform_real_distribution<double> uniform(-1, 1);
  for (double& w : p.weights) w = 1.0 / p.K;
  for (double& m : p.means) m = 3 * uniform(generator);
  for (double& s : p.scales) s = 1 + 0.5 * uniform(generator);
  for (int r = 0; r < p.n_correlations; ++r) {
    for (int i = 0; i < p.D; ++i) {
      for (int j = 0; j < i; ++j) p.chol(r)[i * p.D + j] = 0.1 * uniform(generator);
      p.chol(r)[i * p.D + i] = 0.9;
    }
  }
  std::vector<double> x(N * p.D);
  for (double& value : x) value = 4 * uniform(generator);
  const int n_groups = std::atoi(argv[6]);  // the first two hold half of the rows
  std::vector<int> rows(n_groups), component(n_groups);
  std::vector<std::vector<int>> observed(n_groups, std::vector<int>(p.D));
  std::ptrdiff_t left = N;
  for (int g = 0; g < n_groups; ++g) {
    rows[g] = g + 1 == n_groups ? left : g < 2 ? N / 4 : N / 2 / n_groups;
    left -= rows[g];
    component[g] = g % 3 ? 0 : 1 + g % p.K;
    for (int& yes : observed[g]) yes = uniform(generator) < 0.6;
  }
  stangmm::mixture_values gradient;
  const double value
      = stangmm::log_likelihood({x.data(), N, N, nullptr, nullptr}, {rows, component, observed}, p,
                                &gradient, stangmm::fastest_chunk_function());
  std::printf("%a", value);
  for (const auto* part : {&gradient.weights, &gradient.means, &gradient.scales,
                           &gradient.corr_chol}) {
    for (double g : *part) std::printf(" %a", g);
  }
  std::printf("\n");
  return 0;
}
