"""Every threshold that turns a number into a verdict stands here, once.

R-hat and ESS: Vehtari et al. 2021 (doi:10.1214/20-BA1221). E-BFMI: Betancourt 2016
(doi:10.48550/arXiv.1604.00695). Pareto k: Vehtari et al. 2024
(https://jmlr.org/papers/v25/19-556.html).
"""

from __future__ import annotations

R_HAT_OK = 1.01
R_HAT_FAIL = 1.05
ESS_PER_CHAIN = 100
E_BFMI_OK = 0.3
PARETO_K_OK = 0.7
# Draws resampled by importance weights: how many should be effective, how many must be.
EFFECTIVE_OK, EFFECTIVE_FAIL = 400, 100
# Standard error of their log densities, in nats, where these are estimated from some of the rows.
LOG_P_ERROR_OK = 0.05
# The share of the posterior, without rows in a component, that they may miss: unsaid, and at all.
MISSED_OK, MISSED_FAIL = 0.01, 0.1
DIVERGENT_SHARE_FAIL = 0.01
# The share of the draws that may stop at the maximum tree depth. They are draws of the posterior
# all the same; what their fewer steps may cost is seen in the effective sample size.
DEEP_SHARE_OK = 0.01

# Two components that could be exchanged with more than this probability are not told apart.
EXCHANGED_OK = 0.05
# Chains whose means of some label-free quantity are so many standard deviations (of a draw) apart
# are in different modes. Within one mode, means differ by a fraction of one.
MODES_APART = 3.0
# Draws of two basins are in one mode where chains move between them at least this often, as a share
# of how often independent draws would.
MODES_MIXED = 0.2
# Modes combined: those of less weight do not matter; the largest standard errors of a weight, where
# log evidence that is not to be trusted counts with an error of a nat at least; and the largest
# share of a mode's draws that look as if they were in another one.
MODE_MATTERS = 1e-3
MODE_WEIGHT_ERROR_OK, MODE_WEIGHT_ERROR_FAIL = 0.05, 0.15
DOUBTFUL_ERROR = 1.0
MODE_OVERLAP_OK = 0.05
# Nats by which a draw, or an optimum that it leads to, is above the best start if that is said.
ABOVE_START = 1.0

# The evidence: its largest standard error in nats, and how far proposal and posterior must overlap.
EVIDENCE_ERROR_OK = 0.5
EVIDENCE_OVERLAP_OK = 0.02
# Draws may miss so much of the evidence (a share of it, about so many nats) unsaid.
EVIDENCE_MISSING_OK = 0.1

COLLAPSED_SHARE_OK = 0.5
# A component whose scale, given the other features, is less than so many times its lower bound
# stands on equal values. Draws lie above the bound, by its N_k-th part where N_k values are equal;
# 1.7 is that of two neighbouring values.
NARROW_AS_ROUNDING = {"point": 1.01, "approximation": 1.5, "mcmc": 1.5}
# From this share of the rows on, equal values are no spike of the density but a cluster.
SHARE_OF_TIES = 0.25
# How far below the best the next optimum should lie, in nats: 3 is a twentieth of the likelihood.
GAP_OK = 3.0
# Rows that a component should hold for each of its own parameters: a point estimate needs more of
# them than a posterior, which widens where rows are few. Draws below it may be this share.
ROWS_PER_PARAMETER = {"point": 2.0, "approximation": 1.0, "mcmc": 1.0}
SPARSE_DRAWS_OK = 0.2
# Rows, by sample weight, that there should be for each component: weights that sum to about 1 are
# shares, not counts. And rows that should have both features, for each free correlation of the two.
ROWS_PER_COMPONENT = 2.0
ROWS_PER_CORRELATION = 2.0
# A component of an approximation that shares less than this part of its rows with the component
# that it began as is another one; two halves of the data drawn at random share half of theirs.
ROWS_KEPT_OK = 0.7

# A row is an outlier if less than this share of the predictive distribution is no denser.
OUTLIER_TAIL = 0.001

# Goodness of fit, all tests together: p-values below which the data are not as the mixture has
# them. A misfit that costs less than so many nats per row is slight, however sure it is: at 0.1,
# about one row in ten lies where it should not.
GOODNESS_P_OK, GOODNESS_P_FAIL = 0.04, 0.005
GOODNESS_NATS_FAIL = 0.1

# In comparisons: from this share of rows on, clusters are the same; estimates further apart (in
# posterior sds) and posterior sds smaller (as a ratio) than these are pointed out.
SAME_CLUSTERS = 0.98
MEANS_APART = 1.0
TOO_SURE = 0.7
