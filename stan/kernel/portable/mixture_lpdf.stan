  // The mixture's log likelihood in plain Stan, vectorized over observations: the reference
  // kernel. It runs on any Stan from 2.27 on.
  //
  //   x              N x D   observations
  //   sample_weight  N or 0  how often each row counts; empty: once
  //   weights        K       mixing proportions
  //   means          K of D  component means
  //   scales         K or 1 vectors of D or 1 standard deviations
  //   corr_chol      K, 1 or 0 Cholesky factors (D x D) of correlation matrices
  real mixture_lpdf(data matrix x, data vector sample_weight, vector weights,
                    array[] vector means, array[] vector scales, array[] matrix corr_chol) {
    int N = rows(x);
    int D = cols(x);
    int K = size(means);
    int n_scales = size(scales); // an int first: Stan 2.27 cannot compile min(k, size(...))
    int n_correlations = size(corr_chol);
    matrix[D, N] xt = x';
    matrix[N, K] log_joint; // log p(x[n], z[n] = k)
    vector[N] log_density;  // log p(x[n])
    for (k in 1 : K) {
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
      log_joint[ : , k] = log(weights[k]) - log_det - 0.5 * D * log(2 * pi())
                          - 0.5 * columns_dot_self(standardized)';
    }
    for (n in 1 : N) {
      log_density[n] = log_sum_exp(log_joint[n]);
    }
    return num_elements(sample_weight) == 0 ? sum(log_density)
                                            : dot_product(sample_weight, log_density);
  }
