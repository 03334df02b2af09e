  // The mixture's log likelihood, declared here and defined in C++ (mixture_lpdf.hpp): the native
  // kernel. Value and gradient agree with kernel/portable/mixture_lpdf.stan, which says the same
  // in plain Stan; the arguments are the same:
  //
  //   x              N x D   observations
  //   sample_weight  N or 0  how often each row counts; empty: once
  //   weights        K       mixing proportions
  //   means          K of D  component means
  //   scales         K or 1 vectors of D or 1 standard deviations
  //   corr_chol      K, 1 or 0 Cholesky factors (D x D) of correlation matrices
  //
  // Pass named variables of the data and parameters blocks, never expressions: the C++ overload
  // is chosen by their types.
  real mixture_lpdf(data matrix x, data vector sample_weight, vector weights,
                    array[] vector means, array[] vector scales, array[] matrix corr_chol);
