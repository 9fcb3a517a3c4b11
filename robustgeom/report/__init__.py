"""Comparison reports: from run records to tables, claims and one page; no torch."""

from robustgeom.report.claim_list import CLAIMS
from robustgeom.report.claims import Claim, ClaimResult, judge
from robustgeom.report.compare import Comparison, compare
from robustgeom.report.html import render, write_report

__all__ = ["CLAIMS", "Claim", "ClaimResult", "Comparison", "compare", "judge", "render", "write_report"]
