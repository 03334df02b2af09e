// The mixture as Stan's manuals write it, for comparison: a loop over observations and components
// with log_sum_exp. Data, parameters and posterior are those of stan/gaussian_mixture.stan with
// half-Cauchy scales and unit sample weights, covariance types full and diag.
data {
  int<lower=1> N;
  int<lower=1> D;
  int<lower=1> K;
  matrix[N, D] x;
  int<lower=1> scale_components;
  int<lower=1> scale_features;
  int<lower=0> n_correlations;
  vector<lower=0>[K] weights_concentration;
  array[K] vector[D] means_location;
  array[K] vector<lower=0>[D] means_scale;
  array[scale_components] vector<lower=0>[scale_features] scale_scale;
  real<lower=0> correlation_shape;
}
transformed data {
  array[N] vector[D] y;
  for (n in 1 : N) {
    y[n] = x[n]';
  }
}
parameters {
  simplex[K] weights;
  array[K] vector[D] means;
  array[scale_components] vector<lower=0>[scale_features] scales;
  array[n_correlations] cholesky_factor_corr[D] corr_chol;
}
model {
  vector[K] log_weights = log(weights);
  target += dirichlet_lpdf(weights | weights_concentration);
  for (k in 1 : K) {
    target += normal_lpdf(means[k] | means_location[k], means_scale[k]);
    target += cauchy_lpdf(scales[k] | 0, scale_scale[k]) + D * log2();
  }
  if (n_correlations == 0) {
    for (n in 1 : N) {
      vector[K] lp = log_weights;
      for (k in 1 : K) {
        lp[k] += normal_lpdf(y[n] | means[k], scales[k]);
      }
      target += log_sum_exp(lp);
    }
  } else {
    array[K] matrix[D, D] L;
    for (k in 1 : K) {
      target += lkj_corr_cholesky_lpdf(corr_chol[k] | correlation_shape);
      L[k] = diag_pre_multiply(scales[k], corr_chol[k]);
    }
    for (n in 1 : N) {
      vector[K] lp = log_weights;
      for (k in 1 : K) {
        lp[k] += multi_normal_cholesky_lpdf(y[n] | means[k], L[k]);
      }
      target += log_sum_exp(lp);
    }
  }
}
