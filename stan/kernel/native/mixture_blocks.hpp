// One pass over a chunk of rows with vector instructions: the inner loops of the native kernel.
//
// mixture_lpdf.hpp includes this file once per instruction set, each time with
//   STANGMM_ISA     namespace the functions go into
//   STANGMM_TARGET  attribute that lets the compiler use the instruction set
//   STANGMM_WIDTH   doubles in a vector
//   STANGMM_UNROLL  vectors of rows handled at once (bounded by the number of registers)
// so there is no include guard. Only raw memory comes in and goes out: Eigen aligns its types
// differently under different instruction sets.
//
// A block of rows is held feature by feature, so that a vector spans rows of one feature and
// nothing is summed across a vector until the chunk is done.

#define STANGMM_INLINE STANGMM_TARGET inline __attribute__((always_inline))
#define STANGMM_EACH(v) _Pragma("GCC unroll 4") for (int v = 0; v < unroll; ++v)

namespace stangmm {
namespace STANGMM_ISA {

constexpr int width = STANGMM_WIDTH;
constexpr int unroll = STANGMM_UNROLL;
constexpr int tile = 4;    // features handled at once
constexpr int block = chunk_task::block;  // rows from one feature to the next

typedef double vec __attribute__((vector_size(8 * STANGMM_WIDTH), may_alias));
typedef long long ivec __attribute__((vector_size(8 * STANGMM_WIDTH), may_alias));

STANGMM_INLINE vec load(const double* p) {
  return *reinterpret_cast<const vec*>(p);
}

STANGMM_INLINE void store(double* p, vec v) {
  *reinterpret_cast<vec*>(p) = v;
}

STANGMM_INLINE vec fill(double value) {
  return value - vec{};  // not vec{} + value, which turns -0 into 0 and so is an addition
}

STANGMM_INLINE vec larger(vec a, vec b) {
  return a > b ? a : b;  // b where a is NaN
}

// Bits that add an integer of up to 51 bits to the mantissa, and so round and convert.
constexpr double shifter = 6755399441055744.0;  // 1.5 * 2^52

// exp(t) for t <= 0; 0 below smallest (at least -708, so that results are normal numbers: others
// take the processor a hundred times longer) and for NaN.
// t = n log 2 + f, exp(f) by a polynomial of degree 11 (error 2e-17), 2^n by its exponent bits.
// Several vectors side by side, or each would wait for its own previous step.
STANGMM_INLINE void exp_nonpositive(vec (&t)[unroll], double smallest) {
  constexpr double coefficients[] = {
      2.7620088445409746e-07, 2.7557268459997064e-06, 2.4801521295954376e-05,
      0.00019841269863053618, 0.0013888888917213717,  0.008333333333330062,
      0.04166666666662413,    0.16666666666666669,    0.5, 1.0, 1.0};
  vec shifted[unroll], f[unroll], p[unroll];
  STANGMM_EACH(v) shifted[v] = t[v] * fill(1.4426950408889634) + fill(shifter);
  STANGMM_EACH(v) f[v] = t[v] - (shifted[v] - fill(shifter)) * fill(0.6931471805598903);
  STANGMM_EACH(v) f[v] = f[v] - (shifted[v] - fill(shifter)) * fill(5.497923018708371e-14);
  STANGMM_EACH(v) p[v] = fill(2.510038549551032e-08);
#pragma GCC unroll 11
  for (int i = 0; i < 11; ++i) {
    STANGMM_EACH(v) p[v] = p[v] * f[v] + fill(coefficients[i]);
  }
  STANGMM_EACH(v) {
    const vec e = reinterpret_cast<vec>(reinterpret_cast<ivec>(p[v])
                                        + (reinterpret_cast<ivec>(shifted[v]) << 52));
    t[v] = t[v] > fill(smallest) ? e : fill(0.0);
  }
}

// log(s) for finite s >= 1: s = 2^n m with m in [sqrt(1/2), sqrt(2)), and
// log m = 2 atanh((m - 1) / (m + 1)) by a polynomial of degree 13 (error 1e-17).
STANGMM_INLINE vec log_at_least_one(vec s) {
  const ivec one = reinterpret_cast<ivec>(fill(1.0));
  const ivec half_root = reinterpret_cast<ivec>(fill(0.7071067811865476));
  const ivec bits = reinterpret_cast<ivec>(s) + (one - half_root);
  const ivec exponent = (bits >> 52) - 1023;
  const vec m = reinterpret_cast<vec>(reinterpret_cast<ivec>(s) - (exponent << 52));
  const vec n = reinterpret_cast<vec>(exponent + reinterpret_cast<ivec>(fill(shifter)))
                - fill(shifter);
  const vec h = (m - fill(1.0)) / (m + fill(1.0));
  const vec z = h * h;
  vec p = fill(0.14617807153417325);
  p = p * z + fill(0.15331611722055008);
  p = p * z + fill(0.1818289243253687);
  p = p * z + fill(0.22222211089379496);
  p = p * z + fill(0.28571428626253836);
  p = p * z + fill(0.3999999999989889);
  p = p * z + fill(0.666666666666667);
  return n * fill(0.6931471805598903) + (n * fill(5.497923018708371e-14) + (p * z * h + h + h));
}

// 1 / sqrt(s) for finite s >= 1: a guess from the bits, and Newton's iteration from its error of
// 3e-2 over 2e-3, 5e-6 and 3e-11 to the last bits. The hardware's root and division take longer.
STANGMM_INLINE vec inverse_root(vec s) {
  const ivec half_bits = reinterpret_cast<ivec>(s) >> 1;
  vec y = reinterpret_cast<vec>(0x5fe6eb50c7b537a9 - half_bits);
  const vec half = fill(0.5) * s;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) y = y * (fill(1.5) - half * y * y);
  return y;
}

// Square root by the hardware, lane by lane in the source and all at once in the machine code.
STANGMM_INLINE vec square_root(vec a) {
  vec root;
  for (int i = 0; i < width; ++i) root[i] = __builtin_sqrt(a[i]);
  return root;
}

// q = sum_i (z[i] / scale[i])^2 with z = x - mean, for uncorrelated features.
STANGMM_TARGET inline void distances(const double* x, const double* mean, const double* inv_scale,
                                     int D, int rows, double* q) {
  for (int n = 0; n < rows; n += unroll * width) {
    vec sum[unroll];
    STANGMM_EACH(v) sum[v] = fill(0.0);
    for (int i = 0; i < D; ++i) {
      const vec mu = fill(mean[i]);
      const vec precision = fill(inv_scale[i] * inv_scale[i]);
      STANGMM_EACH(v) {
        const vec z = load(x + i * block + n + v * width) - mu;
        sum[v] += z * z * precision;
      }
    }
    STANGMM_EACH(v) store(q + n + v * width, sum[v]);
  }
}

// y[i] = (z[i] - sum_{j < i} L[i, j] y[j]) / L[i, i] with z = x - mean, for the R features from
// i0 on, and their squares added to q. unit_chol[i, j] = L[i, j] / L[i, i].
template <int R>
STANGMM_TARGET inline void standardize(const double* x, const double* mean, const double* inv_scale,
                              const double* unit_chol, int D, int i0, int rows, double* y,
                              double* q) {
  for (int n = 0; n < rows; n += unroll * width) {
    vec acc[R][unroll];
#pragma GCC unroll 4
    for (int a = 0; a < R; ++a) {
      const vec mu = fill(mean[i0 + a]);
      const vec s = fill(inv_scale[i0 + a]);
      STANGMM_EACH(v) acc[a][v] = (load(x + (i0 + a) * block + n + v * width) - mu) * s;
    }
    for (int j = 0; j < i0; ++j) {
      vec yj[unroll];
      STANGMM_EACH(v) yj[v] = load(y + j * block + n + v * width);
#pragma GCC unroll 4
      for (int a = 0; a < R; ++a) {
        const vec l = fill(unit_chol[(i0 + a) * D + j]);
        STANGMM_EACH(v) acc[a][v] -= l * yj[v];
      }
    }
#pragma GCC unroll 4
    for (int a = 1; a < R; ++a) {
#pragma GCC unroll 4
      for (int b = 0; b < a; ++b) {
        const vec l = fill(unit_chol[(i0 + a) * D + i0 + b]);
        STANGMM_EACH(v) acc[a][v] -= l * acc[b][v];
      }
    }
    STANGMM_EACH(v) {
      vec sum = i0 == 0 ? fill(0.0) : load(q + n + v * width);
#pragma GCC unroll 4
      for (int a = 0; a < R; ++a) {
        store(y + (i0 + a) * block + n + v * width, acc[a][v]);
        sum += acc[a][v] * acc[a][v];
      }
      store(q + n + v * width, sum);
    }
  }
}

// From q (K x rows) to exp((l - max l) / power), in place, and the factor (w / sum)^(1 / power)
// with which this becomes r^(1 / power), the responsibility times w or its root. Adds the weighted
// log density to value. Without weights (Weighted false) every row counts once, and one logarithm
// of a product does for all rows of a lane: sums lie between 1 and K, and the product is finite.
template <bool Weighted, int Power>
STANGMM_TARGET inline void responsibilities(const double* log_const, int K, int rows,
                                            const double* w, double* q, double* factor,
                                            double* value) {
  vec total = load(value), product = fill(1.0);
  for (int n = 0; n < rows; n += unroll * width) {
    vec top[unroll], sum[unroll], l[unroll];
    STANGMM_EACH(v) top[v] = fill(-__builtin_inf());
    for (int k = 0; k < K; ++k) {
      STANGMM_EACH(v) {
        l[v] = fill(log_const[k]) - fill(0.5) * load(q + k * block + n + v * width);
        top[v] = larger(l[v], top[v]);
      }
    }
    STANGMM_EACH(v) sum[v] = fill(0.0);
    for (int k = 0; k < K; ++k) {
      STANGMM_EACH(v) {
        l[v] = fill(log_const[k]) - fill(0.5) * load(q + k * block + n + v * width) - top[v];
        if (Power == 2) l[v] *= fill(0.5);
      }
      exp_nonpositive(l, -690.0 / Power);
      STANGMM_EACH(v) {
        store(q + k * block + n + v * width, l[v]);
        sum[v] += Power == 2 ? l[v] * l[v] : l[v];
      }
    }
    STANGMM_EACH(v) {
      const vec wn = Weighted ? load(w + n + v * width) : fill(1.0);
      const vec f = Power == 1 ? wn / sum[v]
                               : (Weighted ? square_root(wn) : wn) * inverse_root(sum[v]);
      store(factor + n + v * width, f);
      if (Weighted) {
        total += wn * (top[v] + log_at_least_one(sum[v]));
      } else {
        total += top[v];
        product *= sum[v];
      }
    }
  }
  if (!Weighted) total += log_at_least_one(product);
  store(value, total);
}

// Sums over the block of r (if i0 = 0), r z and r z^2 with z = x - mean, for the R features from
// i0 on.
template <int R>
STANGMM_TARGET inline void diagonal_moments(const double* e, const double* factor, const double* x,
                                            const double* mean, int i0, int rows, double* count,
                                            double* first, double* second) {
  vec c = fill(0.0), g[R], s[R];
#pragma GCC unroll 4
  for (int a = 0; a < R; ++a) g[a] = s[a] = fill(0.0);
  for (int n = 0; n < rows; n += width) {
    const vec r = load(e + n) * load(factor + n);
    if (i0 == 0) c += r;
#pragma GCC unroll 4
    for (int a = 0; a < R; ++a) {
      const vec z = load(x + (i0 + a) * block + n) - fill(mean[i0 + a]);
      const vec rz = r * z;
      g[a] += rz;
      s[a] += rz * z;
    }
  }
  store(count, load(count) + c);
#pragma GCC unroll 4
  for (int a = 0; a < R; ++a) {
    store(first + (i0 + a) * width, load(first + (i0 + a) * width) + g[a]);
    store(second + (i0 + a) * width, load(second + (i0 + a) * width) + s[a]);
  }
}

// Sums over the block of r, r y and the lower triangle of r y y', for D = R <= 4 features.
template <int R>
STANGMM_TARGET inline void small_moments(const double* e, const double* factor, const double* y, int rows,
                                double* count, double* first, double* second) {
  vec c = fill(0.0), g[R], s[R * (R + 1) / 2];
#pragma GCC unroll 4
  for (int a = 0; a < R; ++a) g[a] = fill(0.0);
#pragma GCC unroll 10
  for (int a = 0; a < R * (R + 1) / 2; ++a) s[a] = fill(0.0);
  for (int n = 0; n < rows; n += width) {
    const vec r = load(e + n) * load(factor + n);
    c += r;
    vec ya[R];
#pragma GCC unroll 4
    for (int a = 0; a < R; ++a) {
      ya[a] = load(y + a * block + n);
      const vec ry = r * ya[a];
      g[a] += ry;
#pragma GCC unroll 4
      for (int b = 0; b <= a; ++b) s[a * (a + 1) / 2 + b] += ry * ya[b];
    }
  }
  store(count, load(count) + c);
#pragma GCC unroll 4
  for (int a = 0; a < R; ++a) store(first + a * width, load(first + a * width) + g[a]);
#pragma GCC unroll 10
  for (int a = 0; a < R * (R + 1) / 2; ++a) {
    store(second + a * width, load(second + a * width) + s[a]);
  }
}

// y <- sqrt(r) y for the R features from i0 on, so that r y y' is a plain product; sums r y.
template <int R>
STANGMM_TARGET inline void scale_by_root(const double* root, int i0, int rows, double* y, double* first) {
  vec g[R];
#pragma GCC unroll 4
  for (int a = 0; a < R; ++a) g[a] = fill(0.0);
  for (int n = 0; n < rows; n += width) {
    const vec t = load(root + n);
#pragma GCC unroll 4
    for (int a = 0; a < R; ++a) {
      double* p = y + (i0 + a) * block + n;
      const vec ty = t * load(p);
      store(p, ty);
      g[a] += t * ty;
    }
  }
#pragma GCC unroll 4
  for (int a = 0; a < R; ++a) {
    store(first + (i0 + a) * width, load(first + (i0 + a) * width) + g[a]);
  }
}

// Sums over the block of y[i] y[j] for i in i0 .. i0 + R - 1 and j in j0 .. j0 + 3 (or j <= i
// when the tile lies on the diagonal).
template <int R, bool Diagonal>
STANGMM_TARGET inline void product_tile(const double* y, int i0, int j0, int rows, double* second) {
  constexpr int columns = Diagonal ? R : tile;
  vec s[R][columns];
#pragma GCC unroll 4
  for (int a = 0; a < R; ++a) {
#pragma GCC unroll 4
    for (int b = 0; b < columns; ++b) s[a][b] = fill(0.0);
  }
  for (int n = 0; n < rows; n += width) {
    vec yj[columns];
#pragma GCC unroll 4
    for (int b = 0; b < columns; ++b) yj[b] = load(y + (j0 + b) * block + n);
#pragma GCC unroll 4
    for (int a = 0; a < R; ++a) {
      const vec yi = load(y + (i0 + a) * block + n);
#pragma GCC unroll 4
      for (int b = 0; b < (Diagonal ? a + 1 : columns); ++b) s[a][b] += yi * yj[b];
    }
  }
#pragma GCC unroll 4
  for (int a = 0; a < R; ++a) {
    double* row = second + ((i0 + a) * (i0 + a + 1) / 2 + j0) * width;
#pragma GCC unroll 4
    for (int b = 0; b < (Diagonal ? a + 1 : columns); ++b) {
      store(row + b * width, load(row + b * width) + s[a][b]);
    }
  }
}

// Calls f<R>(...) with R = min(4, features left).
#define STANGMM_BY_ROWS(left, f, ...)     \
  switch ((left) < tile ? (left) : tile) { \
    case 1: f(1, __VA_ARGS__); break;      \
    case 2: f(2, __VA_ARGS__); break;      \
    case 3: f(3, __VA_ARGS__); break;      \
    default: f(4, __VA_ARGS__); break;     \
  }

STANGMM_TARGET inline void correlated_moments(const double* e, const double* factor, int D, int rows,
                                     double* y, double* root, double* count, double* first,
                                     double* second) {
  vec c = load(count);
  for (int n = 0; n < rows; n += width) {
    const vec t = load(e + n) * load(factor + n);
    c += t * t;
    store(root + n, t);
  }
  store(count, c);
  for (int i0 = 0; i0 < D; i0 += tile) {
#define STANGMM_CALL(R, ...) scale_by_root<R>(__VA_ARGS__)
    STANGMM_BY_ROWS(D - i0, STANGMM_CALL, root, i0, rows, y, first)
#undef STANGMM_CALL
#define STANGMM_CALL(R, j0) product_tile<R, false>(y, i0, j0, rows, second)
    for (int j0 = 0; j0 < i0; j0 += tile) {
      STANGMM_BY_ROWS(D - i0, STANGMM_CALL, j0)
    }
#undef STANGMM_CALL
#define STANGMM_CALL(R, j0) product_tile<R, true>(y, i0, j0, rows, second)
    STANGMM_BY_ROWS(D - i0, STANGMM_CALL, i0)
#undef STANGMM_CALL
  }
}

// Rows begin .. end - 1: sums (see chunk_task) of their log densities and moments.
STANGMM_TARGET inline void run_chunk(const chunk_task& task, std::ptrdiff_t begin,
                                     std::ptrdiff_t end, double* memory, double* sums) {
  const int D = task.D, K = task.K;
  const int n_moments = 1 + D + task.n_second;
  double* value = memory;
  double* moments = value + width;
  double* x = moments + static_cast<std::ptrdiff_t>(K) * n_moments * width;
  double* y = x + static_cast<std::ptrdiff_t>(D) * block;
  double* q = y + static_cast<std::ptrdiff_t>(K) * D * block;
  double* w = q + static_cast<std::ptrdiff_t>(K) * block;
  double* factor = w + block;
  double* root = factor + block;
  for (double* p = memory; p < x; ++p) *p = 0;

  for (std::ptrdiff_t start = begin; start < end; start += block) {
    const int here = static_cast<int>(end - start < block ? end - start : block);
    // Filled up to whole vectors with copies of the last row that count zero times.
    const int rows = (here + unroll * width - 1) / (unroll * width) * (unroll * width);
    const bool weighted = task.sample_weight || here < rows;
    for (int d = 0; d < D; ++d) {
      const double* from = task.x + d * task.x_stride + start;
      for (int n = 0; n < here; ++n) x[d * block + n] = from[n];
      for (int n = here; n < rows; ++n) x[d * block + n] = from[here - 1];
      for (int n = 0; n < block; n += 8) __builtin_prefetch(from + block + n, 0, 2);
    }
    if (weighted) {
      for (int n = 0; n < here; ++n) w[n] = task.sample_weight ? task.sample_weight[start + n] : 1.0;
      for (int n = here; n < rows; ++n) w[n] = 0;
    }

    for (int k = 0; k < K; ++k) {
      const double* mean = task.means + k * D;
      const double* inv_scale = task.inv_scales + k * D;
      const double* unit_chol = task.unit_chol + k * task.unit_chol_stride;
      double* yk = y + static_cast<std::ptrdiff_t>(k) * D * block;
      if (!task.correlated) {
        distances(x, mean, inv_scale, D, rows, q + k * block);
        continue;
      }
      for (int i0 = 0; i0 < D; i0 += tile) {
#define STANGMM_CALL(R, ...) standardize<R>(__VA_ARGS__)
        STANGMM_BY_ROWS(D - i0, STANGMM_CALL, x, mean, inv_scale, unit_chol, D, i0, rows, yk,
                        q + k * block)
#undef STANGMM_CALL
      }
    }
    if (task.correlated && D > tile) {
      if (weighted) responsibilities<true, 2>(task.log_const, K, rows, w, q, factor, value);
      else responsibilities<false, 2>(task.log_const, K, rows, w, q, factor, value);
    } else {
      if (weighted) responsibilities<true, 1>(task.log_const, K, rows, w, q, factor, value);
      else responsibilities<false, 1>(task.log_const, K, rows, w, q, factor, value);
    }
    if (!task.gradient) continue;
    for (int k = 0; k < K; ++k) {
      double* count = moments + static_cast<std::ptrdiff_t>(k) * n_moments * width;
      double* first = count + width;
      double* second = first + D * width;
      double* yk = y + static_cast<std::ptrdiff_t>(k) * D * block;
      const double* e = q + k * block;
      if (!task.correlated) {
        for (int i0 = 0; i0 < D; i0 += tile) {
#define STANGMM_CALL(R, ...) diagonal_moments<R>(__VA_ARGS__)
          STANGMM_BY_ROWS(D - i0, STANGMM_CALL, e, factor, x, task.means + k * D, i0, rows, count,
                          first, second)
#undef STANGMM_CALL
        }
      } else if (D <= tile) {
#define STANGMM_CALL(R, ...) small_moments<R>(__VA_ARGS__)
        STANGMM_BY_ROWS(D, STANGMM_CALL, e, factor, yk, rows, count, first, second)
#undef STANGMM_CALL
      } else {
        correlated_moments(e, factor, D, rows, yk, root, count, first, second);
      }
    }
  }

  const std::ptrdiff_t n_sums = 1 + (task.gradient ? static_cast<std::ptrdiff_t>(K) * n_moments : 0);
  for (std::ptrdiff_t i = 0; i < n_sums; ++i) {
    double lanes[width];
    for (int lane = 0; lane < width; ++lane) lanes[lane] = memory[i * width + lane];
    for (int half = width / 2; half > 0; half /= 2) {
      for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    }
    sums[i] = lanes[0];
  }
  if (task.correlated || !task.gradient) return;
  for (int k = 0; k < K; ++k) {  // from z to y = z / scale
    double* first = sums + 1 + static_cast<std::ptrdiff_t>(k) * n_moments + 1;
    double* second = first + D;
    for (int i = 0; i < D; ++i) {
      const double inv_scale = task.inv_scales[k * D + i];
      first[i] *= inv_scale;
      second[i] *= inv_scale * inv_scale;
    }
  }
}

}  // namespace STANGMM_ISA
}  // namespace stangmm

#undef STANGMM_BY_ROWS
#undef STANGMM_INLINE
#undef STANGMM_EACH
