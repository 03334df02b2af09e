// Vectors of doubles and the functions of them that the kernel needs, for one instruction set.
//
// Included by mixture_blocks.hpp, once per instruction set; the macros are explained there. The
// vectors are those of GCC and Clang.

#define STANGMM_INLINE STANGMM_TARGET inline __attribute__((always_inline))
#define STANGMM_EACH(v) _Pragma("GCC unroll 4") for (int v = 0; v < unroll; ++v)

namespace stangmm {
namespace STANGMM_ISA {

constexpr int width = STANGMM_WIDTH;
constexpr int unroll = STANGMM_UNROLL;
constexpr int parts = lanes / width;  // vectors that hold the sums of all lanes
static_assert(unroll % parts == 0, "rows are handled in whole sets of lanes");

typedef double vec __attribute__((vector_size(8 * STANGMM_WIDTH), may_alias));
typedef long long ivec __attribute__((vector_size(8 * STANGMM_WIDTH), may_alias));

// From and to memory aligned for a vector.
STANGMM_INLINE vec load(const double* p) { return *reinterpret_cast<const vec*>(p); }
STANGMM_INLINE void store(double* p, vec v) { *reinterpret_cast<vec*>(p) = v; }

STANGMM_INLINE void add_to(double* p, vec v) { store(p, load(p) + v); }

// Keeps a loaded vector in a register where the compiler would load it again at every use.
STANGMM_INLINE vec in_register(vec v) {
#ifdef STANGMM_X86
  __asm__("" : "+v"(v));
#endif
  return v;
}

STANGMM_INLINE vec fill(double value) {
  return value - vec{};  // not vec{} + value, which turns -0 into 0 and so is an addition
}

// a b + c and c - a b, rounded once. Said by name, since what the compiler fuses by itself depends
// on its version and on the width of the vectors. On x86 without the instruction, rounded twice.
STANGMM_INLINE vec fma(vec a, vec b, vec c) { return STANGMM_FMA(a, b, c); }
STANGMM_INLINE vec fnma(vec a, vec b, vec c) { return STANGMM_FNMA(a, b, c); }

// The larger of two; b where a is NaN.
STANGMM_INLINE vec larger(vec a, vec b) { return a > b ? a : b; }

// Adding this rounds to an integer and leaves it in the low bits of the sum.
constexpr double shifter = 6755399441055744.0;  // 1.5 * 2^52

// t <- exp(t) for t <= 0; 0 for NaN and below smallest, which is at least -708 so that results are
// normal numbers (the processor takes a hundred times longer over others).
//
// t = n log 2 + f, exp(f) by a polynomial of degree 11 (error 2e-17), 2^n by its exponent bits.
// Several vectors side by side, or each step would wait for the one before.
STANGMM_INLINE void exp_nonpositive(vec (&t)[unroll], double smallest) {
  constexpr double coefficients[] = {
      2.7620088445409746e-07, 2.7557268459997064e-06, 2.4801521295954376e-05,
      0.00019841269863053618, 0.0013888888917213717,  0.008333333333330062,
      0.04166666666662413,    0.16666666666666669,    0.5, 1.0, 1.0};
  vec shifted[unroll], f[unroll], p[unroll];
  STANGMM_EACH(v) shifted[v] = fma(t[v], fill(1.4426950408889634), fill(shifter));
  STANGMM_EACH(v) f[v] = fnma(shifted[v] - fill(shifter), fill(0.6931471805598903), t[v]);
  STANGMM_EACH(v) f[v] = fnma(shifted[v] - fill(shifter), fill(5.497923018708371e-14), f[v]);
  STANGMM_EACH(v) p[v] = fill(2.510038549551032e-08);
#pragma GCC unroll 11
  for (int i = 0; i < 11; ++i) {
    STANGMM_EACH(v) p[v] = fma(p[v], f[v], fill(coefficients[i]));
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
  p = fma(p, z, fill(0.15331611722055008));
  p = fma(p, z, fill(0.1818289243253687));
  p = fma(p, z, fill(0.22222211089379496));
  p = fma(p, z, fill(0.28571428626253836));
  p = fma(p, z, fill(0.3999999999989889));
  p = fma(p, z, fill(0.666666666666667));
  const vec log_m = fma(p * z, h, h) + h;
  return fma(n, fill(0.6931471805598903), fma(n, fill(5.497923018708371e-14), log_m));
}

// 1 / sqrt(s) for finite s >= 1: a guess from the bits, and Newton's iteration from its error of
// 3e-2 over 2e-3, 5e-6 and 3e-11 to the last bits. The hardware's root and division take longer.
STANGMM_INLINE vec inverse_root(vec s) {
  const ivec half_bits = reinterpret_cast<ivec>(s) >> 1;
  vec y = reinterpret_cast<vec>(0x5fe6eb50c7b537a9 - half_bits);
  const vec half = fill(0.5) * s;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) y = y * fnma(half * y, y, fill(1.5));
  return y;
}

// Square root by the hardware, lane by lane in the source and all at once in the machine code.
STANGMM_INLINE vec square_root(vec a) {
  vec root;
  for (int i = 0; i < width; ++i) root[i] = __builtin_sqrt(a[i]);
  return root;
}

}  // namespace STANGMM_ISA
}  // namespace stangmm
