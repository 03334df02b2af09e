// The Gaussian mixture model of stangmm, with the component labels summed out.
//
//   weights            ~ Dirichlet(weights_concentration)
//   means[k, d]        ~ Normal(means_location[k, d], means_scale[k, d])
//   scales[c, s]       ~ HalfCauchy, HalfNormal, or InverseGamma on scales^2
//   corr_chol[r]       ~ LKJ(correlation_shape), as the Cholesky factor of a correlation matrix
//   x[n] | z[n] = k    ~ Normal(means[k], Sigma[k]),   P(z[n] = k) = weights[k]
//
// with Sigma[k] = diag(scales) corr_chol corr_chol' diag(scales). The four covariance types are
// four choices of how many scales and correlations there are:
//
//                scale_components   scale_features   n_correlations
//   full         K                  D                K
//   tied         1                  D                1
//   diag         K                  D                0
//   spherical    K                  1                0
//
// n_correlations is 0 for every type when D = 1. The likelihood, mixture_lpdf, comes from the
// folder on the include path: kernel/portable (plain Stan) or kernel/native (C++).
functions {
#include mixture_lpdf.stan

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

  int<lower=1> scale_components; // vectors of scales: K, or 1 when shared
  int<lower=1> scale_features;   // scales in each: D, or 1 when all features share one
  int<lower=0> n_correlations;   // correlation matrices: K, 1 (shared) or 0

  vector<lower=0>[K] weights_concentration;                              // Dirichlet alpha
  array[K] vector[D] means_location;                                     // prior means, units of x
  array[K] vector<lower=0>[D] means_scale;                               // prior sds, units of x
  int<lower=1, upper=3> scale_family;                                    // see scale_prior_lpdf
  array[scale_components] vector<lower=0>[scale_features] scale_shape;   // inverse gamma only
  array[scale_components] vector<lower=0>[scale_features] scale_scale;   // units of x (of x^2: inverse gamma)
  real<lower=0> correlation_shape;                                       // LKJ eta

  int<lower=0, upper=1> use_prior;      // 0: likelihood only (maximum likelihood)
  int<lower=0, upper=1> use_likelihood; // 0: prior only (prior draws)
}
transformed data {
  if (n_groups > 0 && sum(group_rows) != N) {
    reject("the groups have ", sum(group_rows), " rows, but x has ", N);
  }
}
parameters {
  simplex[K] weights;                                             // mixing proportions
  array[K] vector[D] means;                                       // component means, units of x
  array[scale_components] vector<lower=0>[scale_features] scales; // standard deviations, units of x
  array[n_correlations] cholesky_factor_corr[D] corr_chol;        // Cholesky factors of correlations
}
model {
  if (use_prior) {
    target += dirichlet_lpdf(weights | weights_concentration);
    for (k in 1 : K) {
      target += normal_lpdf(means[k] | means_location[k], means_scale[k]);
    }
    for (c in 1 : scale_components) {
      target += scale_prior_lpdf(scales[c] | scale_family, scale_shape[c], scale_scale[c]);
    }
    for (r in 1 : n_correlations) {
      target += lkj_corr_cholesky_lpdf(corr_chol[r] | correlation_shape);
    }
  }
  if (use_likelihood) {
    target += mixture_lpdf(x | sample_weight, group_rows, group_component, group_observed,
                           weights, means, scales, corr_chol);
  }
}
generated quantities {
  real log_likelihood = 0; // of all rows; stays 0 when the likelihood is switched off
  if (use_likelihood) {
    log_likelihood = mixture_lpdf(x | sample_weight, group_rows, group_component, group_observed,
                                  weights, means, scales, corr_chol);
  }
}
