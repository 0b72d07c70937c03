// Numbers of maps, which are float or BFloat16; all arithmetic is in float and
// double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace mmdet_scconv {

// The bits, as the compiler does not vectorise at::BFloat16's conversions. An
// enum is nothing that converts to a number unasked.
enum class BFloat16 : uint16_t {};

template <typename To, typename From>
inline To with_bits_of(From value) {
  To result;
  static_assert(sizeof(result) == sizeof(value));
  std::memcpy(&result, &value, sizeof(result));
  return result;
}

inline float widen(float value) { return value; }

inline float widen(BFloat16 narrow) {
  return with_bits_of<float>(static_cast<uint32_t>(narrow) << 16);
}

// Rounds to nearest, ties to even. Not for NaN, which takes store().
inline void store_number(float value, float* to) { *to = value; }

inline void store_number(float value, BFloat16* to) {
  const auto bits = with_bits_of<uint32_t>(value);
  *to = static_cast<BFloat16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline void store(float value, float* to) { *to = value; }

// The same; a NaN stays one, also where rounding would carry into the sign.
inline void store(float value, BFloat16* to) {
  constexpr BFloat16 kNaN{0x7fc0u};
  BFloat16 rounded;
  store_number(value, &rounded);
  const bool is_nan =
      (with_bits_of<uint32_t>(value) & 0x7fffffffu) > 0x7f800000u;
  *to = is_nan ? kNaN : rounded;
}

// By the bits, as -ffast-math takes all numbers for finite.
inline bool are_finite(const float* values, int64_t count) {
  constexpr uint32_t kExponent = 0x7f800000u;
  return std::all_of(values, values + count, [](float value) {
    return (with_bits_of<uint32_t>(value) & kExponent) != kExponent;
  });
}

// A bound that keeps exp() finite, which -ffast-math needs. Behind it the
// sigmoid is 0 or 1 in float.
constexpr float kLargestExponent = 80.f;

// exp() between both bounds, for vectorised loops, in which calls of the
// library's function take a quarter of the gate's time: 2^n by the bits, times
// the polynomial of degree 5 with the smallest relative error in [-1/2, 1/2].
// Relative error 5e-7 for |z| < 5, 1.2e-6 for |z| < 20.
inline float exponential(float z) {
  const float exponent = z * 1.44269504f;  // log2(e)
  const float n = std::nearbyint(exponent), f = exponent - n;
  float power = 0.0013276472454890609f;
  power = power * f + 0.009675540961325169f;
  power = power * f + 0.05550713092088699f;
  power = power * f + 0.24022120237350464f;
  power = power * f + 0.6931469440460205f;
  power = power * f + 1.0000001192092896f;
  return power *
      with_bits_of<float>((static_cast<int32_t>(n) + 127) << 23);
}

// 1 + exp(-z), the sigmoid's denominator. The SRU's logits are as large as they
// like where sum(gamma) is near 0; beyond the bounds the sigmoid is 0 or 1 in
// float beside any x.
inline float one_plus_exp(float z, float bound = kLargestExponent) {
  return 1.f + exponential(std::min(std::max(-z, -bound), bound));
}

}  // namespace mmdet_scconv
