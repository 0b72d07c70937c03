// Numbers of maps, which are float or BFloat16; all arithmetic is in float and
// double.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace mmdet_scconv {

// The bits, as the compiler does not vectorise at::BFloat16's conversions. An
// enum is nothing that converts to a number unasked.
enum class BFloat16 : uint16_t {};

inline float widen(float value) { return value; }

inline float widen(BFloat16 narrow) {
  const uint32_t wide = static_cast<uint32_t>(narrow) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

inline void store(float value, float* to) { *to = value; }

// Rounds to nearest, ties to even. A NaN stays one, also where rounding would
// carry into the sign.
inline void store(float value, BFloat16* to) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  *to = static_cast<BFloat16>(
      is_nan ? 0x7fc0u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// By the bits, as -ffast-math takes all numbers for finite.
inline bool are_finite(const float* values, int64_t count) {
  constexpr uint32_t kExponent = 0x7f800000u;
  return std::all_of(values, values + count, [](float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return (bits & kExponent) != kExponent;
  });
}

// A bound that keeps exp() finite, which -ffast-math needs. Behind it the
// sigmoid is 0 or 1 in float.
constexpr float kLargestExponent = 80.f;

}  // namespace mmdet_scconv
