"""Geometry of activations: capacity by theory and by trial, what lies behind it, dimensions, similarity, capture."""

from robustgeom.geometry.alignment import PointCloudAlignment, point_cloud_alignment
from robustgeom.geometry.anchors import AnchorPoints, anchor_points
from robustgeom.geometry.capacity import MeanFieldCapacity, mean_field_capacity, reduced_points
from robustgeom.geometry.capture import capture
from robustgeom.geometry.centers import CenterBasis, center_basis, center_statistics, correlation_cost
from robustgeom.geometry.cka import linear_cka, unbiased_linear_cka
from robustgeom.geometry.cone import ConeProjection, project_on_cone
from robustgeom.geometry.controls import equal_norm_noise, overlap_controls
from robustgeom.geometry.dimension import (
    SpectrumExponent,
    covariance_spectrum,
    explained_variance_dimension,
    participation_ratio,
    spectrum_exponent,
)
from robustgeom.geometry.glue import ManifoldGeometry, manifold_geometry
from robustgeom.geometry.identification import LinearIdentification, linear_identification
from robustgeom.geometry.intrinsic import IntrinsicDimension, mle_dimension, two_nn_dimension
from robustgeom.geometry.nuclear import nuclear_norm_measure
from robustgeom.geometry.ridge import EmpiricalRidgeCurve, empirical_ridge_curve
from robustgeom.geometry.separability import LinearSeparability, linear_separability
from robustgeom.geometry.simulated import SimulatedCapacity, separable, simulated_capacity
from robustgeom.geometry.spectral import SpectralAlignment, spectral_alignment
from robustgeom.geometry.spheres import point_capacity, sphere_capacity
from robustgeom.geometry.table import capacity_rows

__all__ = [
    "AnchorPoints",
    "CenterBasis",
    "ConeProjection",
    "EmpiricalRidgeCurve",
    "IntrinsicDimension",
    "LinearIdentification",
    "LinearSeparability",
    "ManifoldGeometry",
    "MeanFieldCapacity",
    "PointCloudAlignment",
    "SimulatedCapacity",
    "SpectralAlignment",
    "SpectrumExponent",
    "anchor_points",
    "capacity_rows",
    "capture",
    "center_basis",
    "center_statistics",
    "correlation_cost",
    "covariance_spectrum",
    "empirical_ridge_curve",
    "equal_norm_noise",
    "explained_variance_dimension",
    "linear_cka",
    "linear_identification",
    "linear_separability",
    "manifold_geometry",
    "mean_field_capacity",
    "mle_dimension",
    "nuclear_norm_measure",
    "overlap_controls",
    "participation_ratio",
    "point_capacity",
    "point_cloud_alignment",
    "project_on_cone",
    "reduced_points",
    "separable",
    "simulated_capacity",
    "spectral_alignment",
    "spectrum_exponent",
    "sphere_capacity",
    "two_nn_dimension",
    "unbiased_linear_cka",
]
