"""Reports of a fit or a comparison: one HTML file each. Computes nothing, asks and lays out."""

from stangmm.report.pages import comparison_report, fit_report

__all__ = ["comparison_report", "fit_report"]
