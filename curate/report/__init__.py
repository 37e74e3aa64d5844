"""What a decision did, for people: one HTML page, and a summary for the terminal."""

from curate.report.page import build_report, write_report

__all__ = ["build_report", "write_report"]
