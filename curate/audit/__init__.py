"""An audit: a person judges a random sample of a decision, and its errors follow with intervals."""

from curate.audit.page import write_audit
from curate.audit.score import score_audit

__all__ = ["score_audit", "write_audit"]
