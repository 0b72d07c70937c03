// The SRU's gate for float32 on the CPU: two passes over memory, one for the
// moments of the GroupNorm, one for the gate and the cross reconstruction.
// See SRUGate in scconv_fused.py for the formula.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <cmath>
#include <vector>

namespace {

constexpr int64_t kBlock = 64;  // pixels summed in float before double
constexpr int64_t kGrain = 1024;

// Per channel: sums of x and of x squared, both less the first pixel's value,
// which keeps the difference of moments well-conditioned.
void add_moments(const float* x, const float* origin, int64_t begin,
                 int64_t end, int64_t channels, double* sums,
                 double* squares) {
  std::vector<float> sum(channels), square(channels);
  for (int64_t block = begin; block < end; block += kBlock) {
    std::fill(sum.begin(), sum.end(), 0.f);
    std::fill(square.begin(), square.end(), 0.f);
    const int64_t stop = std::min(block + kBlock, end);
    for (int64_t p = block; p < stop; ++p) {
      const float* row = x + p * channels;
      float* s = sum.data();
      float* q = square.data();
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) {
        const float centred = row[c] - origin[c];
        s[c] += centred;
        q[c] += centred * centred;
      }
    }
    for (int64_t c = 0; c < channels; ++c) {
      sums[c] += sum[c];
      squares[c] += square[c];
    }
  }
}

void gate(const float* x, const float* scale, const float* shift,
          float threshold, int64_t begin, int64_t end, int64_t half,
          float* first, float* second) {
  for (int64_t p = begin; p < end; ++p) {
    const float* x1 = x + p * 2 * half;
    const float* x2 = x1 + half;
    float* o1 = first + p * half;
    float* o2 = second + p * half;
#pragma omp simd
    for (int64_t c = 0; c < half; ++c) {
      const float z1 = x1[c] * scale[c] + shift[c];
      const float z2 = x2[c] * scale[half + c] + shift[half + c];
      const float s1 = x1[c] / (1.f + std::exp(-z1));
      const float s2 = x2[c] / (1.f + std::exp(-z2));
      const float both = (z1 > threshold ? 0.f : s1) +
          (z2 > threshold ? 0.f : s2);
      o1[c] = (z1 > threshold ? x1[c] : 0.f) + both;
      o2[c] = (z2 > threshold ? x2[c] : 0.f) + both;
    }
  }
}

std::tuple<at::Tensor, at::Tensor> sru_gate(
    const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
    int64_t groups, double eps, double threshold) {
  TORCH_CHECK(input.scalar_type() == at::kFloat && input.dim() == 4 &&
                  input.size(1) % 2 == 0 && input.size(1) % groups == 0,
              "sru_gate: a float32 tensor (N, C, H, W) is needed, C even and "
              "a multiple of groups=", groups);
  const at::Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor w = weight.contiguous(), b = bias.contiguous();
  const int64_t n = x.size(0), channels = x.size(1), half = channels / 2;
  const int64_t pixels = x.size(2) * x.size(3), width = channels / groups;
  const auto options = x.options().memory_format(
      at::MemoryFormat::ChannelsLast);
  at::Tensor first = at::empty({n, half, x.size(2), x.size(3)}, options);
  at::Tensor second = at::empty_like(first);
  std::vector<float> scale(channels), shift(channels);
  for (int64_t i = 0; i < n; ++i) {
    const float* from = x.const_data_ptr<float>() + i * pixels * channels;
    const int threads = at::get_num_threads();
    std::vector<double> moments(threads * 2 * channels, 0.);
    at::parallel_for(0, pixels, kGrain, [&](int64_t begin, int64_t end) {
      double* mine = moments.data() + at::get_thread_num() * 2 * channels;
      add_moments(from, from, begin, end, channels, mine, mine + channels);
    });
    for (int64_t g = 0; g < groups; ++g) {
      double sum = 0., square = 0.;
      for (int64_t c = g * width; c < (g + 1) * width; ++c) {
        double s = 0., q = 0.;
        for (int t = 0; t < threads; ++t) {
          s += moments[t * 2 * channels + c];
          q += moments[t * 2 * channels + channels + c];
        }
        const double origin = from[c];
        sum += s + pixels * origin;
        square += q + 2 * origin * s + pixels * origin * origin;
      }
      const double count = static_cast<double>(pixels * width);
      const double mean = sum / count;
      const double variance = std::max(square / count - mean * mean, 0.);
      const double rstd = 1. / std::sqrt(variance + eps);
      for (int64_t c = g * width; c < (g + 1) * width; ++c) {
        scale[c] = w.const_data_ptr<float>()[c] * rstd;
        shift[c] = b.const_data_ptr<float>()[c] - mean * scale[c];
      }
    }
    float* to1 = first.mutable_data_ptr<float>() + i * pixels * half;
    float* to2 = second.mutable_data_ptr<float>() + i * pixels * half;
    at::parallel_for(0, pixels, kGrain, [&](int64_t begin, int64_t end) {
      gate(from, scale.data(), shift.data(), threshold, begin, end, half, to1,
           to2);
    });
  }
  return {first, second};
}

}  // namespace

TORCH_LIBRARY(mmdet_scconv, m) {
  m.def(
      "sru_gate(Tensor x, Tensor weight, Tensor bias, int groups, float eps, "
      "float threshold) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(mmdet_scconv, CPU, m) { m.impl("sru_gate", &sru_gate); }
