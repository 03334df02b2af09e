// Runs Stan's own optimize, laplace and pathfinder services on a compiled model, called as CmdStan
// is: the arguments that cmdstanpy writes, CSV files as it reads them. It stands in for a CmdStan
// that is newer than the one PyPI has; only its reading of the arguments is not CmdStan's.
//
// MODEL is the header stanc made of the model; STAN_MINOR the minor version of Stan.
#include <stan/model/model_header.hpp>

#include MODEL

#include <stan/callbacks/stream_logger.hpp>
#include <stan/callbacks/unique_stream_writer.hpp>
#include <stan/io/array_var_context.hpp>
#include <stan/io/empty_var_context.hpp>
#include <stan/io/json/json_data.hpp>
#include <stan/services/optimize/laplace_sample.hpp>
#include <stan/services/optimize/lbfgs.hpp>
#include <stan/services/pathfinder/single.hpp>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>

namespace {

using Arguments = std::map<std::string, std::string>;

// "output file=a.csv method=pathfinder num_draws=5" as {output.file: a.csv, method: pathfinder, ...}
Arguments read_arguments(int argc, char** argv) {
  Arguments arguments;
  std::string section;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto equals = word.find('=');
    if (equals == std::string::npos) {
      section = word;
    } else {
      const std::string name = word.substr(0, equals);
      arguments[name == "file" ? section + ".file" : name] = word.substr(equals + 1);
    }
  }
  return arguments;
}

// Takes an argument out, so that those that remain are unknown to this driver.
std::string take(Arguments& arguments, const std::string& name, const std::string& otherwise) {
  const auto found = arguments.find(name);
  if (found == arguments.end()) return otherwise;
  const std::string value = found->second;
  arguments.erase(found);
  return value;
}

double number(Arguments& arguments, const std::string& name, double otherwise) {
  const std::string value = take(arguments, name, "");
  return value.empty() ? otherwise : std::stod(value);
}

std::unique_ptr<stan::io::var_context> json(const std::string& file) {
  if (file.empty()) return std::make_unique<stan::io::empty_var_context>();
  std::ifstream in(file);
  return std::make_unique<stan::json::json_data>(in);
}

// The parameters on the unconstrained scale, from the CSV file of an optimization.
Eigen::VectorXd read_mode(const std::string& file, stan_model& model) {
  std::ifstream in(file);
  std::string line, header, word;
  while (std::getline(in, line)) {
    if (line.empty() || line[0] == '#') continue;
    if (!header.empty()) break;
    header = line;
  }
  std::vector<double> values;
  std::istringstream columns(header), words(line);
  for (std::string column; std::getline(columns, column, ',') && std::getline(words, word, ',');) {
    // The optimizer's own columns: lp__, since 2.39 converged__.
    const bool own = column.size() > 2 && column.compare(column.size() - 2, 2, "__") == 0;
    if (!own) values.push_back(std::strtod(word.c_str(), nullptr));
  }
  std::vector<std::string> names;
  std::vector<std::vector<std::size_t>> dims;
  model.get_param_names(names, false, false);
  model.get_dims(dims, false, false);
  stan::io::array_var_context context(names, values, dims);
  std::vector<int> integers;
  std::vector<double> point;
  model.transform_inits(context, integers, point, &std::cerr);
  return Eigen::Map<Eigen::VectorXd>(point.data(), point.size());
}

int run(Arguments arguments) {
  const unsigned int seed = static_cast<unsigned int>(number(arguments, "seed", 1));
  const unsigned int id = static_cast<unsigned int>(number(arguments, "id", 1));
  const int refresh = static_cast<int>(number(arguments, "refresh", 100));
  const std::string method = take(arguments, "method", "");
  const auto data = json(take(arguments, "data.file", ""));
  const auto init = json(take(arguments, "init", ""));
  auto out = std::make_unique<std::ofstream>(take(arguments, "output.file", "output.csv"));
  out->precision(static_cast<int>(number(arguments, "sig_figs", 8)));
  stan_model model(*data, seed, &std::cerr);
  stan::callbacks::interrupt interrupt;
  stan::callbacks::stream_logger logger(std::cout, std::cout, std::cout, std::cerr, std::cerr);
  stan::callbacks::unique_stream_writer<std::ofstream> writer(std::move(out), "# ");
  stan::callbacks::writer no_inits;
  const bool jacobian = number(arguments, "jacobian", method == "laplace") != 0;
  const int draws
      = static_cast<int>(number(arguments, method == "laplace" ? "draws" : "num_draws", 1000));
  const std::string mode = take(arguments, "mode", "");
  const int elbo_draws = static_cast<int>(number(arguments, "num_elbo_draws", 25));
  const int paths = static_cast<int>(number(arguments, "num_paths", 4));
  const int iterations = static_cast<int>(
      number(arguments, method == "optimize" ? "iter" : "max_lbfgs_iters", 1000));
  number(arguments, "num_psis_draws", 1000);
  take(arguments, "algorithm", "lbfgs");
  const int history = static_cast<int>(number(arguments, "history_size", 5));
  const double alpha = number(arguments, "init_alpha", 0.001);
  const double tol_obj = number(arguments, "tol_obj", 1e-12);
  const double tol_rel_obj = number(arguments, "tol_rel_obj", 1e4);
  const double tol_grad = number(arguments, "tol_grad", 1e-8);
  const double tol_rel_grad = number(arguments, "tol_rel_grad", 1e7);
  const double tol_param = number(arguments, "tol_param", 1e-8);
  if (!arguments.empty()) throw std::runtime_error("unknown argument " + arguments.begin()->first);
  if (method == "optimize") {
    const auto optimize = [&](auto lbfgs) {
      return lbfgs(model, *init, seed, id, 2.0, history, alpha, tol_obj, tol_rel_obj, tol_grad,
                   tol_rel_grad, tol_param, iterations, false, refresh, interrupt, logger, no_inits,
                   writer);
    };
    if (!jacobian) throw std::runtime_error("only jacobian=1 is asked for by what is tested");
    return optimize([](auto&&... a) { return stan::services::optimize::lbfgs<stan_model, true>(a...); });
  }
  if (method == "laplace") {
    if (!jacobian) throw std::runtime_error("only jacobian=1 is asked for by what is tested");
    return stan::services::laplace_sample<true>(model, read_mode(mode, model), draws, seed, refresh,
                                                interrupt, logger, writer);
  }
  if (method == "pathfinder" && paths == 1) {
    stan::callbacks::structured_writer no_diagnostics;
    return stan::services::pathfinder::pathfinder_lbfgs_single(
        model, *init, seed, id, 2.0, history, alpha, tol_obj, tol_rel_obj, tol_grad, tol_rel_grad,
        tol_param, iterations, elbo_draws, draws, false, refresh, interrupt, logger, no_inits, writer,
        no_diagnostics, true);
  }
  throw std::runtime_error("method " + method + " is none of this driver's");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "info") {
    std::cout << "stan_version_major = 2\nstan_version_minor = " << STAN_MINOR
              << "\nstan_version_patch = 0\nSTAN_THREADS=false\n";
    return 0;
  }
  try {
    return run(read_arguments(argc, argv));
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return 1;
  }
}
