"""Geometry of activations: capacity by several theories and by trial, what lies behind it, and their capture."""

from robustgeom.geometry.anchors import AnchorPoints, anchor_points
from robustgeom.geometry.capacity import MeanFieldCapacity, mean_field_capacity, reduced_points
from robustgeom.geometry.capture import capture
from robustgeom.geometry.centers import CenterBasis, center_basis, center_statistics, correlation_cost
from robustgeom.geometry.cone import ConeProjection, project_on_cone
from robustgeom.geometry.glue import ManifoldGeometry, manifold_geometry
from robustgeom.geometry.simulated import SimulatedCapacity, separable, simulated_capacity
from robustgeom.geometry.spheres import point_capacity, sphere_capacity
from robustgeom.geometry.table import capacity_rows

__all__ = [
    "AnchorPoints",
    "CenterBasis",
    "ConeProjection",
    "ManifoldGeometry",
    "MeanFieldCapacity",
    "SimulatedCapacity",
    "anchor_points",
    "capacity_rows",
    "capture",
    "center_basis",
    "center_statistics",
    "correlation_cost",
    "manifold_geometry",
    "mean_field_capacity",
    "point_capacity",
    "project_on_cone",
    "reduced_points",
    "separable",
    "simulated_capacity",
    "sphere_capacity",
]
