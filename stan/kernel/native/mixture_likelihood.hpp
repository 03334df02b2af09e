// The mixture's log likelihood and its analytic gradient in plain C++, without Stan.
//
// One pass over the data in blocks (mixture_blocks.hpp) yields, with y = L_k^{-1} (x_n - mu_k),
// L_k = diag(scales_k) corr_chol_k, responsibilities r_nk and observation weights w_n,
//
//   value = sum_n w_n log p(x_n)             N_k = sum_n w_n r_nk
//   g_k   = sum_n w_n r_nk y                 S_k = sum_n w_n r_nk y y'
//
// and from these, with C = corr_chol_k and H_k = lower triangle of C^{-T} (S_k - N_k I),
//
//   d/d weights_k = N_k / weights_k          d/d means_k = L_k^{-T} g_k
//   d/d C         = H_k                      d/d scales_k = diag(H_k C') / scales_k
//
// Noise is one component more, whose log density is a constant: it has a count and no moments.
//
// The data are complete here; row_groups.hpp is for those that are not.
#ifndef STANGMM_MIXTURE_LIKELIHOOD_HPP
#define STANGMM_MIXTURE_LIKELIHOOD_HPP

#include "mixture_values.hpp"

#ifdef STAN_THREADS
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

namespace stangmm {

// What a pass over the data needs to know, in raw memory.
//
// The sums it returns are: the value; then for each component N, g (D numbers) and the second
// moments: S's diagonal (D numbers), or its lower triangle by rows if the task is correlated; last
// the noise's N, if there is noise.
struct chunk_task {
  static constexpr int block = 128;  // rows whose features and intermediate results fit the cache
  static constexpr int together = 32;  // rows: whole vectors under every instruction set

  const double* x;               // column after column, ...
  std::ptrdiff_t x_stride;       // ... so far from one to the next
  const int* features;           // D: which columns; null: all in their order
  const double* sample_weight;   // N, or null: every row counts once
  int D;
  int K;
  int noise;                     // 1: there is noise
  bool correlated;
  bool gradient;                 // false: only the value
  int n_second;                  // second moments of a component
  const double* log_const;       // K: log weight - log |L| - D/2 log(2 pi); then the noise's
  const double* means;           // K x D
  const double* inv_scales;      // K x D: 1 / L[i, i]
  const double* unit_chol;       // D x D by rows: L[i, j] / L[i, i]
  std::ptrdiff_t unit_chol_stride;  // from one component to the next, 0 when shared
};

// Sums are taken in so many lanes, whatever the width of the vectors.
constexpr int lanes = 8;

// The form of a function template for min(4, left) features at once.
template <typename F>
F by_rows(int left, F one, F two, F three, F four) {
  return left == 1 ? one : left == 2 ? two : left == 3 ? three : four;
}

}  // namespace stangmm

// Instruction sets are compiled side by side and chosen when the program runs. Elsewhere than on
// x86 the plain form already has the vector instructions of the target.
#if defined(__x86_64__) && defined(__GNUC__)
#define STANGMM_X86
#include <immintrin.h>
#endif

#ifdef STANGMM_X86
#define STANGMM_ISA avx512
#define STANGMM_TARGET __attribute__((target("avx512f,avx512dq,avx2,fma")))
#define STANGMM_WIDTH 8
#define STANGMM_UNROLL 4
#define STANGMM_FMA _mm512_fmadd_pd
#define STANGMM_FNMA _mm512_fnmadd_pd
#include "mixture_blocks.hpp"

#define STANGMM_ISA avx2
#define STANGMM_TARGET __attribute__((target("avx2,fma")))
#define STANGMM_WIDTH 4
#define STANGMM_UNROLL 2
#define STANGMM_FMA _mm256_fmadd_pd
#define STANGMM_FNMA _mm256_fnmadd_pd
#include "mixture_blocks.hpp"
#endif

#define STANGMM_ISA plain
#define STANGMM_TARGET
#define STANGMM_WIDTH 2
#define STANGMM_UNROLL 4
#define STANGMM_FMA(a, b, c) ((a) * (b) + (c))
#define STANGMM_FNMA(a, b, c) ((c) - (a) * (b))
#include "mixture_blocks.hpp"

namespace stangmm {

typedef void (*chunk_function)(const chunk_task&, std::ptrdiff_t begin, std::ptrdiff_t end,
                               double* memory, double* sums);

struct instruction_set {
  const char* name;
  chunk_function run_chunk;
};

// The forms of the pass that this machine can run, fastest first.
inline std::vector<instruction_set> usable_instruction_sets() {
  std::vector<instruction_set> sets;
#ifdef STANGMM_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) {
    sets.push_back({"avx512", avx512::run_chunk});
  }
  if (avx2) sets.push_back({"avx2", avx2::run_chunk});
#endif
  sets.push_back({"plain", plain::run_chunk});
  return sets;
}

// The fastest form; with the environment variable STANGMM_INSTRUCTION_SET, for developers, the one
// that it names, if this machine can run it.
inline chunk_function fastest_chunk_function() {
  static const chunk_function fastest = [] {
    const std::vector<instruction_set> sets = usable_instruction_sets();
    const char* wanted = std::getenv("STANGMM_INSTRUCTION_SET");
    for (const instruction_set& set : sets) {
      if (wanted && std::string(wanted) == set.name) return set.run_chunk;
    }
    return sets.front().run_chunk;
  }();
  return fastest;
}

// The data as the model holds them: some rows of a larger matrix, and of these some columns.
struct mixture_data {
  const double* x;              // of the first row
  std::ptrdiff_t N;             // rows
  std::ptrdiff_t x_stride;      // from one column to the next
  const double* sample_weight;  // null: every row counts once
  const int* features;          // D: which columns; null: all in their order

  const double* column(int i) const { return x + (features ? features[i] : i) * x_stride; }
};

// The same sums as run_chunk, row by row and entirely on the log scale: for points where the fast
// pass meets numbers that a double cannot hold, and for few rows. For tiny weights_k, with which
// N_k / weights_k does not give it, weight_gradient[k] = sum_n w_n N(x_n | k) / p(x_n).
inline void run_carefully(const mixture_data& data, const mixture_values& p,
                          const mixture_constants& constants, std::vector<double>& sums,
                          std::vector<double>& weight_gradient) {
  const int D = p.D, K = p.K, all = K + p.noise;
  const bool correlated = p.n_correlations > 0;
  const int n_moments = 1 + D + (correlated ? D * (D + 1) / 2 : D);
  std::vector<double> y(static_cast<std::size_t>(K) * D), log_component(all), log_joint(all);
  sums.assign(1 + static_cast<std::size_t>(K) * n_moments + p.noise, 0.0);
  weight_gradient.assign(all, 0.0);
  for (std::ptrdiff_t n = 0; n < data.N; ++n) {
    const double w = data.sample_weight ? data.sample_weight[n] : 1.0;
    if (w == 0) continue;
    double top = -std::numeric_limits<double>::infinity();
    for (int k = 0; k < K; ++k) {
      double q = 0;
      for (int i = 0; i < D; ++i) {
        double z = (data.column(i)[n] - p.means[k * D + i]) * constants.inv_scales[k * D + i];
        if (correlated) {
          const double* row = constants.unit_chol.data() + (p.chol(k) - p.corr_chol.data()) + i * D;
          for (int j = 0; j < i; ++j) z -= row[j] * y[k * D + j];
        }
        y[k * D + i] = z;
        q += z * z;
      }
      // q is NaN where y overflowed to opposite infinities: as far away as can be.
      log_component[k] = std::isnan(q) ? -std::numeric_limits<double>::infinity()
                                       : constants.log_const[k] - 0.5 * q;
    }
    if (p.noise) log_component[K] = constants.log_const[K];
    for (int k = 0; k < all; ++k) {
      log_joint[k] = std::log(p.weights[k]) + log_component[k];
      top = std::max(top, log_joint[k]);
    }
    double sum = 0;
    for (int k = 0; k < all; ++k) sum += std::exp(log_joint[k] - top);
    const double log_density = top + std::log(sum);
    sums[0] += w * log_density;
    for (int k = 0; k < all; ++k) {
      if (is_tiny(p.weights[k])) {
        weight_gradient[k] += w * std::exp(log_component[k] - log_density);
      }
      const double r = w * std::exp(log_joint[k] - log_density);
      if (!(r > 0)) continue;
      double* moments = sums.data() + 1 + static_cast<std::size_t>(k) * n_moments;
      moments[0] += r;
      if (k == K) continue;
      double* second = moments + 1 + D;
      for (int i = 0; i < D; ++i) {
        const double ry = r * y[k * D + i];
        moments[1 + i] += ry;
        for (int j = correlated ? 0 : i; j <= i; ++j) *second++ += ry * y[k * D + j];
      }
    }
  }
  // A component of weight 0 may be beyond compare the best for some row: its gradient then is
  // larger than a double holds, and is kept finite so that weight 0 times it stays 0.
  for (double& g : weight_gradient) g = std::min(g, 1e300);
}

// Runs f(0), ..., f(n - 1), on Stan's threads if there are any.
template <typename F>
void for_each_chunk(int n, const F& f) {
#ifdef STAN_THREADS
  if (n > 1
      && tbb::global_control::active_value(tbb::global_control::max_allowed_parallelism) > 1) {
    // Isolated, or a thread that waits here could start another chain's work on this one's tape.
    tbb::this_task_arena::isolate([&] {
      tbb::parallel_for(0, n, 1, f, tbb::simple_partitioner());
    });
    return;
  }
#endif
  for (int i = 0; i < n; ++i) f(i);
}

// How many chunks the rows are taken in: of so many rows that starting a thread and adding up the
// lanes at the end cost little, and an even number, so that two threads share them fairly. Chunks
// depend on the problem alone, not on the threads, and so does the order of summation: the same
// result, to the bit, on any number of threads.
inline int chunk_count(std::ptrdiff_t N, int D, int K, bool correlated) {
  const double cost_of_row = K * (12.0 + 4.0 * D + (correlated ? 1.0 * D * D : 0.0));
  const double enough = std::max(2e5 / cost_of_row, D > 4 && correlated ? 1024.0 : 256.0);
  return N > enough ? 2 * static_cast<int>(std::ceil(std::min(N / enough, 64.0) / 2)) : 1;
}

// Where a chunk begins: all are as long as each other but for one vector's rows at most.
inline std::ptrdiff_t chunk_begin(std::ptrdiff_t N, int n_chunks, int chunk) {
  constexpr std::ptrdiff_t together = chunk_task::together;
  const std::ptrdiff_t all = (N + together - 1) / together;
  return std::min(N, all * chunk / n_chunks * together);
}

inline double* aligned_memory(std::size_t doubles) {
  thread_local std::vector<double> memory;
  if (memory.size() < doubles + 8) memory.resize(doubles + 8);
  const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(memory.data());
  return memory.data() + (64 - address % 64) % 64 / sizeof(double);
}

// Turns the sums of a pass into the gradient with respect to the parameters. If asked for, the
// gradient by C has an upper triangle, too: that of the likelihood as a function of any C with this
// C C'.
inline void chain_rule(const mixture_values& p, const mixture_constants& constants,
                       const std::vector<double>& sums, bool upper_triangle,
                       mixture_values& gradient) {
  const int D = p.D;
  const bool correlated = p.n_correlations > 0;
  const int n_moments = 1 + D + (correlated ? D * (D + 1) / 2 : D);
  std::vector<double> h(correlated ? static_cast<std::size_t>(D) * D : 0);
  if (p.noise) gradient.weights[p.K] = sums.back() / p.weights[p.K];
  for (int k = 0; k < p.K; ++k) {
    const double count = sums[1 + static_cast<std::size_t>(k) * n_moments];
    const double* first = sums.data() + 1 + static_cast<std::size_t>(k) * n_moments + 1;
    const double* second = first + D;
    const double* inv_scale = constants.inv_scales.data() + k * D;
    double* means = gradient.means.data() + k * D;
    gradient.weights[k] = count / p.weights[k];
    if (!correlated) {
      for (int i = 0; i < D; ++i) {
        means[i] = first[i] * inv_scale[i];
        gradient.scale(k, i) += (second[i] - count) * inv_scale[i];
      }
      continue;
    }
    // Both solves are with C', from the last row up.
    const double* chol = p.chol(k);
    for (int i = D - 1; i >= 0; --i) {
      double g = first[i];
      for (int j = i + 1; j < D; ++j) g -= chol[j * D + i] * p.scale(k, j) * means[j];
      means[i] = g * inv_scale[i];
    }
    double* chol_gradient = gradient.chol(k);
    for (int i = D - 1; i >= 0; --i) {
      const int end = upper_triangle ? D : i + 1;
      double* row = h.data() + i * D;
      for (int j = 0; j < end; ++j) {
        row[j] = second[i > j ? i * (i + 1) / 2 + j : j * (j + 1) / 2 + i];
      }
      row[i] -= count;
      for (int l = i + 1; l < D; ++l) {
        const double c = chol[l * D + i];
        const double* below = h.data() + l * D;
        for (int j = 0; j < end; ++j) row[j] -= c * below[j];
      }
      const double inv_diagonal = 1 / chol[i * D + i];
      double scale_gradient = 0;
      for (int j = 0; j < end; ++j) {
        row[j] *= inv_diagonal;
        chol_gradient[i * D + j] += row[j];
        if (j <= i) scale_gradient += row[j] * chol[i * D + j];
      }
      gradient.scale(k, i) += scale_gradient / p.scale(k, i);
    }
  }
}

inline bool all_finite(const std::vector<double>& values) {
  for (double v : values) {
    if (!std::isfinite(v)) return false;
  }
  return true;
}

// The sums of the fast pass over all rows.
inline std::vector<double> run_chunks(const mixture_data& data, const mixture_values& p,
                                      const mixture_constants& constants, bool gradient,
                                      chunk_function run_chunk) {
  const int D = p.D, K = p.K;
  std::vector<double> log_const(constants.log_const);
  for (int k = 0; k < K + p.noise; ++k) log_const[k] += std::log(p.weights[k]);
  chunk_task task;
  task.x = data.x;
  task.x_stride = data.x_stride;
  task.features = data.features;
  task.sample_weight = data.sample_weight;
  task.D = D;
  task.K = K;
  task.noise = p.noise;
  task.correlated = p.n_correlations > 0;
  task.gradient = gradient;
  task.n_second = task.correlated ? D * (D + 1) / 2 : D;
  task.log_const = log_const.data();
  task.means = p.means.data();
  task.inv_scales = constants.inv_scales.data();
  task.unit_chol = constants.unit_chol.data();
  task.unit_chol_stride = p.n_correlations > 1 ? static_cast<std::ptrdiff_t>(D) * D : 0;

  const std::size_t n_sums
      = 1 + (gradient ? static_cast<std::size_t>(K) * (1 + D + task.n_second) + p.noise : 0);
  const int n_chunks = chunk_count(data.N, D, K, task.correlated);
  const std::size_t n_memory
      = lanes * (1 + static_cast<std::size_t>(K) * (1 + D + task.n_second) + p.noise)
        + static_cast<std::size_t>(chunk_task::block) * ((K + 1) * (D + 3) + p.noise);
  std::vector<double> parts(n_sums * n_chunks);
  for_each_chunk(n_chunks, [&](int i) {
    run_chunk(task, chunk_begin(data.N, n_chunks, i), chunk_begin(data.N, n_chunks, i + 1),
              aligned_memory(n_memory), parts.data() + i * n_sums);
  });
  for (int i = 1; i < n_chunks; ++i) {
    for (std::size_t j = 0; j < n_sums; ++j) parts[j] += parts[i * n_sums + j];
  }
  parts.resize(n_sums);
  return parts;
}

// The log likelihood at p, -inf where there is none, and its gradient if one is asked for (see
// chain_rule for upper_triangle). Without run_chunk there is only the careful pass, which wastes
// nothing where rows are few.
inline double log_likelihood(const mixture_data& data, const mixture_values& p,
                             mixture_values* gradient, chunk_function run_chunk,
                             bool upper_triangle = false) {
  const mixture_constants constants(p);
  std::vector<double> sums, weight_gradient;
  if (run_chunk) sums = run_chunks(data, p, constants, gradient != nullptr, run_chunk);
  if (!run_chunk || !all_finite(sums) || is_extreme(p)) {
    run_carefully(data, p, constants, sums, weight_gradient);
    if (!std::isfinite(sums[0])) return -std::numeric_limits<double>::infinity();
  }
  if (gradient) {
    gradient->resize_like(p);
    chain_rule(p, constants, sums, upper_triangle, *gradient);
    for (std::size_t k = 0; k < weight_gradient.size(); ++k) {
      if (is_tiny(p.weights[k])) gradient->weights[k] = weight_gradient[k];
    }
  }
  return sums[0];
}

}  // namespace stangmm

#endif
