"""A posterior with two modes that no relabelling turns into each other, and what is said of it."""

import numpy as np

import stangmm as sg

# Four tight groups at the corners of a rectangle, for two components: either the left and the right
# side, or the upper and the lower one.
CORNERS = np.array([[-2.0, -2.1], [-2.0, 2.1], [2.0, -2.1], [2.0, 2.1]])
GROUP = np.array([[-0.3, 0.2], [-0.1, -0.3], [0.0, 0.3], [0.15, 0.0], [0.25, -0.2]])


def main() -> None:
    x = (CORNERS[:, np.newaxis] + GROUP).reshape(-1, 2)
    priors = sg.Priors(means=sg.Normal(0.0, 4.0), scales=sg.HalfNormal(2.0))
    fit = sg.GaussianMixture(2, "diag", priors).fit(x, method="nuts", seed=1)

    print(fit.diagnose()["modes"])
    print(fit.modes)
    print("weights that predict best:", fit.modes.weights("stacking").round(3))
    whole = fit.combined()
    print(whole)
    print(whole.diagnose()["weights of the modes"])


if __name__ == "__main__":
    main()
