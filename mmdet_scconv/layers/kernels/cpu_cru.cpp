// What the CRU with running statistics computes beside its convolutions, on
// the CPU: float32 or bfloat16 maps in channels_last, float32 weights.
//
// fold_norms: the CRU's weights with its BatchNorms multiplied in.
// join: the map that the point-wise convolutions see, and the means that the
//   softmax needs. taps[n, k, c] is the mean of what tap k of the GWC sees of
//   channel c.
// fuse_weights: from these means the softmax, and by it the weights of the two
//   convolutions that give the output. See AffineCRU and fuse_maps in
//   fused/affine_cru.py for the formula.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "cpu_numbers.h"

namespace {

using namespace mmdet_scconv;
using at::IntArrayRef;
using at::Tensor;

constexpr auto kLayout = at::MemoryFormat::ChannelsLast;
constexpr int64_t kRows = 4;     // a thread takes at least
constexpr int64_t kOutputs = 8;  // channels, the same

int64_t modulo(int64_t value, int64_t by) {
  return (value % by + by) % by;
}

// One axis of a "same" convolution: tap t sees every stride-th position from
// first(t) up to, without, end(t), if it is in the map.
struct Axis {
  int64_t size, taps, stride, padding, dilation;

  int64_t outputs() const { return (size - 1) / stride + 1; }
  int64_t first(int64_t tap) const { return tap * dilation - padding; }
  int64_t end(int64_t tap) const { return first(tap) + outputs() * stride; }
  int64_t phase(int64_t tap) const { return modulo(first(tap), stride); }
  bool sees(int64_t tap, int64_t position) const {
    return position >= first(tap) && position < end(tap) &&
        position % stride == phase(tap);
  }
};

struct Window {
  Axis height, width;

  Window(int64_t h, int64_t w, IntArrayRef kernel, IntArrayRef stride,
         IntArrayRef padding, IntArrayRef dilation)
      : height{h, kernel[0], stride[0], padding[0], dilation[0]},
        width{w, kernel[1], stride[1], padding[1], dilation[1]} {}

  int64_t taps() const { return height.taps * width.taps; }
  float outputs() const { return height.outputs() * width.outputs(); }
};

template <typename T>
const T* read(const Tensor& map) {
  return static_cast<const T*>(map.const_data_ptr());
}

template <typename T>
T* write(const Tensor& map) {
  return static_cast<T*>(map.mutable_data_ptr());
}

template <typename T>
inline void add(const T* from, int64_t count, float* to) {
#pragma omp simd
  for (int64_t c = 0; c < count; ++c) to[c] += widen(from[c]);
}

// Sums of what each tap of one axis sees of a row: all of a phase, less what is
// beyond the tap's ends.
template <typename T>
void sum_row(const T* row, const Axis& axis, int64_t channels, float* phases,
             float* sums) {
  std::fill_n(phases, axis.stride * channels, 0.f);
  for (int64_t w = 0; w < axis.size; ++w) {
    add(row + w * channels, channels, phases + w % axis.stride * channels);
  }
  for (int64_t tap = 0; tap < axis.taps; ++tap) {
    float* sum = sums + tap * channels;
    const int64_t phase = axis.phase(tap);
    std::copy_n(phases + phase * channels, channels, sum);
    for (int64_t w = phase; w < axis.size; w += axis.stride) {
      if (axis.sees(tap, w)) {
        w = std::max(w, axis.end(tap) - axis.stride);  // past what it sees
        continue;
      }
      const T* unseen = row + w * channels;
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) sum[c] -= widen(unseen[c]);
    }
  }
}

// Sums over threads, in their order.
void add_threads(const std::vector<double>& sums, int64_t count, float by,
                 float* to) {
  const int64_t threads = sums.size() / count;
  for (int64_t i = 0; i < count; ++i) {
    double sum = 0.;
    for (int64_t t = 0; t < threads; ++t) sum += sums[t * count + i];
    to[i] = sum / by;
  }
}

template <typename T>
std::tuple<Tensor, Tensor, Tensor> join(const Tensor& up, const Tensor& pooled,
                                        const Tensor& low,
                                        const Window& window) {
  const int64_t n = up.size(0), u = up.size(1), t = low.size(1);
  const Axis& height = window.height;
  const Axis& width = window.width;
  const int64_t rows = low.size(2), columns = low.size(3), both = u + t;
  const int64_t taps = window.taps(), threads = at::get_num_threads();
  Tensor points = at::empty({n, both, rows, columns},
                            up.options().memory_format(kLayout));
  const auto options = up.options().dtype(at::kFloat);
  Tensor seen = at::empty({n, taps, u}, options);
  Tensor means = at::empty({n, both}, options);
  for (int64_t i = 0; i < n; ++i) {
    const T* from = read<T>(up) + i * height.size * width.size * u;
    std::vector<double> sums(threads * taps * u, 0.);
    at::parallel_for(0, height.size, kRows, [&](int64_t begin, int64_t end) {
      std::vector<float> phases(width.stride * u), row(width.taps * u);
      double* mine = sums.data() + at::get_thread_num() * taps * u;
      for (int64_t h = begin; h < end; ++h) {
        sum_row(from + h * width.size * u, width, u, phases.data(),
                row.data());
        for (int64_t tap = 0; tap < height.taps; ++tap) {
          if (!height.sees(tap, h)) continue;
          double* to = mine + tap * width.taps * u;
          for (int64_t c = 0; c < width.taps * u; ++c) to[c] += row[c];
        }
      }
    });
    add_threads(sums, taps * u, window.outputs(),
                write<float>(seen) + i * taps * u);

    const T* from_up = read<T>(pooled) + i * rows * columns * u;
    const T* from_low = read<T>(low) + i * rows * columns * t;
    T* to = write<T>(points) + i * rows * columns * both;
    sums.assign(threads * both, 0.);
    at::parallel_for(0, rows, kRows, [&](int64_t begin, int64_t end) {
      std::vector<float> row(both);
      double* mine = sums.data() + at::get_thread_num() * both;
      for (int64_t h = begin; h < end; ++h) {
        std::fill(row.begin(), row.end(), 0.f);
        for (int64_t p = h * columns; p < (h + 1) * columns; ++p) {
          std::copy_n(from_up + p * u, u, to + p * both);
          std::copy_n(from_low + p * t, t, to + p * both + u);
          add(from_up + p * u, u, row.data());
          add(from_low + p * t, t, row.data() + u);
        }
        for (int64_t c = 0; c < both; ++c) mine[c] += row[c];
      }
    });
    add_threads(sums, both, rows * columns, write<float>(means) + i * both);
  }
  return {points, seen, means};
}

// Of taps alone, or (`whole`) where the map is not pooled, of all three.
template <typename T>
void gradient_of_up(const T* points, const float* taps, const float* means,
                    const Window& window, int64_t u, int64_t both, bool whole,
                    T* to) {
  const Axis& height = window.height;
  const Axis& width = window.width;
  const float outputs = window.outputs();
  // between these, a position is seen by all taps of its phase
  const int64_t first = std::max<int64_t>(0, width.first(width.taps - 1));
  const int64_t last = width.end(0);
  at::parallel_for(0, height.size, kRows, [&](int64_t begin, int64_t end) {
    std::vector<float> row(width.taps * u), phases(width.stride * u), some(u);
    for (int64_t h = begin; h < end; ++h) {
      std::fill(row.begin(), row.end(), 0.f);
      for (int64_t tap = 0; tap < height.taps; ++tap) {
        if (!height.sees(tap, h)) continue;
        add(taps + tap * width.taps * u, width.taps * u, row.data());
      }
      std::fill(phases.begin(), phases.end(), 0.f);
      for (int64_t tap = 0; tap < width.taps; ++tap) {
        add(row.data() + tap * u, u, phases.data() + width.phase(tap) * u);
      }
      for (int64_t w = 0; w < width.size; ++w) {
        const float* seen = phases.data() + w % width.stride * u;
        if (w < first || w >= last) {
          std::fill(some.begin(), some.end(), 0.f);
          for (int64_t tap = 0; tap < width.taps; ++tap) {
            if (width.sees(tap, w)) add(row.data() + tap * u, u, some.data());
          }
          seen = some.data();
        }
        const int64_t p = h * width.size + w;
        const T* point = points + p * both;
        T* out = to + p * u;
        if (whole) {
#pragma omp simd
          for (int64_t c = 0; c < u; ++c) {
            store(widen(point[c]) + (seen[c] + means[c]) / outputs, out + c);
          }
        } else {
#pragma omp simd
          for (int64_t c = 0; c < u; ++c) store(seen[c] / outputs, out + c);
        }
      }
    }
  });
}

// Of a part of the joined map: channels from `start` on.
template <typename T>
void gradient_of_part(const T* points, const float* means, int64_t pixels,
                      int64_t start, int64_t channels, int64_t both, T* to) {
  at::parallel_for(0, pixels, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const T* point = points + p * both + start;
      T* out = to + p * channels;
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) {
        store(widen(point[c]) + means[start + c] / pixels, out + c);
      }
    }
  });
}

template <typename T>
std::tuple<Tensor, Tensor, Tensor> join_backward(
    const Tensor& grad_points, const Tensor& grad_taps,
    const Tensor& grad_means, const Window& window, bool whole) {
  const int64_t n = grad_points.size(0), both = grad_points.size(1);
  const int64_t u = grad_taps.size(2), t = both - u, taps = window.taps();
  const int64_t rows = grad_points.size(2), columns = grad_points.size(3);
  const int64_t pixels = rows * columns;
  const auto options = grad_points.options().memory_format(kLayout);
  const int64_t positions = window.height.size * window.width.size;
  Tensor up = at::empty({n, u, window.height.size, window.width.size},
                        options);
  Tensor pooled = at::empty({whole ? 0 : n, u, rows, columns}, options);
  Tensor low = at::empty({n, t, rows, columns}, options);
  for (int64_t i = 0; i < n; ++i) {
    const T* points = read<T>(grad_points) + i * pixels * both;
    const float* means = read<float>(grad_means) + i * both;
    gradient_of_up(points, read<float>(grad_taps) + i * taps * u, means,
                   window, u, both, whole, write<T>(up) + i * positions * u);
    if (!whole) {
      gradient_of_part(points, means, pixels, 0, u, both,
                       write<T>(pooled) + i * pixels * u);
    }
    gradient_of_part(points, means, pixels, u, t, both,
                     write<T>(low) + i * pixels * t);
  }
  return {up, pooled, low};
}

template <typename A, typename B>
inline float dot(const A* a, const B* b, int64_t count) {
  float sum = 0.f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) sum += widen(a[i]) * widen(b[i]);
  return sum;
}

template <typename S, typename T>
inline void scale_to(const S* from, int64_t count, float by, T* to) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) store(by * widen(from[i]), to + i);
}

// to += a * x + b * y
template <typename T>
inline void add_both(float a, const T* x, float b, const float* y,
                     int64_t count, float* to) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) to[i] += a * widen(x[i]) + b * y[i];
}

// The widths that the weights have.
struct Widths {
  int64_t out, groups, in_group, taps, u, t;

  Widths(const Tensor& gwc, const Tensor& pwc1, const Tensor& pwc2)
      : out(gwc.size(0)), groups(pwc1.size(1) / gwc.size(1)),
        in_group(gwc.size(1)), taps(gwc.size(2) * gwc.size(3)),
        u(pwc1.size(1)), t(pwc2.size(1)) {}

  int64_t kernel() const { return taps * in_group; }
  // where an output's group begins among the u channels
  int64_t start(int64_t o) const { return o / (out / groups) * in_group; }
};

// A BatchNorm with running statistics.
struct Norm {
  const float *weight, *bias, *mean, *variance;
  float eps;

  // In double, as -ffast-math's root in float is NaN for infinity.
  float inverse(int64_t o) const {
    return 1. / std::sqrt(static_cast<double>(variance[o]) + eps);
  }
  float scale(int64_t o) const { return inverse(o) * weight[o]; }
  float shift(int64_t o) const { return bias[o] - mean[o] * scale(o); }
};

// Gradients of a BatchNorm's weight and bias.
struct NormGradient {
  float *weight, *bias;

  void set(const Norm& norm, int64_t o, float scale, float shift) const {
    weight[o] = (scale - norm.mean[o] * shift) * norm.inverse(o);
    bias[o] = shift;
  }
};

// A squeeze and the norm behind it.
struct Squeeze {
  const float *weight, *bias;
  Norm norm;
};

// The parameters of a CRU, in the order of the tensors that the operators take.
struct Parameters {
  Squeeze up, low;
  const float *gwc, *pwc1;
  Norm norm1;
  const float *pwc2, *pwc2_bias;
  Norm norm2;

  Parameters(const std::vector<Tensor>& tensors, at::ArrayRef<double> eps) {
    auto next = tensors.begin();
    const auto read_next = [&] { return read<float>(*next++); };
    const auto norm = [&](double value) {
      Norm result;
      for (auto field : {&Norm::weight, &Norm::bias, &Norm::mean,
                         &Norm::variance}) {
        result.*field = read_next();
      }
      result.eps = value;
      return result;
    };
    for (int64_t i = 0; i < 2; ++i) {
      Squeeze& squeeze = i ? low : up;
      squeeze.weight = read_next();
      squeeze.bias = read_next();
      squeeze.norm = norm(eps[i]);
    }
    gwc = read_next();
    pwc1 = read_next();
    norm1 = norm(eps[2]);
    pwc2 = read_next();
    pwc2_bias = read_next();
    norm2 = norm(eps[3]);
  }
};

// Where the tensors stand among those of the operators.
enum : int64_t { kUp = 0, kLow = 6, kGwc = 12, kPwc1 = 13, kNorm1 = 14,
                 kPwc2 = 18, kNorm2 = 20, kTensors = 24 };

// The last two of the four tensors of a norm.
bool is_statistic(int64_t i) {
  for (const int64_t norm : {kUp + 2, kLow + 2, int64_t{kNorm1},
                             int64_t{kNorm2}}) {
    if (i == norm + 2 || i == norm + 3) return true;
  }
  return false;
}

template <typename T>
void fold_squeeze(const Squeeze& squeeze, const Tensor& to_weight,
                  const Tensor& to_bias) {
  const auto& [weight, bias, norm] = squeeze;
  const int64_t in = to_weight.size(1);
  for (int64_t o = 0; o < to_weight.size(0); ++o) {
    const float scale = norm.scale(o);
    scale_to(weight + o * in, in, scale, write<T>(to_weight) + o * in);
    store((bias[o] - norm.mean[o]) * scale + norm.bias[o],
          write<T>(to_bias) + o);
  }
}

template <typename T>
void unfold_squeeze(const Squeeze& squeeze, const Tensor& grad_weight,
                    const Tensor& grad_bias, float* to_weight, float* to_bias,
                    const NormGradient& to_norm) {
  const auto& [weight, bias, norm] = squeeze;
  const int64_t in = grad_weight.size(1);
  for (int64_t o = 0; o < grad_weight.size(0); ++o) {
    const T* by_weight = read<T>(grad_weight) + o * in;
    const float by_bias = widen(read<T>(grad_bias)[o]), scale = norm.scale(o);
    scale_to(by_weight, in, scale, to_weight + o * in);
    to_bias[o] = by_bias * scale;
    to_norm.set(norm, o,
                dot(weight + o * in, by_weight, in) + by_bias * bias[o],
                by_bias);
  }
}

template <typename T>
std::vector<Tensor> fold_norms(const std::vector<Tensor>& tensors,
                               at::ArrayRef<double> eps) {
  const Parameters p(tensors, eps);
  const Tensor &gwc = tensors[kGwc], &pwc2 = tensors[kPwc2];
  const auto narrow = gwc.options().dtype(
      std::is_same_v<T, float> ? at::kFloat : at::kBFloat16);
  std::vector<Tensor> folded;
  for (const int64_t i : {kUp, kLow}) {
    folded.push_back(at::empty(tensors[i].sizes(), narrow));
    folded.push_back(at::empty(tensors[i + 1].sizes(), narrow));
  }
  fold_squeeze<T>(p.up, folded[0], folded[1]);
  fold_squeeze<T>(p.low, folded[2], folded[3]);
  const int64_t out = gwc.size(0), kernel = gwc.numel() / out;
  const int64_t u = tensors[kPwc1].size(1), t = pwc2.size(1);
  const int64_t rest = out - t;  // what follows is passed on
  Tensor to_gwc = at::empty_like(gwc),
         to_pwc1 = at::empty({out, u}, gwc.options()),
         to_bias1 = at::empty({out}, gwc.options()),
         to_pwc2 = at::zeros({out, t}, gwc.options()),
         to_bias2 = at::empty({out}, gwc.options());
  at::parallel_for(0, out, kOutputs, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      const float scale1 = p.norm1.scale(o), scale2 = p.norm2.scale(o);
      scale_to(p.gwc + o * kernel, kernel, scale1,
               write<float>(to_gwc) + o * kernel);
      scale_to(p.pwc1 + o * u, u, scale1, write<float>(to_pwc1) + o * u);
      write<float>(to_bias1)[o] = p.norm1.shift(o);
      float* row = write<float>(to_pwc2) + o * t;
      float bias = p.norm2.shift(o);
      if (o < rest) {
        scale_to(p.pwc2 + o * t, t, scale2, row);
        bias += p.pwc2_bias[o] * scale2;
      } else {
        row[o - rest] = scale2;
      }
      write<float>(to_bias2)[o] = bias;
    }
  });
  for (const Tensor& tensor : {to_gwc, to_pwc1, to_bias1, to_pwc2, to_bias2}) {
    folded.push_back(tensor);
  }
  return folded;
}

// Gradients of all tensors, but for running statistics.
template <typename T>
std::vector<Tensor> fold_norms_backward(const std::vector<Tensor>& grads,
                                        const std::vector<Tensor>& tensors,
                                        at::ArrayRef<double> eps) {
  const Parameters p(tensors, eps);
  std::vector<Tensor> result(kTensors);
  for (int64_t i = 0; i < kTensors; ++i) {
    if (!is_statistic(i)) result[i] = at::empty_like(tensors[i]);
  }
  const auto to = [&](int64_t i) { return write<float>(result[i]); };
  const auto norm = [&](int64_t i) { return NormGradient{to(i), to(i + 1)}; };
  unfold_squeeze<T>(p.up, grads[0], grads[1], to(kUp), to(kUp + 1),
                    norm(kUp + 2));
  unfold_squeeze<T>(p.low, grads[2], grads[3], to(kLow), to(kLow + 1),
                    norm(kLow + 2));
  const Tensor& gwc = tensors[kGwc];
  const int64_t out = gwc.size(0), kernel = gwc.numel() / out;
  const int64_t u = tensors[kPwc1].size(1), t = tensors[kPwc2].size(1);
  const int64_t rest = out - t;
  at::parallel_for(0, out, kOutputs, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      const float scale1 = p.norm1.scale(o), scale2 = p.norm2.scale(o);
      const float* by_gwc = read<float>(grads[4]) + o * kernel;
      const float* by_pwc1 = read<float>(grads[5]) + o * u;
      const float by_bias1 = read<float>(grads[6])[o];
      const float* by_pwc2 = read<float>(grads[7]) + o * t;
      const float by_bias2 = read<float>(grads[8])[o];
      scale_to(by_gwc, kernel, scale1, to(kGwc) + o * kernel);
      scale_to(by_pwc1, u, scale1, to(kPwc1) + o * u);
      norm(kNorm1).set(p.norm1, o,
                       dot(p.gwc + o * kernel, by_gwc, kernel) +
                           dot(p.pwc1 + o * u, by_pwc1, u),
                       by_bias1);
      float of_scale;
      if (o < rest) {
        scale_to(by_pwc2, t, scale2, to(kPwc2) + o * t);
        to(kPwc2 + 1)[o] = scale2 * by_bias2;
        of_scale = dot(p.pwc2 + o * t, by_pwc2, t) + by_bias2 * p.pwc2_bias[o];
      } else {
        of_scale = by_pwc2[o - rest];
      }
      norm(kNorm2).set(p.norm2, o, of_scale, by_bias2);
    }
  });
  return result;
}

// What a tap sees, of the channels of one output's group, one tap after the
// other: as a row of the GWC's weight in channels_last.
void gather(const float* taps, const Widths& widths, int64_t o, float* to) {
  for (int64_t k = 0; k < widths.taps; ++k) {
    std::copy_n(taps + k * widths.u + widths.start(o), widths.in_group,
                to + k * widths.in_group);
  }
}

template <typename T>
std::tuple<Tensor, Tensor, Tensor, Tensor> fuse_weights(
    const Tensor& taps, const Tensor& means, const Tensor& gwc,
    const Tensor& pwc1, const Tensor& bias1, const Tensor& pwc2,
    const Tensor& bias2, const float* scale, const float* shift) {
  const Widths widths(gwc, pwc1, pwc2);
  const int64_t n = means.size(0), out = widths.out, u = widths.u,
                t = widths.t, both = u + t;
  const auto options = gwc.options().dtype(
      std::is_same_v<T, float> ? at::kFloat : at::kBFloat16);
  Tensor kernel = at::empty({n * out, gwc.size(1), gwc.size(2), gwc.size(3)},
                            options.memory_format(kLayout));
  Tensor bias = at::empty({n, out}, options);
  Tensor weight = at::empty({n, out, both}, options);
  Tensor beta = at::empty({2, n, out}, gwc.options());
  at::parallel_for(0, n * out, kOutputs, [&](int64_t begin, int64_t end) {
    std::vector<float> seen(widths.kernel());
    for (int64_t i = begin; i < end; ++i) {
      const int64_t sample = i / out, o = i % out;
      gather(read<float>(taps) + sample * widths.taps * u, widths, o,
             seen.data());
      const float* mean = read<float>(means) + sample * both;
      const float* conv = read<float>(gwc) + o * widths.kernel();
      const float* point1 = read<float>(pwc1) + o * u;
      const float* point2 = read<float>(pwc2) + o * t;
      const float b1 = read<float>(bias1)[o], b2 = read<float>(bias2)[o];
      const float logits[] = {
          dot(conv, seen.data(), widths.kernel()) + dot(point1, mean, u) + b1,
          dot(point2, mean + u, t) + b2};
      float beta1 = 1.f / one_plus_exp(logits[0] - logits[1]);
      float beta2 = 1.f / one_plus_exp(logits[1] - logits[0]);
      if (!are_finite(logits, 2)) {  // as the definition's softmax
        beta1 = beta2 = std::numeric_limits<float>::quiet_NaN();
      }
      write<float>(beta)[i] = beta1;
      write<float>(beta)[n * out + i] = beta2;
      float sum = beta1 * b1 + beta2 * b2;
      if (scale) {
        sum = sum * scale[o] + shift[o];
        beta1 *= scale[o];
        beta2 *= scale[o];
      }
      store(sum, write<T>(bias) + i);
      scale_to(conv, widths.kernel(), beta1,
               write<T>(kernel) + i * widths.kernel());
      scale_to(point1, u, beta1, write<T>(weight) + i * both);
      scale_to(point2, t, beta2, write<T>(weight) + i * both + u);
    }
  });
  return {kernel, bias, weight, beta};
}

template <typename T>
std::vector<Tensor> fuse_weights_backward(
    const Tensor& grad_kernel, const Tensor& grad_bias,
    const Tensor& grad_weight, const Tensor& taps, const Tensor& means,
    const Tensor& gwc, const Tensor& pwc1, const Tensor& bias1,
    const Tensor& pwc2, const Tensor& bias2, const float* scale,
    const Tensor& beta) {
  const Widths widths(gwc, pwc1, pwc2);
  const int64_t n = means.size(0), out = widths.out, u = widths.u,
                t = widths.t, both = u + t;
  Tensor to_gwc = at::zeros_like(gwc), to_pwc1 = at::zeros_like(pwc1),
         to_bias1 = at::zeros_like(bias1), to_pwc2 = at::zeros_like(pwc2),
         to_bias2 = at::zeros_like(bias2);
  // of the first branch's mean; the second one's has the other sign
  Tensor logits = at::empty({n, out}, gwc.options());
  at::parallel_for(0, out, kOutputs, [&](int64_t begin, int64_t end) {
    std::vector<float> seen(widths.kernel());
    for (int64_t o = begin; o < end; ++o) {
      const float* conv = read<float>(gwc) + o * widths.kernel();
      const float* point1 = read<float>(pwc1) + o * u;
      const float* point2 = read<float>(pwc2) + o * t;
      const float by = scale ? scale[o] : 1.f;  // multiplies all outputs
      for (int64_t sample = 0; sample < n; ++sample) {
        const int64_t i = sample * out + o;
        const float beta1 = read<float>(beta)[i];
        const float beta2 = read<float>(beta)[n * out + i];
        const T* by_kernel = read<T>(grad_kernel) + i * widths.kernel();
        const T* by_weight = read<T>(grad_weight) + i * both;
        const float by_bias = widen(read<T>(grad_bias)[i]);
        const float of_beta1 = by *
            (dot(conv, by_kernel, widths.kernel()) +
             dot(point1, by_weight, u) + by_bias * read<float>(bias1)[o]);
        const float of_beta2 = by *
            (dot(point2, by_weight + u, t) + by_bias * read<float>(bias2)[o]);
        const float logit = (of_beta1 - of_beta2) * beta1 * beta2;
        write<float>(logits)[i] = logit;
        gather(read<float>(taps) + sample * widths.taps * u, widths, o,
               seen.data());
        const float* mean = read<float>(means) + sample * both;
        add_both(by * beta1, by_kernel, logit, seen.data(), widths.kernel(),
                 write<float>(to_gwc) + o * widths.kernel());
        add_both(by * beta1, by_weight, logit, mean, u,
                 write<float>(to_pwc1) + o * u);
        add_both(by * beta2, by_weight + u, -logit, mean + u, t,
                 write<float>(to_pwc2) + o * t);
        write<float>(to_bias1)[o] += by * beta1 * by_bias + logit;
        write<float>(to_bias2)[o] += by * beta2 * by_bias - logit;
      }
    }
  });
  const int64_t groups = widths.groups;
  // (G, N, taps * in a group) -> (N, taps, G * in a group)
  Tensor to_taps =
      at::bmm(logits.view({n, groups, out / groups}).transpose(0, 1),
              gwc.permute({0, 2, 3, 1}).reshape(
                  {groups, out / groups, widths.kernel()}))
          .view({groups, n, widths.taps, widths.in_group})
          .permute({1, 2, 0, 3})
          .reshape({n, widths.taps, u});
  Tensor to_means = at::cat({at::mm(logits, pwc1), at::mm(logits, -pwc2)}, 1);
  return {to_taps, to_means, to_gwc, to_pwc1, to_bias1, to_pwc2, to_bias2};
}

void check_width(const Tensor& tensor, int64_t width) {
  TORCH_CHECK(tensor.numel() == width, "the weights of a CRU have sizes that "
              "do not fit: ", tensor.numel(), " numbers where there should be ",
              width);
}

// That what follows the squeezes fits together.
void check_fuse(const Tensor& gwc, const Tensor& pwc1, const Tensor& pwc2,
                int64_t pwc2_rows) {
  TORCH_CHECK(gwc.dim() == 4 && pwc1.size(0) == gwc.size(0) &&
                  pwc2.size(0) == pwc2_rows &&
                  pwc1.size(1) % gwc.size(1) == 0 &&
                  gwc.size(0) % (pwc1.size(1) / gwc.size(1)) == 0,
              "the weights of a CRU have sizes that do not fit: ", gwc.sizes(),
              ", ", pwc1.sizes(), ", ", pwc2.sizes());
}

// Contiguous, but for the weight of the GWC, whose taps are rows.
std::vector<Tensor> in_order(at::TensorList tensors, int64_t gwc) {
  std::vector<Tensor> ordered;
  for (const Tensor& tensor : tensors) {
    ordered.push_back(static_cast<int64_t>(ordered.size()) == gwc
                          ? tensor.contiguous(kLayout)
                          : tensor.contiguous());
  }
  return ordered;
}

std::vector<Tensor> cru_fold_norms(at::TensorList tensors,
                                   at::ArrayRef<double> eps,
                                   at::ScalarType dtype) {
  TORCH_CHECK(tensors.size() == kTensors && eps.size() == 4 &&
                  std::all_of(tensors.begin(), tensors.end(),
                              [](const Tensor& tensor) {
                                return tensor.scalar_type() == at::kFloat;
                              }),
              "the ", static_cast<int64_t>(kTensors),
              " tensors of a CRU, in float32, and 4 eps are needed");
  const Tensor &gwc = tensors[kGwc], &pwc1 = tensors[kPwc1],
               &pwc2 = tensors[kPwc2];
  check_fuse(gwc, pwc1, pwc2, gwc.size(0) - pwc2.size(1));
  for (const auto& [first, last, width] :
       {std::array{kUp + 1, kUp + 6, pwc1.size(1)},
        std::array{kLow + 1, kLow + 6, pwc2.size(1)},
        std::array{kNorm1 + 0, kNorm1 + 4, gwc.size(0)},
        std::array{kPwc2 + 1, kPwc2 + 2, pwc2.size(0)},
        std::array{kNorm2 + 0, kNorm2 + 4, gwc.size(0)}}) {
    for (int64_t i = first; i < last; ++i) check_width(tensors[i], width);
  }
  check_width(tensors[kUp].select(1, 0), pwc1.size(1));
  check_width(tensors[kLow].select(1, 0), pwc2.size(1));
  return (dtype == at::kBFloat16 ? fold_norms<BFloat16> : fold_norms<float>)(
      in_order(tensors, kGwc), eps);
}

std::vector<Tensor> cru_fold_norms_backward(at::TensorList grads,
                                            at::TensorList tensors,
                                            at::ArrayRef<double> eps) {
  return (grads[0].scalar_type() == at::kBFloat16
              ? fold_norms_backward<BFloat16>
              : fold_norms_backward<float>)(
      in_order(grads, 4), in_order(tensors, kGwc), eps);
}

void check_map(const Tensor& map, const char* name) {
  TORCH_CHECK((map.scalar_type() == at::kFloat ||
               map.scalar_type() == at::kBFloat16) && map.dim() == 4,
              name, ": a float32 or bfloat16 tensor (N, C, H, W) is needed");
}

bool is_narrow(const Tensor& map) {
  return map.scalar_type() == at::kBFloat16;
}

std::tuple<Tensor, Tensor, Tensor> cru_join(
    const Tensor& up, const std::optional<Tensor>& pooled, const Tensor& low,
    IntArrayRef kernel, IntArrayRef stride, IntArrayRef padding,
    IntArrayRef dilation) {
  check_map(up, "up");
  check_map(low, "low");
  const Tensor whole = up.contiguous(kLayout);
  const Tensor part = pooled ? pooled->contiguous(kLayout) : whole;
  const Window window(up.size(2), up.size(3), kernel, stride, padding,
                      dilation);
  TORCH_CHECK(part.sizes() == IntArrayRef({up.size(0), up.size(1),
                                           low.size(2), low.size(3)}) &&
                  part.scalar_type() == up.scalar_type() &&
                  low.scalar_type() == up.scalar_type() &&
                  low.size(0) == up.size(0),
              "the maps that are joined have one size and one dtype");
  return (is_narrow(up) ? join<BFloat16> : join<float>)(
      whole, part, low.contiguous(kLayout), window);
}

std::tuple<Tensor, Tensor, Tensor> cru_join_backward(
    const Tensor& grad_points, const Tensor& grad_taps,
    const Tensor& grad_means, IntArrayRef size, IntArrayRef kernel,
    IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation,
    bool pooled) {
  check_map(grad_points, "grad_points");
  const Window window(size[0], size[1], kernel, stride, padding, dilation);
  return (is_narrow(grad_points) ? join_backward<BFloat16>
                                 : join_backward<float>)(
      grad_points.contiguous(kLayout), grad_taps.contiguous(),
      grad_means.contiguous(), window, !pooled);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> cru_fuse_weights(
    const Tensor& taps, const Tensor& means, const Tensor& gwc,
    const Tensor& pwc1, const Tensor& bias1, const Tensor& pwc2,
    const Tensor& bias2, const std::optional<Tensor>& scale,
    const std::optional<Tensor>& shift, at::ScalarType dtype) {
  TORCH_CHECK(gwc.scalar_type() == at::kFloat &&
                  (dtype == at::kFloat || dtype == at::kBFloat16),
              "float32 weights, for maps of float32 or bfloat16, are needed");
  check_fuse(gwc, pwc1, pwc2, gwc.size(0));
  check_width(means.select(0, 0), pwc1.size(1) + pwc2.size(1));
  check_width(taps.select(0, 0), gwc.size(2) * gwc.size(3) * pwc1.size(1));
  for (const Tensor& tensor : {bias1, bias2, scale ? *scale : bias1,
                               shift ? *shift : bias1}) {
    check_width(tensor, gwc.size(0));
  }
  const Tensor s = scale ? scale->contiguous() : Tensor();
  const Tensor b = shift ? shift->contiguous() : Tensor();
  return (dtype == at::kBFloat16 ? fuse_weights<BFloat16>
                                 : fuse_weights<float>)(
      taps.contiguous(), means.contiguous(), gwc.contiguous(kLayout),
      pwc1.contiguous(), bias1.contiguous(), pwc2.contiguous(),
      bias2.contiguous(), scale ? read<float>(s) : nullptr,
      shift ? read<float>(b) : nullptr);
}

std::vector<Tensor> cru_fuse_weights_backward(
    const Tensor& grad_kernel, const Tensor& grad_bias,
    const Tensor& grad_weight, const Tensor& taps, const Tensor& means,
    const Tensor& gwc, const Tensor& pwc1, const Tensor& bias1,
    const Tensor& pwc2, const Tensor& bias2,
    const std::optional<Tensor>& scale, const Tensor& beta) {
  const Tensor s = scale ? scale->contiguous() : Tensor();
  return (is_narrow(grad_kernel) ? fuse_weights_backward<BFloat16>
                                 : fuse_weights_backward<float>)(
      grad_kernel.contiguous(kLayout), grad_bias.contiguous(),
      grad_weight.contiguous(), taps.contiguous(), means.contiguous(),
      gwc.contiguous(kLayout), pwc1.contiguous(), bias1.contiguous(),
      pwc2.contiguous(), bias2.contiguous(),
      scale ? read<float>(s) : nullptr, beta);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(mmdet_scconv, m) {
  m.def(
      "cru_fold_norms(Tensor[] tensors, float[] eps, ScalarType dtype) -> "
      "Tensor[]");
  m.def(
      "cru_fold_norms_backward(Tensor[] grads, Tensor[] tensors, float[] eps) "
      "-> Tensor[]");
  m.def(
      "cru_join(Tensor up, Tensor? pooled, Tensor low, int[] kernel, int[] "
      "stride, int[] padding, int[] dilation) -> (Tensor, Tensor, Tensor)");
  m.def(
      "cru_join_backward(Tensor grad_points, Tensor grad_taps, Tensor "
      "grad_means, int[] size, int[] kernel, int[] stride, int[] padding, "
      "int[] dilation, bool pooled) -> (Tensor, Tensor, Tensor)");
  m.def(
      "cru_fuse_weights(Tensor taps, Tensor means, Tensor gwc, Tensor pwc1, "
      "Tensor bias1, Tensor pwc2, Tensor bias2, Tensor? scale, Tensor? shift, "
      "ScalarType dtype) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "cru_fuse_weights_backward(Tensor grad_kernel, Tensor grad_bias, Tensor "
      "grad_weight, Tensor taps, Tensor means, Tensor gwc, Tensor pwc1, "
      "Tensor bias1, Tensor pwc2, Tensor bias2, Tensor? scale, Tensor beta) "
      "-> Tensor[]");
}

TORCH_LIBRARY_IMPL(mmdet_scconv, CPU, m) {
  m.impl("cru_fold_norms", &cru_fold_norms);
  m.impl("cru_fold_norms_backward", &cru_fold_norms_backward);
  m.impl("cru_join", &cru_join);
  m.impl("cru_join_backward", &cru_join_backward);
  m.impl("cru_fuse_weights", &cru_fuse_weights);
  m.impl("cru_fuse_weights_backward", &cru_fuse_weights_backward);
}
