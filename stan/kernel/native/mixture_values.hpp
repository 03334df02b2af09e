// The mixture's parameters as plain numbers: layout, checks, and the constants they imply.
#ifndef STANGMM_MIXTURE_VALUES_HPP
#define STANGMM_MIXTURE_VALUES_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <sstream>
#include <string>
#include <vector>

namespace stangmm {

// The parameters as plain numbers, and the gradient in the same layout. Sizes tell the covariance
// type, as in the Stan program. The upper triangle of corr_chol is 0; that of its gradient counts
// only for row_groups.hpp.
struct mixture_values {
  int D = 0;
  int K = 0;
  int n_scales = 0;        // K or 1 vectors of scales ...
  int scale_size = 0;      // ... of D or 1 numbers
  int n_correlations = 0;  // K, 1 or 0
  int noise = 0;           // 1: the weight of a uniform component is behind the others
  std::vector<double> noise_log_density;  // its log density in each feature: no parameters
  std::vector<double> weights, means, scales, corr_chol;  // corr_chol by rows

  void resize() {
    weights.assign(K + noise, 0.0);
    means.assign(static_cast<std::size_t>(K) * D, 0.0);
    scales.assign(static_cast<std::size_t>(n_scales) * scale_size, 0.0);
    corr_chol.assign(static_cast<std::size_t>(n_correlations) * D * D, 0.0);
  }
  void resize_like(const mixture_values& other) {
    D = other.D;
    K = other.K;
    n_scales = other.n_scales;
    scale_size = other.scale_size;
    n_correlations = other.n_correlations;
    noise = other.noise;
    resize();
  }
  mixture_values& operator+=(const mixture_values& other) {
    const auto add = [](std::vector<double>& to, const std::vector<double>& from) {
      for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
    };
    add(weights, other.weights);
    add(means, other.means);
    add(scales, other.scales);
    add(corr_chol, other.corr_chol);
    return *this;
  }
  double scale(int k, int i) const {
    return scales[std::min(k, n_scales - 1) * scale_size + (scale_size == 1 ? 0 : i)];
  }
  double& scale(int k, int i) {
    return scales[std::min(k, n_scales - 1) * scale_size + (scale_size == 1 ? 0 : i)];
  }
  const double* chol(int k) const {
    return corr_chol.data() + static_cast<std::size_t>(std::min(k, n_correlations - 1)) * D * D;
  }
  double* chol(int k) {
    return corr_chol.data() + static_cast<std::size_t>(std::min(k, n_correlations - 1)) * D * D;
  }
};

inline bool is_tiny(double value) { return value < 1e-100; }
inline bool is_huge(double value) { return value > 1e100; }

// Whether squares of scales, or responsibilities divided by weights, may leave a double's range.
inline bool is_extreme(const mixture_values& p) {
  return std::any_of(p.weights.begin(), p.weights.end(), is_tiny)
         || std::any_of(p.scales.begin(), p.scales.end(), is_tiny)
         || std::any_of(p.scales.begin(), p.scales.end(), is_huge);
}

// Why there is no density at this point, or an empty string.
inline std::string invalid_parameter(const mixture_values& p) {
  const auto describe = [](const char* name, std::initializer_list<std::size_t> index, double value,
                           const char* requirement) {
    std::ostringstream message;
    message << name;
    const char* separator = "[";
    for (std::size_t i : index) {
      message << separator << i + 1;
      separator = ", ";
    }
    message << "] is " << value << ", but must be finite" << requirement;
    return message.str();
  };
  const std::size_t D = p.D;
  for (int k = 0; k < p.K + p.noise; ++k) {
    const double w = p.weights[k];
    if (!(w >= 0 && std::isfinite(w))) {
      return describe("weights", {static_cast<std::size_t>(k)}, w, " and >= 0");
    }
  }
  for (std::size_t i = 0; i < p.means.size(); ++i) {
    if (!std::isfinite(p.means[i])) return describe("means", {i / D, i % D}, p.means[i], "");
  }
  for (std::size_t i = 0; i < p.scales.size(); ++i) {
    if (!(p.scales[i] > 0 && std::isfinite(p.scales[i]))) {
      return describe("scales", {i / p.scale_size, i % p.scale_size}, p.scales[i], " and > 0");
    }
  }
  for (std::size_t r = 0; r < static_cast<std::size_t>(p.n_correlations); ++r) {
    for (std::size_t i = 0; i < D; ++i) {
      for (std::size_t j = 0; j <= i; ++j) {
        const double c = p.corr_chol[(r * D + i) * D + j];
        if (!std::isfinite(c) || (i == j && !(c > 0))) {
          return describe("corr_chol", {r, i, j}, c, i == j ? " and > 0" : "");
        }
      }
    }
  }
  return "";
}

// The parameters in the form the passes use.
struct mixture_constants {
  std::vector<double> log_const;   // K + noise, without the log weight
  std::vector<double> inv_scales;  // K x D: 1 / L[i, i]
  std::vector<double> unit_chol;   // n_correlations x D x D: C[i, j] / C[i, i]

  explicit mixture_constants(const mixture_values& p)
      : log_const(p.K + p.noise), inv_scales(static_cast<std::size_t>(p.K) * p.D),
        unit_chol(p.corr_chol.size()) {
    for (int k = 0; k < p.K; ++k) {
      log_const[k] = -0.5 * p.D * 1.8378770664093453 /* log(2 pi) */;
      for (int i = 0; i < p.D; ++i) {
        double diagonal = p.scale(k, i);
        log_const[k] -= std::log(diagonal);
        if (p.n_correlations > 0) {
          const double c = p.chol(k)[i * p.D + i];
          log_const[k] -= std::log(c);
          diagonal *= c;
        }
        inv_scales[k * p.D + i] = 1 / diagonal;
      }
    }
    for (double each : p.noise_log_density) log_const[p.K] += each;
    for (int r = 0; r < p.n_correlations; ++r) {
      const double* chol = p.chol(r);
      double* unit = unit_chol.data() + (chol - p.corr_chol.data());
      for (int i = 0; i < p.D; ++i) {
        const double inv_diagonal = 1 / chol[i * p.D + i];
        for (int j = 0; j < i; ++j) unit[i * p.D + j] = chol[i * p.D + j] * inv_diagonal;
      }
    }
  }
};

}  // namespace stangmm

#endif
