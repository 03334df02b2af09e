// The mixture's log likelihood as a function of Stan's types: the native kernel.
//
// A user header for the external function declared in mixture_lpdf.stan. The numbers come from
// mixture_likelihood.hpp and row_groups.hpp; here they are taken out of Stan's types, and value and
// gradient put on Stan's tape as one node. C++14; Stan 2.27 and later.
#ifndef STANGMM_MIXTURE_LPDF_HPP
#define STANGMM_MIXTURE_LPDF_HPP

#include <stan/model/model_header.hpp>  // first, or its precompiled form goes unused

#include "correlation_transform.hpp"
#include "row_groups.hpp"

#include <ostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace stangmm {

typedef Eigen::Map<Eigen::Matrix<double, -1, -1>> data_matrix;
typedef Eigen::Map<Eigen::Matrix<double, -1, 1>> data_vector;

// The parameters' values, whatever their type. They stay in memory of this thread until the next
// evaluation: where rows are few, allocating is a good part of the time.
template <typename T>
const mixture_values& to_values(int D, const data_vector& noise_log_density,
                                const Eigen::Matrix<T, -1, 1>& weights,
                                const std::vector<Eigen::Matrix<T, -1, 1>>& means,
                                const std::vector<Eigen::Matrix<T, -1, 1>>& scales,
                                const std::vector<Eigen::Matrix<T, -1, -1>>& corr_chol) {
  using stan::math::value_of;
  thread_local mixture_values p;
  p.D = D;
  p.K = static_cast<int>(means.size());
  p.n_scales = static_cast<int>(scales.size());
  p.scale_size = static_cast<int>(scales.front().size());
  p.n_correlations = static_cast<int>(corr_chol.size());
  p.noise = noise_log_density.size() > 0;
  p.noise_log_density.assign(noise_log_density.data(),
                             noise_log_density.data() + noise_log_density.size());
  p.resize();
  for (int k = 0; k < p.K + p.noise; ++k) p.weights[k] = value_of(weights.coeff(k));
  for (int k = 0; k < p.K; ++k) {
    for (int i = 0; i < D; ++i) p.means[k * D + i] = value_of(means[k].coeff(i));
  }
  for (int c = 0; c < p.n_scales; ++c) {
    for (int i = 0; i < p.scale_size; ++i) {
      p.scales[c * p.scale_size + i] = value_of(scales[c].coeff(i));
    }
  }
  for (int r = 0; r < p.n_correlations; ++r) {
    for (int i = 0; i < D; ++i) {
      for (int j = 0; j <= i; ++j) p.chol(r)[i * D + j] = value_of(corr_chol[r].coeff(i, j));
    }
  }
  return p;
}

inline mixture_data to_data(const data_matrix& x, const data_vector& sample_weight) {
  const double* weight = sample_weight.size() == 0 ? nullptr : sample_weight.data();
  return {x.data(), x.rows(), x.rows(), weight, nullptr};
}

// Values only. A point without a density is log(0), so that generated quantities, which Stan
// writes after the fact, never end a run.
inline double mixture_lpdf(const data_matrix& x, const data_vector& sample_weight,
                           const row_groups& groups, const data_vector& noise_log_density,
                           const Eigen::Matrix<double, -1, 1>& weights,
                           const std::vector<Eigen::Matrix<double, -1, 1>>& means,
                           const std::vector<Eigen::Matrix<double, -1, 1>>& scales,
                           const std::vector<Eigen::Matrix<double, -1, -1>>& corr_chol) {
  const mixture_values& p
      = to_values(x.cols(), noise_log_density, weights, means, scales, corr_chol);
  if (!invalid_parameter(p).empty()) return -std::numeric_limits<double>::infinity();
  return log_likelihood(to_data(x, sample_weight), groups, p, nullptr, fastest_chunk_function());
}

// Value and gradient. A point without a density throws std::domain_error, upon which every
// algorithm of Stan's rejects the proposal and goes on.
inline stan::math::var mixture_lpdf(
    const data_matrix& x, const data_vector& sample_weight, const row_groups& groups,
    const data_vector& noise_log_density, const Eigen::Matrix<stan::math::var, -1, 1>& weights,
    const std::vector<Eigen::Matrix<stan::math::var, -1, 1>>& means,
    const std::vector<Eigen::Matrix<stan::math::var, -1, 1>>& scales,
    const std::vector<Eigen::Matrix<stan::math::var, -1, -1>>& corr_chol) {
  const mixture_values& p
      = to_values(x.cols(), noise_log_density, weights, means, scales, corr_chol);
  const std::string problem = invalid_parameter(p);
  if (!problem.empty()) throw std::domain_error("mixture_lpdf: " + problem);
  thread_local mixture_values gradient;
  const double value
      = log_likelihood(to_data(x, sample_weight), groups, p, &gradient, fastest_chunk_function());
  if (!std::isfinite(value)) throw std::domain_error("mixture_lpdf: the log density is -inf");

  thread_local std::vector<stan::math::var> operands;
  thread_local std::vector<double> partials;
  operands.clear();
  partials.clear();
  const auto add = [&](const stan::math::var& operand, double partial) {
    operands.push_back(operand);
    partials.push_back(partial);
  };
  for (int k = 0; k < p.K + p.noise; ++k) add(weights.coeff(k), gradient.weights[k]);
  for (int k = 0; k < p.K; ++k) {
    for (int i = 0; i < p.D; ++i) add(means[k].coeff(i), gradient.means[k * p.D + i]);
  }
  for (int c = 0; c < p.n_scales; ++c) {
    for (int i = 0; i < p.scale_size; ++i) {
      add(scales[c].coeff(i), gradient.scales[c * p.scale_size + i]);
    }
  }
  for (int r = 0; r < p.n_correlations; ++r) {
    for (int i = 0; i < p.D; ++i) {
      for (int j = 0; j <= i; ++j) {
        add(corr_chol[r].coeff(i, j), gradient.chol(r)[i * p.D + j]);
      }
    }
  }
  return stan::math::precomputed_gradients(value, operands, partials);
}

}  // namespace stangmm

// stanc (2.27 to 2.31) forward-declares a general template of this name in the model's namespace;
// this one is more specialized, and so is the one called. From 2.32 on it is the only one.
#ifndef STANGMM_MODEL_NAMESPACE
#define STANGMM_MODEL_NAMESPACE gaussian_mixture_model_namespace
#endif
namespace STANGMM_MODEL_NAMESPACE {

template <bool propto__, typename T>
T mixture_lpdf(const stangmm::data_matrix& x, const stangmm::data_vector& sample_weight,
               const std::vector<int>& group_rows, const std::vector<int>& group_component,
               const std::vector<std::vector<int>>& group_observed,
               const stangmm::data_vector& noise_log_density,
               const Eigen::Matrix<T, -1, 1>& weights,
               const std::vector<Eigen::Matrix<T, -1, 1>>& means,
               const std::vector<Eigen::Matrix<T, -1, 1>>& scales,
               const std::vector<Eigen::Matrix<T, -1, -1>>& corr_chol, std::ostream*) {
  return stangmm::mixture_lpdf(x, sample_weight, {group_rows, group_component, group_observed},
                               noise_log_density, weights, means, scales, corr_chol);
}

}  // namespace STANGMM_MODEL_NAMESPACE

#endif
