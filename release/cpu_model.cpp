// What __builtin_cpu_supports asks: zig's own runtime library answers no to everything.
//
// The layout and the bits are those of GCC and LLVM (the psABI of x86-64 does not have them): bits
// of __cpu_model.features for the instruction sets that the kernel asks for.

#include <cpuid.h>

extern "C" {

struct {
  unsigned vendor, type, subtype, features;
} __cpu_model;
unsigned __cpu_features2[4];

int __cpu_indicator_init() {
  unsigned a, b, c, d, b7, c7, d7;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  const bool fma = c & bit_FMA;
  if (!(c & bit_OSXSAVE) || !(c & bit_AVX) || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return 0;
  unsigned low, high;  // which registers the system saves
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  const bool ymm = (low & 0x6) == 0x6, zmm = (low & 0xe6) == 0xe6;
  if (ymm && (b7 & bit_AVX2)) __cpu_model.features |= 1u << 10;
  if (ymm && fma) __cpu_model.features |= 1u << 14;
  if (zmm && (b7 & bit_AVX512F)) __cpu_model.features |= 1u << 15;
  if (zmm && (b7 & bit_AVX512DQ)) __cpu_model.features |= 1u << 22;
  return 0;
}
}
