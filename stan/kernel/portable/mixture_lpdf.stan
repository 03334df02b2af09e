  // The mixture's log likelihood in plain Stan, vectorized over observations: the reference
  // kernel. It runs on any Stan from 2.27 on.

  // The features that a group of rows has.
  array[] int features_of(array[] int observed) {
    array[sum(observed)] int features;
    int n = 0;
    for (d in 1 : size(observed)) {
      if (observed[d]) {
        n += 1;
        features[n] = d;
      }
    }
    return features;
  }

  // Cholesky factor of some features' correlation matrix. Leading features have a leading block.
  matrix marginal_factor(matrix corr_chol, array[] int features) {
    int n = size(features);
    if (n == 0 || features[n] == n) {
      return corr_chol[features, features];
    }
    return cholesky_decompose(tcrossprod(corr_chol[features]));
  }

  // Log density of each row of x, all of them complete: log p(x[n]), or log p(x[n], z[n] = known)
  // if the component is known (not 0). Rows of unknown component may be noise.
  vector row_log_density(data matrix x, int known, data vector noise_log_density, vector weights,
                         array[] vector means, array[] vector scales, array[] matrix corr_chol) {
    int N = rows(x);
    int D = cols(x);
    int first = known ? known : 1;
    int last = known ? known : size(means);
    int n_scales = size(scales); // an int first: Stan 2.27 cannot compile min(k, size(...))
    int n_correlations = size(corr_chol);
    int noise = known ? 0 : num_elements(weights) - size(means);
    matrix[D, N] xt = x';
    matrix[N, last - first + 1 + noise] log_joint; // log p(x[n], z[n] = k)
    vector[N] log_density;
    for (k in first : last) {
      int c = min(k, n_scales);
      vector[D] scale = num_elements(scales[c]) == D ? scales[c] : rep_vector(scales[c][1], D);
      real log_det = sum(log(scale));
      matrix[D, N] standardized = xt - rep_matrix(means[k], N);
      if (n_correlations == 0) {
        standardized = diag_pre_multiply(inv(scale), standardized);
      } else {
        int r = min(k, n_correlations);
        log_det += sum(log(diagonal(corr_chol[r])));
        standardized = mdivide_left_tri_low(diag_pre_multiply(scale, corr_chol[r]), standardized);
      }
      log_joint[ : , k - first + 1] = log(weights[k]) - log_det - 0.5 * D * log(2 * pi())
                                      - 0.5 * columns_dot_self(standardized)';
    }
    if (noise) {
      log_joint[ : , last + 1] = rep_vector(log(weights[last + 1]) + sum(noise_log_density), N);
    }
    for (n in 1 : N) {
      log_density[n] = log_sum_exp(log_joint[n]);
    }
    return log_density;
  }

  //   x                N x D   observations; what is missing is not read
  //   sample_weight    N or 0  how often each row counts; empty: once
  //   group_rows       G       rows of each group, one group after another; G = 0: all rows are
  //                            complete and of unknown component
  //   group_component  G       the component that a group's rows come from, 0 where unknown
  //   group_observed   G x D   1 for the features that a group's rows have
  //   noise_log_density D or 0 log density of the noise in each feature; empty: there is no noise
  //   weights          K       mixing proportions; with noise K + 1, the last of which is its
  //   means            K of D  component means
  //   scales           K or 1 vectors of D or 1 standard deviations
  //   corr_chol        K, 1 or 0 Cholesky factors (D x D) of correlation matrices
  //
  // A row has the density of its observed features, the others integrated out; with known
  // component k, the joint density weights[k] p(x[n] | k).
  real mixture_lpdf(data matrix x, data vector sample_weight, array[] int group_rows,
                    array[] int group_component, array[,] int group_observed,
                    data vector noise_log_density, vector weights, array[] vector means,
                    array[] vector scales, array[] matrix corr_chol) {
    vector[rows(x)] log_density;
    int end = 0;
    if (size(group_rows) == 0) {
      log_density = row_log_density(x, 0, noise_log_density, weights, means, scales, corr_chol);
    }
    for (g in 1 : size(group_rows)) {
      int begin = end + 1;
      int n = sum(group_observed[g]);
      array[n] int features = features_of(group_observed[g]);
      int noise = num_elements(noise_log_density) > 0;
      array[size(corr_chol)] matrix[n, n] factors;
      end += group_rows[g];
      for (r in 1 : size(corr_chol)) {
        factors[r] = marginal_factor(corr_chol[r], features);
      }
      log_density[begin : end] = row_log_density(x[begin : end, features], group_component[g],
                                   noise_log_density[noise ? features : rep_array(1, 0)],
                                   weights, means[ : , features],
                                   size(scales[1]) == cols(x) ? scales[ : , features] : scales,
                                   factors);
    }
    return num_elements(sample_weight) == 0 ? sum(log_density)
                                            : dot_product(sample_weight, log_density);
  }
