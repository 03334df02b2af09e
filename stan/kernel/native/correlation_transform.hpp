// Stan's transform to the Cholesky factor of a correlation matrix, as one node on the tape.
//
// Stan makes half a dozen nodes of every element and takes as many logarithms; with many features
// that is a good part of an evaluation, and the part that threads cannot share. With row i's
// unconstrained parameters y_j, j < i (Lewandowski, Kurowicka & Joe 2009,
// doi:10.1016/j.jmva.2009.04.008),
//
//   z_j = tanh y_j,  s_j = 1 / cosh y_j,  P_j = s_0 ... s_{j-1} = sqrt(1 - x_i0^2 - x_i1^2 ...):
//   x_ij = z_j P_j,  x_ii = P_i,  log |Jacobian| = sum_ij (i + 1 - j) log s_j.
//
// Stan's function of doubles stays in use and writes the draws. The factor is therefore computed in
// its very steps, and has the same bits; and the overloads are bound to the versions of Stan that
// `make test-stan-versions` has compared.
#ifndef STANGMM_CORRELATION_TRANSFORM_HPP
#define STANGMM_CORRELATION_TRANSFORM_HPP

#include <stan/model/model_header.hpp>
#include <stan/version.hpp>

#include <cmath>
#include <vector>

namespace stangmm {

// The factor of a D x D matrix; adds the log Jacobian to *lp unless that is null.
template <typename Vector>
Eigen::Matrix<stan::math::var, -1, -1> correlation_factor(const Vector& y, int D,
                                                          stan::math::var* lp) {
  using stan::math::var;
  using stan::math::vari;
  typedef Eigen::Matrix<var, -1, -1> matrix;
  const int n = D * (D - 1) / 2;
  stan::math::check_size_match("cholesky_corr_constrain", "y.size()", y.size(), "k_choose_2", n);
  stan::math::arena_matrix<Eigen::Matrix<var, -1, 1>> from = y;
  stan::math::arena_matrix<Eigen::VectorXd> z(n), s(n), before(n);  // the last: P_j
  stan::math::arena_matrix<matrix> to(D, D);
  const var zero(new vari(0.0, false));
  double log_jacobian = 0;
  std::vector<double> product(D, 1.0);  // of half by i - j: one logarithm does for many
  const auto take_logarithm = [&](int distance) {
    log_jacobian -= (distance + 1) * std::log(product[distance]);
    product[distance] = 1;
  };
  for (int i = 0, k = 0; i < D; ++i) {
    double squares = 0, p = 1;
    for (int j = 0; j < i; ++j, ++k) {
      const double size = std::fabs(from.coeff(k).val());
      const double t = std::exp(-size);
      const double half = 0.5 * (1 + t * t);  // 1 / cosh = t / half
      const double tanh = std::tanh(from.coeff(k).val());
      const double x = tanh * p;
      z.coeffRef(k) = tanh;
      s.coeffRef(k) = t / half;
      before.coeffRef(k) = p;
      to.coeffRef(i, j) = var(new vari(x, false));
      squares += x * x;
      p = std::sqrt(1 - squares);
      log_jacobian -= (i - j + 1) * size;
      product[i - j] *= half;
      if (product[i - j] < 1e-100) take_logarithm(i - j);
    }
    to.coeffRef(i, i) = var(new vari(p, false));
    for (int j = i + 1; j < D; ++j) to.coeffRef(i, j) = zero;
  }
  for (int distance = 1; distance < D; ++distance) take_logarithm(distance);
  if (lp) *lp += log_jacobian;
  const var total = lp ? *lp : var(new vari(0.0, false));
  stan::math::reverse_pass_callback([from, z, s, before, to, total, D]() mutable {
    for (int i = 1; i < D; ++i) {
      double p_adjoint = to.coeff(i, i).adj();
      for (int j = i - 1; j >= 0; --j) {
        const int k = i * (i - 1) / 2 + j;
        const double x_adjoint = to.coeff(i, j).adj();
        from.coeffRef(k).adj()
            += before.coeff(k) * s.coeff(k) * (x_adjoint * s.coeff(k) - p_adjoint * z.coeff(k))
               - total.adj() * (i - j + 1) * z.coeff(k);
        p_adjoint = x_adjoint * z.coeff(k) + p_adjoint * s.coeff(k);
      }
    }
  });
  return to;
}

}  // namespace stangmm

#if STAN_MAJOR == 2 && STAN_MINOR <= 39
namespace stan {
namespace math {

// Found by the type of their arguments, and better matches than Stan's own templates.
typedef Eigen::Map<Eigen::Matrix<var, -1, 1>> map_of_vars;
typedef Eigen::Map<const Eigen::Matrix<var, -1, 1>> map_of_const_vars;

inline Eigen::Matrix<var, -1, -1> cholesky_corr_constrain(const map_of_vars& y, int K) {
  return stangmm::correlation_factor(y, K, nullptr);
}
inline Eigen::Matrix<var, -1, -1> cholesky_corr_constrain(const map_of_const_vars& y, int K) {
  return stangmm::correlation_factor(y, K, nullptr);
}
inline Eigen::Matrix<var, -1, -1> cholesky_corr_constrain(const map_of_vars& y, int K, var& lp) {
  return stangmm::correlation_factor(y, K, &lp);
}
inline Eigen::Matrix<var, -1, -1> cholesky_corr_constrain(const map_of_const_vars& y, int K,
                                                          var& lp) {
  return stangmm::correlation_factor(y, K, &lp);
}

}  // namespace math
}  // namespace stan
#endif

#endif
