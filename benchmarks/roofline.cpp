// What this machine can do at most, with the instruction set the native kernel chooses: seconds
// of a vectorized exp, and of a fused multiply-add, each as the best of many short runs.
//
//   roofline seconds    prints "exp_ns fma_ns instruction_set"
#include "mixture_likelihood.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>

// Register-only loops: twelve independent chains keep two units of latency four to six busy.
#define STANGMM_PROBES(isa, target)                                                       \
  namespace stangmm {                                                                     \
  namespace isa {                                                                         \
  target inline double multiply_adds(long repeats) {                                      \
    vec a[12];                                                                            \
    for (int i = 0; i < 12; ++i) a[i] = fill(1e-3 * i);                                   \
    const vec b = fill(0.999), c = fill(1e-3);                                            \
    for (long r = 0; r < repeats; ++r) {                                                  \
      _Pragma("GCC unroll 12") for (int i = 0; i < 12; ++i) a[i] = a[i] * b + c;          \
    }                                                                                     \
    double sum = 0;                                                                       \
    for (int i = 0; i < 12; ++i) sum += a[i][0];                                          \
    return sum;                                                                           \
  }                                                                                       \
  target inline void exps(const double* in, double* out, int n) {                         \
    for (int i = 0; i < n; i += unroll * width) {                                         \
      vec t[unroll];                                                                      \
      for (int v = 0; v < unroll; ++v) t[v] = load(in + i + v * width);                   \
      exp_nonpositive(t, -690);                                                               \
      for (int v = 0; v < unroll; ++v) store(out + i + v * width, t[v]);                  \
    }                                                                                     \
  }                                                                                       \
  }                                                                                       \
  }
#ifdef STANGMM_X86
STANGMM_PROBES(avx512, __attribute__((target("avx512f,avx512dq,avx2,fma"))))
STANGMM_PROBES(avx2, __attribute__((target("avx2,fma"))))
#endif
STANGMM_PROBES(plain, )

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

volatile double sink;

// The best time of one call of f within a budget of seconds.
template <typename F>
double best_seconds(double budget, const F& f) {
  double best = 1e300;
  for (const double end = now() + budget; now() < end;) {
    const double start = now();
    f();
    best = std::min(best, now() - start);
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  const double budget = argc > 1 ? std::atof(argv[1]) : 0.5;
  const auto chosen = stangmm::fastest_chunk_function();
  const char* name = "plain";
  int width = stangmm::plain::width;
  auto multiply_adds = stangmm::plain::multiply_adds;
  auto exps = stangmm::plain::exps;
#ifdef STANGMM_X86
  if (chosen == stangmm::avx512::run_chunk) {
    name = "avx512";
    width = stangmm::avx512::width;
    multiply_adds = stangmm::avx512::multiply_adds;
    exps = stangmm::avx512::exps;
  } else if (chosen == stangmm::avx2::run_chunk) {
    name = "avx2";
    width = stangmm::avx2::width;
    multiply_adds = stangmm::avx2::multiply_adds;
    exps = stangmm::avx2::exps;
  }
#endif
  const int n = 1024;  // in and out stay in the first-level cache
  alignas(64) static double in[n], out[n];
  for (int i = 0; i < n; ++i) in[i] = -30.0 * i / n;
  const long repeats = 2000;
  const double exp_seconds = best_seconds(budget, [&] {
    for (int i = 0; i < 20; ++i) exps(in, out, n);
    sink = out[n / 2];
  });
  const double fma_seconds = best_seconds(budget, [&] { sink = multiply_adds(repeats); });
  std::printf("%.6g %.6g %s\n", 1e9 * exp_seconds / (20.0 * n),
              1e9 * fma_seconds / (12.0 * repeats * width), name);
  return 0;
}
