// The Gaussian mixture model of stangmm, with the component labels summed out.
//
//   weights            ~ Dirichlet(weights_concentration)
//   means[k, d]        ~ Normal(means_location[k, d], means_scale[k, d])
//   corr_chol[r]       ~ LKJ(correlation_shape), as the Cholesky factor of a correlation matrix
//   scales[c, s]       ~ HalfCauchy, HalfNormal, or InverseGamma on scales^2, above a bound
//   x[n] | z[n] = k    ~ Normal(means[k], Sigma[k]),   P(z[n] = k) = weights[k]
//   x[n] | z[n] = K+1  ~ Uniform(a box),  if there is noise
//
// with Sigma[k] = diag(scales) corr_chol corr_chol' diag(scales). The covariance types are choices
// of how many scales and correlations there are:
//
//                      scale_components   scale_features   n_correlations
//   full               K                  D                K
//   tied               1                  D                1
//   tied_correlation   K                  D                1
//   diag               K                  D                0
//   tied_diag          1                  D                0
//   spherical          K                  1                0
//   tied_spherical     1                  1                0
//
// n_correlations is 0 for every type when D = 1.
//
// A sampler finds its way where a component holds few rows if the component's mean is told as it
// would be known from one row, the pivot, and the prior: means[k] = center + unit .* corr_chol
// location[k], where 1 / unit^2 = 1 / scales^2 + 1 / means_scale^2 and the center lies between pivot
// and means_location accordingly. Which components' are (means_relative) does not change the model.
//
// Data are rounded, and no component is narrower than the rounding: a feature's standard deviation
// given all others, scales[c, s] / sqrt(Q[s, s]) with Q the inverse of the correlation matrix, is
// above scale_floor[s]. Without such a bound the posterior is improper as soon as values are equal.
// The prior of the scales is cut off at the bound that the correlations leave, and divided by the
// probability above it.
//
// The likelihood, mixture_lpdf, comes from the
// folder on the include path: kernel/portable (plain Stan) or kernel/native (C++).
functions {
#include mixture_lpdf.stan

  // Log of erfc(z) for z >= 0; an asymptotic series where erfc is too small for a double.
  real log_erfc(real z) {
    if (z < 25) {
      return log(erfc(z));
    }
    real u = 0.5 / square(z);
    return -square(z) - log(z) - 0.5 * log(pi()) + log1p(u * (-1 + u * (3 - u * (15 - 105 * u))));
  }

  // Log of the lower incomplete gamma function ratio P(a, y): its series (DLMF 8.7.1) has no
  // cancellation.
  real log_gamma_ratio(real a, real y) {
    real term = 1;
    real total = 1;
    real n = 0;
    while (term > 1e-17 * total) {
      n += 1;
      term *= y / (a + n);
      total += term;
    }
    return a * log(y) - y - lgamma(a + 1) + log(total);
  }

  // Bounds of the scales under a correlation matrix, by its Cholesky factor, see above.
  vector scale_bounds(vector scale_floor, matrix corr_chol) {
    matrix[rows(corr_chol), rows(corr_chol)] inverse
      = mdivide_left_tri_low(corr_chol, identity_matrix(rows(corr_chol)));
    return scale_floor .* sqrt(columns_dot_self(inverse))';
  }

  // Log prior density of one vector of scales (any length), with its normalizing constant.
  // family: 1 half-Cauchy(b), 2 half-normal(b), 3 inverse gamma(a, b) on the square of the scale.
  real scale_prior_lpdf(vector scale, int family, vector a, vector b) {
    if (family == 1) {
      return cauchy_lpdf(scale | 0, b) + num_elements(scale) * log2();
    } else if (family == 2) {
      return normal_lpdf(scale | 0, b) + num_elements(scale) * log2();
    }
    return inv_gamma_lpdf(square(scale) | a, b) + sum(log(scale)) + num_elements(scale) * log2();
  }

  // Log prior probability that the scales are above their bounds, by which the density is divided.
  real scale_prior_log_above(vector bound, int family, vector a, vector b) {
    vector[num_elements(bound)] above;
    for (s in 1 : num_elements(bound)) {
      if (family == 1) {
        above[s] = log(atan2(b[s], bound[s])) + log2() - log(pi());
      } else if (family == 2) {
        above[s] = log_erfc(bound[s] / (b[s] * sqrt2()));
      } else if (square(bound[s]) * (2 * a[s] + 100) < b[s]) {
        above[s] = 0; // to all digits
      } else {
        above[s] = log_gamma_ratio(a[s], b[s] / square(bound[s]));
      }
    }
    return sum(above);
  }
}
data {
  int<lower=1> N; // observations (rows)
  int<lower=1> D; // features (columns)
  int<lower=1> K; // components
  matrix[N, D] x; // the data, centred and scaled to the order of 1; anything where missing

  int<lower=0, upper=N> n_sample_weights;           // N, or 0 when every row counts once
  vector<lower=0>[n_sample_weights] sample_weight;  // how often each row counts (a frequency)

  // Rows that miss the same features and share what is known of their component follow one
  // another. No groups: every row is complete, and no component is known.
  int<lower=0> n_groups;
  array[n_groups] int<lower=1> group_rows;                 // how many rows; N in all
  array[n_groups] int<lower=0, upper=K> group_component;   // the known component, or 0
  array[n_groups, D] int<lower=0, upper=1> group_observed; // 1: the rows have this feature

  int<lower=0, upper=1> noise;           // 1: a uniform component besides, whose weight is the last
  vector[noise * D] noise_log_density;   // its log density in each feature, units of 1 / x

  int<lower=1> scale_components; // vectors of scales: K, or 1 when shared
  int<lower=1> scale_features;   // scales in each: D, or 1 when all features share one
  int<lower=0> n_correlations;   // correlation matrices: K, 1 (shared) or 0

  vector<lower=0>[K + noise] weights_concentration;                      // Dirichlet alpha
  array[K] vector[D] means_location;                                     // prior means, units of x
  array[K] vector<lower=0>[D] means_scale;                               // prior sds, units of x
  int<lower=1, upper=3> scale_family;                                    // see scale_prior_lpdf
  array[scale_components] vector<lower=0>[scale_features] scale_shape;   // inverse gamma only
  array[scale_components] vector<lower=0>[scale_features] scale_scale;   // units of x (of x^2: inverse gamma)
  vector<lower=0>[scale_features] scale_floor;                           // units of x; 0: no bound
  real<lower=0> correlation_shape;                                       // LKJ eta

  array[K] int<lower=0, upper=1> means_relative; // 1: location is relative to a pivot
  array[K] vector[D] pivot;                      // units of x

  int<lower=0, upper=1> use_prior;      // 0: likelihood only (maximum likelihood)
  int<lower=0, upper=1> use_likelihood; // 0: prior only (prior draws)
}
transformed data {
  if (n_groups > 0 && sum(group_rows) != N) {
    reject("the groups have ", sum(group_rows), " rows, but x has ", N);
  }
  real log_above_floor = 0; // without correlations the bounds are known
  if (n_correlations == 0) {
    for (c in 1 : scale_components) {
      log_above_floor += scale_prior_log_above(scale_floor, scale_family, scale_shape[c],
                                               scale_scale[c]);
    }
  }
}
parameters {
  simplex[K + noise] weights;                                     // mixing proportions
  array[K] vector[D] location;                                    // component means, or relative ones
  array[scale_components] vector<lower=0>[scale_features] excess; // of scales above their bounds
  array[n_correlations] cholesky_factor_corr[D] corr_chol;        // Cholesky factors of correlations
}
transformed parameters {
  array[K] vector[D] means;                                       // component means, units of x
  array[scale_components] vector<lower=0>[scale_features] scales; // standard deviations, units of x
  real log_volume = 0;                                            // log |d means / d location|
  real log_above = log_above_floor;                               // see scale_prior_log_above
  for (c in 1 : scale_components) {
    if (n_correlations == 0) {
      scales[c] = scale_floor + excess[c];
    } else {
      vector[D] bounds = scale_bounds(scale_floor, corr_chol[min(c, n_correlations)]);
      scales[c] = bounds + excess[c];
      log_above += scale_prior_log_above(bounds, scale_family, scale_shape[c], scale_scale[c]);
    }
  }
  means = location;
  for (k in 1 : K) {
    if (means_relative[k]) {
      vector[D] scale = rep_vector(scales[min(k, scale_components)][1], D);
      if (scale_features > 1) {
        scale = scales[min(k, scale_components)];
      }
      vector[D] share = inv(1 + square(scale ./ means_scale[k])); // of the row, beside the prior
      vector[D] center = means_location[k] + share .* (pivot[k] - means_location[k]);
      vector[D] unit = scale .* sqrt(share);
      log_volume += sum(log(unit));
      if (n_correlations == 0) {
        means[k] = center + unit .* location[k];
      } else {
        means[k] = center + unit .* (corr_chol[min(k, n_correlations)] * location[k]);
        log_volume += sum(log(diagonal(corr_chol[min(k, n_correlations)])));
      }
    }
  }
}
model {
  target += log_volume;
  if (use_prior) {
    target += dirichlet_lpdf(weights | weights_concentration);
    for (k in 1 : K) {
      target += normal_lpdf(means[k] | means_location[k], means_scale[k]);
    }
    for (c in 1 : scale_components) { // d scales / d excess = 1
      target += scale_prior_lpdf(scales[c] | scale_family, scale_shape[c], scale_scale[c]);
    }
    target += -log_above;
    for (r in 1 : n_correlations) {
      target += lkj_corr_cholesky_lpdf(corr_chol[r] | correlation_shape);
    }
  }
  if (use_likelihood) {
    target += mixture_lpdf(x | sample_weight, group_rows, group_component, group_observed,
                           noise_log_density, weights, means, scales, corr_chol);
  }
}
generated quantities {
  real log_likelihood = 0; // of all rows; stays 0 when the likelihood is switched off
  if (use_likelihood) {
    log_likelihood = mixture_lpdf(x | sample_weight, group_rows, group_component, group_observed,
                                  noise_log_density, weights, means, scales, corr_chol);
  }
}
