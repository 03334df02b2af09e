// Evaluates a likelihood kernel at points read from a file: value and gradient, as text.
//
//   kernel_driver native|portable|avx512|avx2|plain points
//   kernel_driver factor transforms
//
// "native" and "portable" go through Stan's types; the names of instruction sets run that form of
// the native kernel's inner loops. A point in the file is
//   N D K n_sample_weight n_groups n_scales scale_size n_correlations n_noise
// and then group_rows, group_component, group_observed (by rows), noise_log_density (D or 0
// numbers), x (by columns), sample_weight, weights, means, scales, and corr_chol (by rows). Every point gives one line: the value without a
// gradient, the value with it, and the gradient in the order of the parameters (0 above the
// diagonal of corr_chol); or "error" and the message.
//
// A transform in the file is D, D (D - 1) / 2 unconstrained parameters and D x D numbers C (by
// rows). Its line: the log Jacobian; the Cholesky factor (by rows); the gradient, by the parameters,
// of log Jacobian + sum(C * factor), then that of the sum alone; how many nodes that took; and 1 if
// Stan's function of doubles gives the same factor, to the bit.
#include "mixture_lpdf.hpp"

#include "portable_kernel.hpp"  // made by stanc of kernel_functions.stan

#include <cstdio>
#include <fstream>
#include <iostream>

namespace {

struct point {
  std::vector<int> group_rows, group_component;
  std::vector<std::vector<int>> group_observed;
  Eigen::MatrixXd x;
  Eigen::VectorXd noise_log_density, sample_weight, weights;
  std::vector<Eigen::VectorXd> means, scales;
  std::vector<Eigen::MatrixXd> corr_chol;
};

double read_number(std::istream& in) {
  std::string word;
  in >> word;
  return std::strtod(word.c_str(), nullptr);  // takes inf and nan, which >> does not
}

template <typename M>
void read_columns(std::istream& in, M& m) {
  for (int j = 0; j < m.cols(); ++j) {
    for (int i = 0; i < m.rows(); ++i) m(i, j) = read_number(in);
  }
}

bool read_point(std::istream& in, point& p) {
  int N, D, K, n_weights, n_groups, n_scales, scale_size, n_correlations, n_noise;
  if (!(in >> N >> D >> K >> n_weights >> n_groups >> n_scales >> scale_size >> n_correlations
        >> n_noise)) {
    return false;
  }
  p.group_rows.resize(n_groups);
  p.group_component.resize(n_groups);
  p.group_observed.assign(n_groups, std::vector<int>(D));
  for (int& n : p.group_rows) in >> n;
  for (int& k : p.group_component) in >> k;
  for (auto& group : p.group_observed) for (int& yes : group) in >> yes;
  p.x.resize(N, D);
  p.sample_weight.resize(n_weights);
  p.noise_log_density.resize(n_noise);
  p.weights.resize(K + (n_noise > 0));
  p.means.assign(K, Eigen::VectorXd(D));
  p.scales.assign(n_scales, Eigen::VectorXd(scale_size));
  p.corr_chol.assign(n_correlations, Eigen::MatrixXd(D, D));
  read_columns(in, p.noise_log_density);
  read_columns(in, p.x);
  read_columns(in, p.sample_weight);
  read_columns(in, p.weights);
  for (auto& m : p.means) read_columns(in, m);
  for (auto& s : p.scales) read_columns(in, s);
  for (auto& c : p.corr_chol) {
    read_columns(in, c);
    c.transposeInPlace();
  }
  return true;
}

template <typename T>
struct parameters {
  Eigen::Matrix<T, -1, 1> weights;
  std::vector<Eigen::Matrix<T, -1, 1>> means, scales;
  std::vector<Eigen::Matrix<T, -1, -1>> corr_chol;

  explicit parameters(const point& p) : weights(p.weights.template cast<T>()) {
    for (const auto& m : p.means) means.push_back(m.template cast<T>());
    for (const auto& s : p.scales) scales.push_back(s.template cast<T>());
    for (const auto& c : p.corr_chol) corr_chol.push_back(c.template cast<T>());
  }
};

template <typename T>
T call(const std::string& kernel, const point& p, const parameters<T>& q) {
  // Maps, as in a model's data block.
  const Eigen::Map<Eigen::MatrixXd> x(const_cast<double*>(p.x.data()), p.x.rows(), p.x.cols());
  const auto map = [](const Eigen::VectorXd& v) {
    return Eigen::Map<Eigen::VectorXd>(const_cast<double*>(v.data()), v.size());
  };
  const auto w = map(p.sample_weight), noise = map(p.noise_log_density);
  if (kernel == "portable") {
    return portable_model_namespace::mixture_lpdf<false>(
        x, w, p.group_rows, p.group_component, p.group_observed, noise, q.weights, q.means,
        q.scales, q.corr_chol, &std::cerr);
  }
  return gaussian_mixture_model_namespace::mixture_lpdf<false>(
      x, w, p.group_rows, p.group_component, p.group_observed, noise, q.weights, q.means, q.scales,
      q.corr_chol, &std::cerr);
}

void through_stan(const std::string& kernel, const point& p) {
  using stan::math::var;
  double value_only;
  {
    const parameters<double> q(p);
    value_only = call(kernel, p, q);
  }
  try {
    const parameters<var> q(p);
    var value = call(kernel, p, q);
    value.grad();
    std::printf("%.17g %.17g", value_only, value.val());
    const auto print = [](const var& v) { std::printf(" %.17g", v.adj()); };
    for (int k = 0; k < q.weights.size(); ++k) print(q.weights(k));
    for (const auto& m : q.means) for (int i = 0; i < m.size(); ++i) print(m(i));
    for (const auto& s : q.scales) for (int i = 0; i < s.size(); ++i) print(s(i));
    for (const auto& c : q.corr_chol) {
      for (int i = 0; i < c.rows(); ++i) {
        for (int j = 0; j < c.cols(); ++j) print(j <= i ? c(i, j) : var(0.0));
      }
    }
    std::printf("\n");
  } catch (const std::domain_error& e) {
    std::printf("error %.17g %s\n", value_only, e.what());
  }
  stan::math::recover_memory();
}

void through_instruction_set(stangmm::chunk_function run_chunk, const point& p) {
  const parameters<double> q(p);
  const stangmm::data_vector noise(const_cast<double*>(p.noise_log_density.data()),
                                   p.noise_log_density.size());
  const auto values
      = stangmm::to_values(p.x.cols(), noise, q.weights, q.means, q.scales, q.corr_chol);
  stangmm::mixture_values gradient;
  const stangmm::mixture_data data{p.x.data(), p.x.rows(), p.x.rows(),
                                   p.sample_weight.size() ? p.sample_weight.data() : nullptr,
                                   nullptr};
  const stangmm::row_groups groups{p.group_rows, p.group_component, p.group_observed};
  std::printf("%.17g", stangmm::log_likelihood(data, groups, values, nullptr, run_chunk));
  std::printf(" %.17g", stangmm::log_likelihood(data, groups, values, &gradient, run_chunk));
  for (const auto* part : {&gradient.weights, &gradient.means, &gradient.scales}) {
    for (double g : *part) std::printf(" %.17g", g);
  }
  for (int r = 0; r < values.n_correlations; ++r) {
    for (int i = 0; i < values.D; ++i) {
      for (int j = 0; j < values.D; ++j) {
        std::printf(" %.17g", j <= i ? gradient.chol(r)[i * values.D + j] : 0.0);
      }
    }
  }
  std::printf("\n");
}

// Called as Stan's reader of parameters calls it.
void transform(std::istream& in, int D) {
  using stan::math::cholesky_corr_constrain;
  using stan::math::var;
  Eigen::VectorXd y(D * (D - 1) / 2);
  Eigen::MatrixXd c(D, D);
  read_columns(in, y);
  read_columns(in, c);
  c.transposeInPlace();
  for (const bool jacobian : {true, false}) {
    Eigen::Matrix<var, -1, 1> parameters = y.cast<var>();
    const Eigen::Map<const Eigen::Matrix<var, -1, 1>> map(parameters.data(), parameters.size());
    const auto nodes_before = stan::math::ChainableStack::instance_->var_stack_.size();
    var total = 0;
    const Eigen::Matrix<var, -1, -1> factor
        = jacobian ? cholesky_corr_constrain(map, D, total) : cholesky_corr_constrain(map, D);
    const auto nodes = stan::math::ChainableStack::instance_->var_stack_.size() - nodes_before;
    if (jacobian) {
      std::printf("%.17g", total.val());
      for (int i = 0; i < D; ++i) {
        for (int j = 0; j < D; ++j) std::printf(" %.17g", factor(i, j).val());
      }
    }
    for (int i = 0; i < D * D; ++i) total += c(i / D, i % D) * factor(i / D, i % D);
    total.grad();
    for (int i = 0; i < y.size(); ++i) std::printf(" %.17g", parameters(i).adj());
    if (!jacobian) {
      const Eigen::MatrixXd plain = cholesky_corr_constrain(y, D);
      bool same = true;
      for (int i = 0; i < D * D; ++i) same &= plain(i / D, i % D) == factor(i / D, i % D).val();
      std::printf(" %zu %d\n", nodes, same);
    }
    stan::math::recover_memory();
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string kernel = argv[1];
#ifdef STAN_THREADS
  stan::math::init_threadpool_tbb();
#endif
  stan::math::ChainableStack stack;  // the tape of this thread
  stangmm::chunk_function chosen = nullptr;
  for (const auto& set : stangmm::usable_instruction_sets()) {
    if (kernel == set.name) chosen = set.run_chunk;
  }
  if (!chosen && (kernel == "avx512" || kernel == "avx2")) {
    std::printf("unusable\n");
    return 0;
  }
  std::ifstream in(argv[2]);
  if (kernel == "factor") {
    for (int D; in >> D;) transform(in, D);
    return 0;
  }
  point p;
  while (read_point(in, p)) {
    if (chosen) through_instruction_set(chosen, p);
    else through_stan(kernel, p);
  }
  return 0;
}
