// Evaluates and times the log density and gradient of a compiled Stan model, without CmdStan.
//
//   model_driver data point [point ...]
//
// MODEL is the header stanc made of the model. The files hold variables, one a line:
//   name int|real n_dims dims ... values ... (first index fastest)
// data those of the data block, a point those of the parameters block. For each point one line is
// printed: the log density and its gradient with respect to the unconstrained parameters. Then
// every number read from the standard input asks for as many evaluations at the last point and is
// answered with the seconds of processor time and of the clock they took, and with the clock's
// seconds of the shortest one.
#include <stan/model/model_header.hpp>

#include MODEL

#include <stan/io/array_var_context.hpp>
#include <stan/model/log_prob_grad.hpp>

#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <sstream>

namespace {

stan::io::array_var_context read_variables(const char* file) {
  std::vector<std::string> names_r, names_i;
  std::vector<double> values_r;
  std::vector<int> values_i;
  std::vector<std::vector<std::size_t>> dims_r, dims_i;
  std::ifstream in(file);
  std::string line, name, kind;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::size_t n_dims;
    words >> name >> kind >> n_dims;
    std::vector<std::size_t> dims(n_dims);
    for (auto& d : dims) words >> d;
    std::string word;
    if (kind == "int") {
      names_i.push_back(name);
      dims_i.push_back(dims);
      while (words >> word) values_i.push_back(std::stoi(word));
    } else {
      names_r.push_back(name);
      dims_r.push_back(dims);
      while (words >> word) values_r.push_back(std::strtod(word.c_str(), nullptr));
    }
  }
  return stan::io::array_var_context(names_r, values_r, dims_r, names_i, values_i, dims_i);
}

}  // namespace

int main(int argc, char** argv) {
#ifdef STAN_THREADS
  stan::math::init_threadpool_tbb();
#endif
  stan::math::ChainableStack stack;  // the tape of this thread
  auto data = read_variables(argv[1]);
  stan_model model(data, 1, &std::cerr);
  std::vector<int> integers;
  std::vector<double> point, gradient;
  for (int i = 2; i < argc; ++i) {
    auto variables = read_variables(argv[i]);
    model.transform_inits(variables, integers, point, &std::cerr);
    const double value
        = stan::model::log_prob_grad<true, true>(model, point, integers, gradient, &std::cerr);
    std::printf("%.17g", value);
    for (double g : gradient) std::printf(" %.17g", g);
    std::printf("\n");
  }
  std::fflush(stdout);
  const auto now = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  };
  for (long repeats; std::cin >> repeats;) {
    double least = 1e300;
    const std::clock_t processor_start = std::clock();
    const double start = now();
    double last = start;
    for (long r = 0; r < repeats; ++r) {
      stan::model::log_prob_grad<true, true>(model, point, integers, gradient, &std::cerr);
      const double end = now();
      least = std::min(least, end - last);
      last = end;
    }
    const double processor = static_cast<double>(std::clock() - processor_start) / CLOCKS_PER_SEC;
    std::printf("%.9g %.9g %.9g\n", processor, last - start, least);
    std::fflush(stdout);
  }
  return 0;
}
