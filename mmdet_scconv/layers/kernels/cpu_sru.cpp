// The SRU's gate for float32 and bfloat16 on the CPU, forward and backward: two
// passes over memory each, one for the sums of the GroupNorm, one for the gate
// and the cross reconstruction. T is what maps consist of: float or BFloat16.
// All arithmetic is in float and double. See SRUGate in fused/sru_gate.py for
// the formula.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cpu_numbers.h"

namespace {

using namespace mmdet_scconv;

constexpr int64_t kBlock = 64;  // pixels summed in float before double
constexpr int64_t kGrain = 1024;

// Per channel: sums of x and of x squared, both less the first pixel's value,
// which keeps the difference of moments well-conditioned.
template <typename T>
void add_moments(const T* x, const T* origin, int64_t begin, int64_t end,
                 int64_t channels, double* sums, double* squares) {
  std::vector<float> sum(channels), square(channels);
  for (int64_t block = begin; block < end; block += kBlock) {
    std::fill(sum.begin(), sum.end(), 0.f);
    std::fill(square.begin(), square.end(), 0.f);
    const int64_t stop = std::min(block + kBlock, end);
    for (int64_t p = block; p < stop; ++p) {
      const T* row = x + p * channels;
      float* s = sum.data();
      float* q = square.data();
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) {
        const float centred = widen(row[c]) - widen(origin[c]);
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

template <typename T>
void gate(const T* x, const float* scale, const float* shift, float threshold,
          int64_t begin, int64_t end, int64_t half, T* first, T* second) {
  constexpr float kBound = 40.f;  // so that the product below is finite
  for (int64_t p = begin; p < end; ++p) {
    const T* row1 = x + p * 2 * half;
    const T* row2 = row1 + half;
    T* o1 = first + p * half;
    T* o2 = second + p * half;
#pragma omp simd
    for (int64_t c = 0; c < half; ++c) {
      const float x1 = widen(row1[c]), x2 = widen(row2[c]);
      const float z1 = x1 * scale[c] + shift[c];
      const float z2 = x2 * scale[half + c] + shift[half + c];
      const float d1 = one_plus_exp(z1, kBound), d2 = one_plus_exp(z2, kBound);
      const float q1 = z1 > threshold ? 0.f : x1;
      const float q2 = z2 > threshold ? 0.f : x2;
      const float both = (q1 * d2 + q2 * d1) / (d1 * d2);  // one division
      store_number(x1 - q1 + both, o1 + c);
      store_number(x2 - q2 + both, o2 + c);
    }
  }
}

// Gradients of the logits (through the gate) and of x (beside it).
inline void gate_gradients(float x, float scale, float shift, float threshold,
                           float grad, float both, float* logit,
                           float* direct) {
  const float z = x * scale + shift;
  const float s = 1.f / one_plus_exp(z);
  *logit = z > threshold ? 0.f : both * x * s * (1.f - s);
  *direct = z > threshold ? grad : both * s;
}

// Per channel: sums of the logits' gradient, and of it times x.
template <typename T>
void add_gradients(const T* x, const T* grad1, const T* grad2,
                   const float* scale, const float* shift, float threshold,
                   int64_t begin, int64_t end, int64_t half, double* sums,
                   double* products) {
  std::vector<float> sum(2 * half), product(2 * half);
  for (int64_t block = begin; block < end; block += kBlock) {
    std::fill(sum.begin(), sum.end(), 0.f);
    std::fill(product.begin(), product.end(), 0.f);
    const int64_t stop = std::min(block + kBlock, end);
    for (int64_t p = block; p < stop; ++p) {
      const T* g1 = grad1 + p * half;
      const T* g2 = grad2 + p * half;
      for (int64_t i = 0; i < 2; ++i) {
        const T* row = x + (2 * p + i) * half;
        const float* a = scale + i * half;
        const float* b = shift + i * half;
        float* s = sum.data() + i * half;
        float* q = product.data() + i * half;
#pragma omp simd
        for (int64_t c = 0; c < half; ++c) {
          float logit, direct;
          const float value = widen(row[c]);
          gate_gradients(value, a[c], b[c], threshold, 0.f,
                         widen(g1[c]) + widen(g2[c]), &logit, &direct);
          s[c] += logit;
          q[c] += logit * value;
        }
      }
    }
    for (int64_t c = 0; c < 2 * half; ++c) {
      sums[c] += sum[c];
      products[c] += product[c];
    }
  }
}

template <typename T>
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> forward(
    const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
    int64_t groups, double eps, double threshold) {
  const at::Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor w = weight.contiguous(), b = bias.contiguous();
  const int64_t n = x.size(0), channels = x.size(1), half = channels / 2;
  const int64_t pixels = x.size(2) * x.size(3), width = channels / groups;
  const auto options = x.options().memory_format(
      at::MemoryFormat::ChannelsLast);
  at::Tensor first = at::empty({n, half, x.size(2), x.size(3)}, options);
  at::Tensor second = at::empty_like(first);
  at::Tensor affine = at::empty({n, 2, channels}, w.options());
  at::Tensor moments_of_groups = at::empty({n, 2, groups}, w.options());
  for (int64_t i = 0; i < n; ++i) {
    float* scale = affine.mutable_data_ptr<float>() + i * 2 * channels;
    float* shift = scale + channels;
    float* means = moments_of_groups.mutable_data_ptr<float>() +
        i * 2 * groups;
    const T* from =
        static_cast<const T*>(x.const_data_ptr()) + i * pixels * channels;
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
        const double origin = widen(from[c]);
        sum += s + pixels * origin;
        square += q + 2 * origin * s + pixels * origin * origin;
      }
      const double count = static_cast<double>(pixels * width);
      const double mean = sum / count;
      const double variance = std::max(square / count - mean * mean, 0.);
      const double rstd = 1. / std::sqrt(variance + eps);
      means[g] = mean;
      means[groups + g] = rstd;
      for (int64_t c = g * width; c < (g + 1) * width; ++c) {
        scale[c] = w.const_data_ptr<float>()[c] * rstd;
        shift[c] = b.const_data_ptr<float>()[c] - mean * scale[c];
      }
    }
    T* to1 = static_cast<T*>(first.mutable_data_ptr()) + i * pixels * half;
    T* to2 = static_cast<T*>(second.mutable_data_ptr()) + i * pixels * half;
    if (!are_finite(scale, 2 * channels)) {  // and shift, behind it
      // NaN, as it would be behind the next convolution; the comparisons of
      // -ffast-math would make numbers of it
      std::memset(to1, 0xff, pixels * half * sizeof(T));
      std::memset(to2, 0xff, pixels * half * sizeof(T));
      continue;
    }
    at::parallel_for(0, pixels, kGrain, [&](int64_t begin, int64_t end) {
      gate(from, scale, shift, threshold, begin, end, half, to1, to2);
    });
  }
  return {first, second, affine, moments_of_groups};
}

template <typename T>
std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(
    const at::Tensor& grad_first, const at::Tensor& grad_second,
    const at::Tensor& input, const at::Tensor& weight,
    const at::Tensor& affine, const at::Tensor& moments_of_groups,
    double threshold) {
  const auto layout = at::MemoryFormat::ChannelsLast;
  const at::Tensor x = input.contiguous(layout);
  const at::Tensor g1 = grad_first.contiguous(layout);
  const at::Tensor g2 = grad_second.contiguous(layout);
  const at::Tensor w = weight.contiguous();
  const int64_t n = x.size(0), channels = x.size(1), half = channels / 2;
  const int64_t pixels = x.size(2) * x.size(3);
  const int64_t groups = moments_of_groups.size(2), width = channels / groups;
  at::Tensor grad_x = at::empty_like(x);
  at::Tensor grad_weight = at::zeros({channels}, w.options());
  at::Tensor grad_bias = at::zeros({channels}, w.options());
  float* to_weight = grad_weight.mutable_data_ptr<float>();
  float* to_bias = grad_bias.mutable_data_ptr<float>();
  // of each channel: what multiplies x, and what is added, in GroupNorm's
  // backward
  std::vector<float> slope(channels), offset(channels);
  for (int64_t i = 0; i < n; ++i) {
    const T* from =
        static_cast<const T*>(x.const_data_ptr()) + i * pixels * channels;
    const T* from1 =
        static_cast<const T*>(g1.const_data_ptr()) + i * pixels * half;
    const T* from2 =
        static_cast<const T*>(g2.const_data_ptr()) + i * pixels * half;
    const float* scale = affine.const_data_ptr<float>() + i * 2 * channels;
    const float* shift = scale + channels;
    const float* means = moments_of_groups.const_data_ptr<float>() +
        i * 2 * groups;
    const int threads = at::get_num_threads();
    std::vector<double> sums(threads * 2 * channels, 0.);
    at::parallel_for(0, pixels, kGrain, [&](int64_t begin, int64_t end) {
      double* mine = sums.data() + at::get_thread_num() * 2 * channels;
      add_gradients(from, from1, from2, scale, shift, threshold, begin, end,
                    half, mine, mine + channels);
    });
    for (int64_t g = 0; g < groups; ++g) {
      const double mean = means[g], rstd = means[groups + g];
      double sum = 0., product = 0.;
      for (int64_t c = g * width; c < (g + 1) * width; ++c) {
        double s = 0., q = 0.;
        for (int t = 0; t < threads; ++t) {
          s += sums[t * 2 * channels + c];
          q += sums[t * 2 * channels + channels + c];
        }
        const double gamma = w.const_data_ptr<float>()[c];
        sum += gamma * s;
        product += gamma * q;
        to_weight[c] += (q - mean * s) * rstd;
        to_bias[c] += s;
      }
      const double count = static_cast<double>(pixels * width);
      const double by_x = (sum * mean - product) * rstd * rstd * rstd / count;
      const double added = -by_x * mean - sum * rstd / count;
      std::fill_n(slope.begin() + g * width, width, by_x);
      std::fill_n(offset.begin() + g * width, width, added);
    }
    T* to = static_cast<T*>(grad_x.mutable_data_ptr()) + i * pixels * channels;
    at::parallel_for(0, pixels, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t p = 2 * begin; p < 2 * end; ++p) {
        const T* own = (p % 2 ? from2 : from1) + p / 2 * half;
        const T* other = (p % 2 ? from1 : from2) + p / 2 * half;
        const T* row = from + p * half;
        T* out = to + p * half;
        const int64_t start = p % 2 * half;
        const float* a = scale + start;
        const float* b = shift + start;
        const float* k = slope.data() + start;
        const float* d = offset.data() + start;
#pragma omp simd
        for (int64_t c = 0; c < half; ++c) {
          const float value = widen(row[c]), grad = widen(own[c]);
          float logit, direct;
          gate_gradients(value, a[c], b[c], threshold, grad,
                         grad + widen(other[c]), &logit, &direct);
          store(direct + logit * a[c] + k[c] * value + d[c], out + c);
        }
      }
    });
  }
  return {grad_x, grad_weight, grad_bias};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> sru_gate(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
    int64_t groups, double eps, double threshold) {
  const bool narrow = x.scalar_type() == at::kBFloat16;
  TORCH_CHECK((narrow || x.scalar_type() == at::kFloat) && x.dim() == 4 &&
                  x.size(1) % 2 == 0 && x.size(1) % groups == 0 &&
                  weight.scalar_type() == at::kFloat &&
                  bias.scalar_type() == at::kFloat &&
                  weight.numel() == x.size(1) && bias.numel() == x.size(1),
              "sru_gate: a float32 or bfloat16 tensor (N, C, H, W) is needed, "
              "C even and a multiple of groups=", groups,
              ", and as many float32 weights");
  return (narrow ? forward<BFloat16> : forward<float>)(
      x, weight, bias, groups, eps, threshold);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> sru_gate_backward(
    const at::Tensor& grad_first, const at::Tensor& grad_second,
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& affine,
    const at::Tensor& moments_of_groups, double threshold) {
  return (x.scalar_type() == at::kBFloat16 ? backward<BFloat16>
                                           : backward<float>)(
      grad_first, grad_second, x, weight, affine, moments_of_groups,
      threshold);
}

// The sum of gamma, whose absolute value is kept above a bound. By PyTorch's
// sum: near 0 rounding decides on the sign.
double bounded_sum(const at::Tensor& gamma, double bound) {
  const double sum = gamma.sum().item<float>();
  return sum < 0. ? std::min(sum, -bound) : std::max(sum, bound);
}

std::tuple<at::Tensor, at::Tensor> sru_gate_affine(
    const at::Tensor& gamma, const at::Tensor& beta, double bound) {
  TORCH_CHECK(gamma.scalar_type() == at::kFloat &&
                  beta.scalar_type() == at::kFloat,
              "sru_gate_affine: float32 weights are needed");
  const at::Tensor g = gamma.contiguous(), b = beta.contiguous();
  const float* from = g.const_data_ptr<float>();
  const int64_t channels = g.numel();
  at::Tensor weight = at::empty_like(g), bias = at::empty_like(b);
  const float by = 1. / bounded_sum(g, bound);
  for (int64_t c = 0; c < channels; ++c) {
    const float share = from[c] * by;
    weight.mutable_data_ptr<float>()[c] = share * from[c];
    bias.mutable_data_ptr<float>()[c] = share * b.const_data_ptr<float>()[c];
  }
  return {weight, bias};
}

std::tuple<at::Tensor, at::Tensor> sru_gate_affine_backward(
    const at::Tensor& grad_weight, const at::Tensor& grad_bias,
    const at::Tensor& gamma, const at::Tensor& beta, double bound) {
  const at::Tensor by_weight = grad_weight.contiguous(),
                   by_bias = grad_bias.contiguous(), g = gamma.contiguous(),
                   b = beta.contiguous();
  const float* from = g.const_data_ptr<float>();
  const int64_t channels = g.numel();
  at::Tensor to_gamma = at::empty_like(g), to_beta = at::empty_like(b);
  const double sum = bounded_sum(g, bound);
  double of_sum = 0.;
  for (int64_t c = 0; c < channels; ++c) {
    const double w = by_weight.const_data_ptr<float>()[c];
    const double v = by_bias.const_data_ptr<float>()[c];
    const double value = from[c], added = b.const_data_ptr<float>()[c];
    of_sum += (w * value + v * added) * value;
    to_gamma.mutable_data_ptr<float>()[c] = (2 * w * value + v * added) / sum;
    to_beta.mutable_data_ptr<float>()[c] = v * value / sum;
  }
  if (std::abs(sum) > bound) {  // else it is a constant
    for (int64_t c = 0; c < channels; ++c) {
      to_gamma.mutable_data_ptr<float>()[c] -= of_sum / (sum * sum);
    }
  }
  return {to_gamma, to_beta};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(mmdet_scconv, m) {
  m.def(
      "sru_gate(Tensor x, Tensor weight, Tensor bias, int groups, float eps, "
      "float threshold) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "sru_gate_backward(Tensor grad_first, Tensor grad_second, Tensor x, "
      "Tensor weight, Tensor affine, Tensor moments, float threshold) -> "
      "(Tensor, Tensor, Tensor)");
  m.def(
      "sru_gate_affine(Tensor gamma, Tensor beta, float bound) -> (Tensor, "
      "Tensor)");
  m.def(
      "sru_gate_affine_backward(Tensor grad_weight, Tensor grad_bias, Tensor "
      "gamma, Tensor beta, float bound) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(mmdet_scconv, CPU, m) {
  m.impl("sru_gate", &sru_gate);
  m.impl("sru_gate_backward", &sru_gate_backward);
  m.impl("sru_gate_affine", &sru_gate_affine);
  m.impl("sru_gate_affine_backward", &sru_gate_affine_backward);
}
