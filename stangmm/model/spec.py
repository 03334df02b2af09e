"""MixtureSpec: what is to be fitted; `GaussianMixture` is this with the call that fits it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

from stangmm.base.checked import check_count, shown
from stangmm.base.errors import ModelError
from stangmm.model.covariance import (
    CovarianceStructure,
    CovarianceType,
    MclustName,
    structure_named,
)
from stangmm.model.noise import Box, checked_noise
from stangmm.model.parameters import ParameterSpace
from stangmm.model.priors import Priors


@dataclass(frozen=True)
class MixtureSpec:
    """K, the covariance type and the priors of a mixture.

    Attributes
    ----------
    n_components : int
        K, at least 1.
    covariance_type : str
        What the components' covariance matrices share: "full", "tied", "tied_correlation", "diag",
        "tied_diag", "spherical" or "tied_spherical". mclust's letters for these are accepted (VVV,
        EEE, VVI, EEI, VII, EII), and for EM also VEI, EVI, VEE, EVV, EEV and VEV.
    priors : Priors
        Those left out get defaults that are scaled by the data.
    noise : bool or float
        Whether there is a uniform component besides; the volume that it fills, if that is not the
        box of the data.

    Raises
    ------
    ModelError
        K below 1, an unknown covariance type, priors that are not `Priors`, or noise of no volume.
    """

    n_components: int
    covariance_type: CovarianceType | MclustName = "full"
    priors: Priors = field(default_factory=Priors)
    noise: bool | float | Box = False

    def __post_init__(self) -> None:
        check_count("n_components", self.n_components)
        object.__setattr__(self, "covariance_type", structure_named(self.covariance_type).name)
        if not isinstance(self.priors, Priors):
            raise ModelError(f"priors must be a Priors object, got {shown(self.priors)}.")
        object.__setattr__(self, "noise", checked_noise(self.noise))

    def __repr__(self) -> str:
        """Only what differs from the defaults, beside the two that say most."""
        given = [
            f"{f.name}={p!r}"
            for f in fields(self.priors)
            if (p := getattr(self.priors, f.name)) is not None
        ]
        priors = f", priors=Priors({', '.join(given)})" if given else ""
        noise = f", noise={self.noise!r}" if self.noise else ""
        return (
            f"{type(self).__name__}(n_components={self.n_components}, "
            f"covariance_type={self.covariance_type!r}{priors}{noise})"
        )

    @property
    def structure(self) -> CovarianceStructure:
        """The covariance structure of that name."""
        return structure_named(self.covariance_type)

    def n_parameters(self, n_features: int) -> int:
        """Count the free parameters: weights, means and covariances.

        Parameters
        ----------
        n_features : int
            D.
        """
        constraints = self.structure.n_constraints(self.n_components, n_features)
        return self.space(n_features).size - constraints

    def n_parameters_of_component(self, n_features: int) -> int:
        """Count the free parameters that only one component's rows determine.

        Parameters
        ----------
        n_features : int
            D.
        """
        return self.space(n_features).size_of_component

    def space(self, n_features: int) -> ParameterSpace:
        """Give the space of the free parameters.

        Parameters
        ----------
        n_features : int
            D.
        """
        unit_box = Box(np.zeros(n_features), np.ones(n_features))  # counting needs no data
        box = unit_box if self.noise else None
        return ParameterSpace(self.n_components, n_features, self.structure, box=box)
