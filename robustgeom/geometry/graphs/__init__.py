"""Graphs of units: what connects them, how they fall into communities, and what chance would make of it."""

from robustgeom.geometry.graphs.agreement import mutual_information, variation_of_information
from robustgeom.geometry.graphs.clustering import clustering
from robustgeom.geometry.graphs.communities import communities
from robustgeom.geometry.graphs.controllability import average_controllability
from robustgeom.geometry.graphs.density import at_density
from robustgeom.geometry.graphs.efficiency import global_efficiency, local_efficiency
from robustgeom.geometry.graphs.functional import FunctionalGraph, functional_graph
from robustgeom.geometry.graphs.modularity import modularity
from robustgeom.geometry.graphs.participation import participation
from robustgeom.geometry.graphs.permuted import permuted
from robustgeom.geometry.graphs.rewired import rewired
from robustgeom.geometry.graphs.rich_club import rich_club

__all__ = [
    "FunctionalGraph",
    "at_density",
    "average_controllability",
    "clustering",
    "communities",
    "functional_graph",
    "global_efficiency",
    "local_efficiency",
    "modularity",
    "mutual_information",
    "participation",
    "permuted",
    "rewired",
    "rich_club",
    "variation_of_information",
]
