// One pass over a chunk of rows with vector instructions: the inner loops of the native kernel.
//
// mixture_likelihood.hpp includes this file once per instruction set, each time with
//   STANGMM_ISA     namespace the functions go into
//   STANGMM_TARGET  attribute that lets the compiler use the instruction set
//   STANGMM_WIDTH   doubles in a vector
//   STANGMM_UNROLL  vectors handled side by side (bounded by the number of registers)
//   STANGMM_FMA, STANGMM_FNMA   a b + c and c - a b for vectors, rounded once where it can
// so there is no include guard. Only raw memory comes in and goes out: Eigen aligns its types
// differently under different instruction sets.
//
// A block of rows is held feature by feature, so that a vector spans rows of one feature and
// nothing is summed across a vector until the chunk is done. Features are taken a tile at a time,
// so that a tile's sums stay in registers.
//
// Every instruction set sums in the same eight lanes: lane j sums the rows j, j + 8, j + 16 ... of
// the blocks in their order. Where a vector is narrower, its lanes are summed part by part
// (STANGMM_LANES), in as many registers as the wide one takes. So AVX-512 and AVX2 give the same
// result to the bit.

#include "vector_math.hpp"

namespace stangmm {
namespace STANGMM_ISA {

// For each part of the lanes, and within it for its rows: the vector at n is part of lanes first ...
#define STANGMM_LANES(first) for (int first = 0; first < lanes; first += width)

constexpr int tile = 4;
constexpr int block = chunk_task::block;  // rows, from one feature to the next

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
        sum[v] = fma(z * z, precision, sum[v]);
      }
    }
    STANGMM_EACH(v) store(q + n + v * width, sum[v]);
  }
}

// y[i] = (z[i] - sum_{j < i} L[i, j] y[j]) / L[i, i] with z = x - mean, for the R features from
// i0 on, and their squares added to q. unit_chol[i, j] = L[i, j] / L[i, i].
template <int R>
STANGMM_TARGET inline void standardize(const double* x, const double* mean,
                                       const double* inv_scale, const double* unit_chol, int D,
                                       int i0, int rows, double* y, double* q) {
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
        STANGMM_EACH(v) acc[a][v] = fnma(l, yj[v], acc[a][v]);
      }
    }
#pragma GCC unroll 4
    for (int a = 1; a < R; ++a) {
#pragma GCC unroll 4
      for (int b = 0; b < a; ++b) {
        const vec l = fill(unit_chol[(i0 + a) * D + i0 + b]);
        STANGMM_EACH(v) acc[a][v] = fnma(l, acc[b][v], acc[a][v]);
      }
    }
    STANGMM_EACH(v) {
      vec sum = i0 == 0 ? fill(0.0) : load(q + n + v * width);
#pragma GCC unroll 4
      for (int a = 0; a < R; ++a) {
        store(y + (i0 + a) * block + n + v * width, acc[a][v]);
        sum = fma(acc[a][v], acc[a][v], sum);
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
  vec total[parts], product[parts];
#pragma GCC unroll 4
  for (int p = 0; p < parts; ++p) {
    total[p] = load(value + p * width);
    product[p] = fill(1.0);
  }
  for (int n = 0; n < rows; n += unroll * width) {
    vec top[unroll], sum[unroll], l[unroll];
    STANGMM_EACH(v) top[v] = fill(-__builtin_inf());
    for (int k = 0; k < K; ++k) {
      STANGMM_EACH(v) {
        l[v] = fnma(fill(0.5), load(q + k * block + n + v * width), fill(log_const[k]));
        top[v] = larger(l[v], top[v]);
      }
    }
    STANGMM_EACH(v) sum[v] = fill(0.0);
    for (int k = 0; k < K; ++k) {
      STANGMM_EACH(v) {
        l[v] = fnma(fill(0.5), load(q + k * block + n + v * width), fill(log_const[k])) - top[v];
        if (Power == 2) l[v] *= fill(0.5);
      }
      exp_nonpositive(l, -690.0 / Power);
      STANGMM_EACH(v) {
        store(q + k * block + n + v * width, l[v]);
        sum[v] = Power == 2 ? fma(l[v], l[v], sum[v]) : sum[v] + l[v];
      }
    }
    STANGMM_EACH(v) {
      const vec wn = Weighted ? load(w + n + v * width) : fill(1.0);
      const vec f = Power == 1 ? wn / sum[v]
                               : (Weighted ? square_root(wn) : wn) * inverse_root(sum[v]);
      store(factor + n + v * width, f);
      if (Weighted) {
        total[v % parts] = fma(wn, top[v] + log_at_least_one(sum[v]), total[v % parts]);
      } else {
        total[v % parts] += top[v];
        product[v % parts] *= sum[v];
      }
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < parts; ++p) {
    if (!Weighted) total[p] += log_at_least_one(product[p]);
    store(value + p * width, total[p]);
  }
}

// Sums over the block of r, or of r from its root.
template <int Power>
STANGMM_TARGET inline void add_count(const double* e, const double* factor, int rows,
                                     double* count) {
  STANGMM_LANES(lane) {
    vec c = load(count + lane);
    for (int n = lane; n < rows; n += lanes) {
      const vec t = load(e + n) * load(factor + n);
      c = Power == 2 ? fma(t, t, c) : c + t;
    }
    store(count + lane, c);
  }
}

// Sums over the block of r (if i0 = 0), r z and r z^2 with z = x - mean, for the R features from
// i0 on.
template <int R>
STANGMM_TARGET inline void diagonal_moments(const double* e, const double* factor, const double* x,
                                            const double* mean, int i0, int rows, double* count,
                                            double* first, double* second) {
  STANGMM_LANES(lane) {
    vec c = fill(0.0), g[R], s[R];
#pragma GCC unroll 8
    for (int a = 0; a < R; ++a) g[a] = s[a] = fill(0.0);
    for (int n = lane; n < rows; n += lanes) {
      const vec r = load(e + n) * load(factor + n);
      if (i0 == 0) c += r;
#pragma GCC unroll 8
      for (int a = 0; a < R; ++a) {
        const vec z = load(x + (i0 + a) * block + n) - fill(mean[i0 + a]);
        const vec rz = r * z;
        g[a] = fma(r, z, g[a]);
        s[a] = fma(rz, z, s[a]);
      }
    }
    add_to(count + lane, c);
#pragma GCC unroll 8
    for (int a = 0; a < R; ++a) {
      add_to(first + (i0 + a) * lanes + lane, g[a]);
      add_to(second + (i0 + a) * lanes + lane, s[a]);
    }
  }
}

// Sums over the block of r, r y and the lower triangle of r y y', for D = R <= 4 features.
template <int R>
STANGMM_TARGET inline void small_moments(const double* e, const double* factor, const double* y,
                                         int rows, double* count, double* first, double* second) {
  constexpr int n_second = R * (R + 1) / 2;
  STANGMM_LANES(lane) {
    vec c = fill(0.0), g[R], s[n_second];
#pragma GCC unroll 4
    for (int a = 0; a < R; ++a) g[a] = fill(0.0);
#pragma GCC unroll 10
    for (int a = 0; a < n_second; ++a) s[a] = fill(0.0);
    for (int n = lane; n < rows; n += lanes) {
      const vec r = load(e + n) * load(factor + n);
      c += r;
      vec ya[R];
#pragma GCC unroll 4
      for (int a = 0; a < R; ++a) {
        ya[a] = load(y + a * block + n);
        const vec ry = r * ya[a];
        g[a] = fma(r, ya[a], g[a]);
#pragma GCC unroll 4
        for (int b = 0; b <= a; ++b) {
          s[a * (a + 1) / 2 + b] = fma(ry, ya[b], s[a * (a + 1) / 2 + b]);
        }
      }
    }
    add_to(count + lane, c);
#pragma GCC unroll 4
    for (int a = 0; a < R; ++a) add_to(first + a * lanes + lane, g[a]);
#pragma GCC unroll 10
    for (int a = 0; a < n_second; ++a) add_to(second + a * lanes + lane, s[a]);
  }
}

// y <- sqrt(r) y for the R features from i0 on, so that r y y' is a plain product; sums r y.
template <int R>
STANGMM_TARGET inline void scale_by_root(const double* root, int i0, int rows, double* y,
                                         double* first) {
  STANGMM_LANES(lane) {
    vec g[R];
#pragma GCC unroll 4
    for (int a = 0; a < R; ++a) g[a] = fill(0.0);
    for (int n = lane; n < rows; n += lanes) {
      const vec t = load(root + n);
#pragma GCC unroll 4
      for (int a = 0; a < R; ++a) {
        double* p = y + (i0 + a) * block + n;
        const vec ty = t * load(p);
        store(p, ty);
        g[a] = fma(t, ty, g[a]);
      }
    }
#pragma GCC unroll 4
    for (int a = 0; a < R; ++a) add_to(first + (i0 + a) * lanes + lane, g[a]);
  }
}

// Sums over the block of y[i] y[j] for i in i0 .. i0 + R - 1 and j in j0 .. j0 + 3 (or j <= i
// when the tile lies on the diagonal).
template <int R, bool Diagonal>
STANGMM_TARGET inline void product_tile(const double* y, int i0, int j0, int rows, double* second) {
  constexpr int columns = Diagonal ? R : tile;
  STANGMM_LANES(lane) {
    vec s[R][columns];
#pragma GCC unroll 4
    for (int a = 0; a < R; ++a) {
#pragma GCC unroll 4
      for (int b = 0; b < columns; ++b) s[a][b] = fill(0.0);
    }
    for (int n = lane; n < rows; n += lanes) {
      vec yj[columns];
#pragma GCC unroll 4
      for (int b = 0; b < columns; ++b) yj[b] = in_register(load(y + (j0 + b) * block + n));
#pragma GCC unroll 4
      for (int a = 0; a < R; ++a) {
        const vec yi = load(y + (i0 + a) * block + n);
#pragma GCC unroll 4
        for (int b = 0; b < (Diagonal ? a + 1 : columns); ++b) s[a][b] = fma(yi, yj[b], s[a][b]);
      }
    }
#pragma GCC unroll 4
    for (int a = 0; a < R; ++a) {
      double* row = second + ((i0 + a) * (i0 + a + 1) / 2 + j0) * lanes + lane;
#pragma GCC unroll 4
      for (int b = 0; b < (Diagonal ? a + 1 : columns); ++b) add_to(row + b * lanes, s[a][b]);
    }
  }
}

// Sums over the block of r, r y and the lower triangle of r y y', for D > 4 features. Overwrites y.
STANGMM_TARGET inline void correlated_moments(const double* e, const double* factor, int D,
                                              int rows, double* y, double* root, double* count,
                                              double* first, double* second) {
  STANGMM_LANES(lane) {
    vec c = load(count + lane);
    for (int n = lane; n < rows; n += lanes) {
      const vec t = load(e + n) * load(factor + n);
      c = fma(t, t, c);
      store(root + n, t);
    }
    store(count + lane, c);
  }
  for (int i0 = 0; i0 < D; i0 += tile) {
    const int left = D - i0;
    by_rows(left, scale_by_root<1>, scale_by_root<2>, scale_by_root<3>, scale_by_root<4>)(
        root, i0, rows, y, first);
    const auto square = by_rows(left, product_tile<1, false>, product_tile<2, false>,
                                product_tile<3, false>, product_tile<4, false>);
    for (int j0 = 0; j0 < i0; j0 += tile) square(y, i0, j0, rows, second);
    by_rows(left, product_tile<1, true>, product_tile<2, true>, product_tile<3, true>,
            product_tile<4, true>)(y, i0, i0, rows, second);
  }
}

// Rows begin .. end - 1: sums (see chunk_task) of their log densities and moments.
STANGMM_TARGET inline void run_chunk(const chunk_task& task, std::ptrdiff_t begin,
                                     std::ptrdiff_t end, double* memory, double* sums) {
  const int D = task.D, K = task.K;
  const int n_moments = 1 + D + task.n_second;
  double* value = memory;
  double* moments = value + lanes;
  double* noise_count = moments + static_cast<std::ptrdiff_t>(K) * n_moments * lanes;
  double* x = noise_count + task.noise * lanes;
  double* y = x + static_cast<std::ptrdiff_t>(D) * block;
  double* q = y + static_cast<std::ptrdiff_t>(K) * D * block;
  double* w = q + static_cast<std::ptrdiff_t>(K + task.noise) * block;
  double* factor = w + block;
  double* root = factor + block;
  for (double* p = memory; p < x; ++p) *p = 0;

  for (std::ptrdiff_t start = begin; start < end; start += block) {
    const int here = static_cast<int>(end - start < block ? end - start : block);
    // Filled up to whole vectors with copies of the last row that count zero times. Whether rows
    // are weighted does not depend on the vectors.
    const int rows = (here + unroll * width - 1) / (unroll * width) * (unroll * width);
    const bool weighted = task.sample_weight || here % chunk_task::together != 0;
    for (int d = 0; d < D; ++d) {
      const double* from = task.x + (task.features ? task.features[d] : d) * task.x_stride + start;
      for (int n = 0; n < here; ++n) x[d * block + n] = from[n];
      for (int n = here; n < rows; ++n) x[d * block + n] = from[here - 1];
      for (int n = 0; n < block; n += 8) __builtin_prefetch(from + block + n, 0, 2);
    }
    if (weighted) {
      const double* from = task.sample_weight ? task.sample_weight + start : nullptr;
      for (int n = 0; n < here; ++n) w[n] = from ? from[n] : 1.0;
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
        by_rows(D - i0, standardize<1>, standardize<2>, standardize<3>, standardize<4>)(
            x, mean, inv_scale, unit_chol, D, i0, rows, yk, q + k * block);
      }
    }
    const bool roots = task.correlated && D > tile;
    const auto to_responsibilities
        = weighted ? (roots ? responsibilities<true, 2> : responsibilities<true, 1>)
                   : (roots ? responsibilities<false, 2> : responsibilities<false, 1>);
    if (task.noise) {  // its density is the same everywhere
      for (int n = 0; n < rows; ++n) q[K * block + n] = 0;
    }
    to_responsibilities(task.log_const, K + task.noise, rows, w, q, factor, value);
    if (!task.gradient) continue;
    if (task.noise) {
      (roots ? add_count<2> : add_count<1>)(q + K * block, factor, rows, noise_count);
    }
    for (int k = 0; k < K; ++k) {
      double* count = moments + static_cast<std::ptrdiff_t>(k) * n_moments * lanes;
      double* first = count + lanes;
      double* second = first + D * lanes;
      double* yk = y + static_cast<std::ptrdiff_t>(k) * D * block;
      const double* e = q + k * block;
      if (!task.correlated) {
        int i0 = 0;
        for (; i0 + 2 * tile <= D; i0 += 2 * tile) {
          diagonal_moments<2 * tile>(e, factor, x, task.means + k * D, i0, rows, count, first,
                                     second);
        }
        for (; i0 < D; i0 += tile) {
          by_rows(D - i0, diagonal_moments<1>, diagonal_moments<2>, diagonal_moments<3>,
                  diagonal_moments<4>)(e, factor, x, task.means + k * D, i0, rows, count, first,
                                       second);
        }
      } else if (D <= tile) {
        by_rows(D, small_moments<1>, small_moments<2>, small_moments<3>, small_moments<4>)(
            e, factor, yk, rows, count, first, second);
      } else {
        correlated_moments(e, factor, D, rows, yk, root, count, first, second);
      }
    }
  }

  const std::ptrdiff_t n_sums = task.gradient ? (x - moments) / lanes + 1 : 1;
  for (std::ptrdiff_t i = 0; i < n_sums; ++i) {
    double lane[lanes];
    for (int j = 0; j < lanes; ++j) lane[j] = memory[i * lanes + j];
    for (int half = lanes / 2; half > 0; half /= 2) {
      for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
    }
    sums[i] = lane[0];
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

#undef STANGMM_INLINE
#undef STANGMM_EACH
#undef STANGMM_LANES
#undef STANGMM_ISA
#undef STANGMM_TARGET
#undef STANGMM_WIDTH
#undef STANGMM_UNROLL
#undef STANGMM_FMA
#undef STANGMM_FNMA
