"""What is logged: warnings of ours; with --verbose each shard, and Beam's own log."""

from __future__ import annotations

import logging


def set_up_logs(*, verbose: bool) -> None:
    """Sets up the logging of this process."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        force=True,
    )
    if not verbose:
        # A failing step is reported once, by us; Beam and open_clip would print pages before it.
        for name in ("apache_beam", "root", "py.warnings"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        logging.getLogger().setLevel(logging.ERROR)
        logging.getLogger("curate").setLevel(logging.WARNING)
