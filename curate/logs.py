"""What is logged: warnings of ours; with --verbose each shard, and Beam's own log."""

from __future__ import annotations

import json
import logging
import time
import uuid
from typing import Literal

LogFormat = Literal["text", "json"]
# What a record says beside its message, where the caller gives it as `extra`.
EXTRA = ("shard", "batch", "verdicts", "alarm")


class JsonLines(logging.Formatter):
    """One JSON object for each record: time (UTC), level, logger, message, run, and its extras."""

    def __init__(self, run: str) -> None:
        super().__init__()
        self._run = run

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        content = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "run": self._run,
        }
        content |= {name: vars(record)[name] for name in EXTRA if name in vars(record)}
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False, default=str)


def set_up_logs(*, verbose: bool, form: LogFormat = "text") -> None:
    """Sets up the logging of this process; as JSON, what happens to each shard is logged too."""
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        force=True,
    )
    if form == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonLines(uuid.uuid4().hex[:8]))
    # A failing step is reported once, by us; Beam and open_clip would print pages before it.
    for name in ("apache_beam", "py.warnings"):
        logging.getLogger(name).setLevel(logging.NOTSET if verbose else logging.CRITICAL)
    logging.getLogger().setLevel(logging.INFO if verbose else logging.ERROR)
    told = logging.INFO if verbose or form == "json" else logging.WARNING
    logging.getLogger("curate").setLevel(told)
