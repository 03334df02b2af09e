// The kernel on the include path as a function to call from C++, without a model around it.
functions {
#include mixture_lpdf.stan
}
