  // The mixture's log likelihood, declared here and defined in C++ (mixture_lpdf.hpp): the native
  // kernel. Value and gradient agree with kernel/portable/mixture_lpdf.stan, which says the same
  // in plain Stan; the arguments are the same:
  //
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
  // Pass named variables of the data and parameters blocks, never expressions: the C++ overload
  // is chosen by their types.
  real mixture_lpdf(data matrix x, data vector sample_weight, array[] int group_rows,
                    array[] int group_component, array[,] int group_observed,
                    data vector noise_log_density, vector weights, array[] vector means,
                    array[] vector scales, array[] matrix corr_chol);
