"""The model: what is to be fitted, as numbers of components, covariances, priors and densities."""
