// The log likelihood of rows that miss features or whose component is known, group by group.
//
// The rows of a group have the same features and are therefore complete data for the mixture of
// these features. Its weights, means and scales are among those of the whole mixture, of the known
// component alone if there is one. Its Cholesky factor is F in
//
//   C[observed, ] = F Q,   Q Q' = I,   since then   F F' = C[observed, ] C[observed, ]'.
//
// With H the gradient by F, as if F could be any square matrix, that by C[observed, ] is H Q.
#ifndef STANGMM_ROW_GROUPS_HPP
#define STANGMM_ROW_GROUPS_HPP

#include "mixture_likelihood.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace stangmm {

// The groups as the model holds them: one after another. None: all rows are complete.
struct row_groups {
  const std::vector<int>& rows;                   // how many
  const std::vector<int>& component;              // 1 ... K, or 0 where unknown
  const std::vector<std::vector<int>>& observed;  // D numbers, 1 for the features the rows have

  int size() const { return static_cast<int>(rows.size()); }
};

// The mixture that a group's rows come from, made of the whole mixture's parameters.
class group_mixture {
 public:
  const mixture_values& values() const { return values_; }
  const std::vector<int>& features() const { return features_; }

  // known: 1 ... K, or 0.
  void set(const mixture_values& p, const std::vector<int>& observed, int known) {
    features_.clear();
    for (int i = 0; i < p.D; ++i) {
      if (observed[i]) features_.push_back(i);
    }
    const int d = static_cast<int>(features_.size());
    leading_ = 0;
    while (leading_ < d && features_[leading_] == leading_) ++leading_;
    first_ = known ? known - 1 : 0;
    values_.D = d;
    values_.K = known ? 1 : p.K;
    values_.n_scales = std::min(values_.K, p.n_scales);
    values_.scale_size = std::min(d, p.scale_size);
    values_.n_correlations = std::min(values_.K, p.n_correlations);
    values_.noise = known ? 0 : p.noise;  // a known component is not the noise
    values_.resize();
    values_.noise_log_density.clear();
    if (values_.noise) {
      values_.weights[p.K] = p.weights[p.K];
      for (int i : features_) values_.noise_log_density.push_back(p.noise_log_density[i]);
    }
    for (int k = 0; k < values_.K; ++k) {
      values_.weights[k] = p.weights[first_ + k];
      for (int a = 0; a < d; ++a) {
        values_.means[k * d + a] = p.means[(first_ + k) * p.D + features_[a]];
      }
    }
    for (int c = 0; c < values_.n_scales; ++c) {
      for (int a = 0; a < values_.scale_size; ++a) {
        values_.scales[c * values_.scale_size + a] = p.scale(first_ + c, features_[a]);
      }
    }
    q_.resize(static_cast<std::size_t>(values_.n_correlations) * d * p.D);
    for (int r = 0; r < values_.n_correlations; ++r) {
      factorize(p.chol(first_ + r), p.D, values_.chol(r), q_.data() + r * d * p.D);
    }
  }

  // Adds the gradient by values() to that by the whole mixture's parameters.
  void add_gradient(const mixture_values& gradient, mixture_values& total) const {
    const int d = values_.D, D = total.D;
    for (int k = 0; k < values_.K + values_.noise; ++k) {
      total.weights[first_ + k] += gradient.weights[k];
    }
    for (int k = 0; k < values_.K; ++k) {
      for (int a = 0; a < d; ++a) {
        total.means[(first_ + k) * D + features_[a]] += gradient.means[k * d + a];
      }
    }
    for (int c = 0; c < values_.n_scales; ++c) {
      for (int a = 0; a < values_.scale_size; ++a) {
        total.scale(first_ + c, features_[a]) += gradient.scales[c * values_.scale_size + a];
      }
    }
    for (int r = 0; r < values_.n_correlations; ++r) {
      const double* q = q_.data() + r * d * D;
      for (int a = 0; a < d; ++a) {
        const double* h = gradient.chol(r) + a * d;
        double* row = total.chol(first_ + r) + features_[a] * D;
        for (int b = 0; b < leading_; ++b) row[b] += h[b];
        for (int b = leading_; b < d; ++b) {
          for (int j = leading_; j <= features_[b]; ++j) row[j] += h[b] * q[b * D + j];
        }
      }
    }
  }

 private:
  // C[observed, ] = F Q by the modified Gram-Schmidt process. The leading features' rows of C are
  // triangular already: theirs of Q are unit vectors, which are not written down.
  void factorize(const double* chol, int D, double* factor, double* q) const {
    const int d = values_.D;
    for (int a = 0; a < d; ++a) {
      const double* from = chol + features_[a] * D;
      double* f = factor + a * d;
      for (int b = 0; b < std::min(a + 1, leading_); ++b) f[b] = from[b];
      if (a < leading_) continue;
      double* row = q + a * D;
      const int end = features_[a] + 1;
      std::fill(row, row + leading_, 0.0);
      std::copy(from + leading_, from + end, row + leading_);
      for (int b = leading_; b < a; ++b) {
        const double* other = q + b * D;
        for (int j = leading_; j <= features_[b]; ++j) f[b] += other[j] * row[j];
        for (int j = leading_; j <= features_[b]; ++j) row[j] -= f[b] * other[j];
      }
      double squares = 0;
      for (int j = leading_; j < end; ++j) squares += row[j] * row[j];
      f[a] = std::sqrt(squares);
      for (int j = leading_; j < end; ++j) row[j] /= f[a];
    }
  }

  mixture_values values_;
  std::vector<int> features_;  // the observed ones, ascending
  int leading_ = 0;            // so many of them are 0, 1, 2, ...
  int first_ = 0;              // the component, or the first of all
  std::vector<double> q_;      // n_correlations x d x D: Q
};

// As above for rows in groups.
inline double log_likelihood(const mixture_data& data, const row_groups& groups,
                             const mixture_values& p, mixture_values* gradient,
                             chunk_function run_chunk) {
  // Fewer rows leave most lanes of the fast pass empty.
  constexpr int enough_rows = 8;
  if (groups.size() == 0) return log_likelihood(data, p, gradient, run_chunk);

  // Batches of groups depend on the groups alone, not on the threads.
  const int batch = std::max(16, (groups.size() + 63) / 64);
  const int n_batches = (groups.size() + batch - 1) / batch;
  std::vector<std::ptrdiff_t> begin(n_batches);
  std::ptrdiff_t row = 0;
  for (int g = 0; g < groups.size(); ++g) {
    if (g % batch == 0) begin[g / batch] = row;
    row += groups.rows[g];
  }
  std::vector<double> values(n_batches);
  std::vector<mixture_values> gradients(gradient ? n_batches : 0);
  for_each_chunk(n_batches, [&](int i) {
    group_mixture mixture;
    mixture_values its_gradient;
    mixture_data part = data;
    part.x += begin[i];
    if (part.sample_weight) part.sample_weight += begin[i];
    if (gradient) gradients[i].resize_like(p);
    for (int g = i * batch; g < std::min((i + 1) * batch, groups.size()); ++g) {
      mixture.set(p, groups.observed[g], groups.component[g]);
      part.N = groups.rows[g];
      part.features = mixture.features().data();
      // With no feature there is nothing for the fast pass to sum.
      const bool fast = part.N >= enough_rows && !mixture.features().empty();
      values[i] += log_likelihood(part, mixture.values(), gradient ? &its_gradient : nullptr,
                                  fast ? run_chunk : nullptr, true);
      if (!std::isfinite(values[i])) return;
      if (gradient) mixture.add_gradient(its_gradient, gradients[i]);
      part.x += part.N;
      if (part.sample_weight) part.sample_weight += part.N;
    }
  });

  double value = 0;
  for (double v : values) value += v;
  if (!std::isfinite(value)) return -std::numeric_limits<double>::infinity();
  if (gradient) {
    gradient->resize_like(p);
    for (const mixture_values& part : gradients) *gradient += part;
  }
  return value;
}

}  // namespace stangmm

#endif
