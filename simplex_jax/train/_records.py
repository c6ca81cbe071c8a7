"""What a run writes down while it trains: JSON lines, and TensorBoard where it is."""

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .._files import replacing

Record = Mapping[str, Any]


class Records:
    """Records of a run in ``metrics.jsonl``, and as TensorBoard events.

    Args:
        folder: of the run.
        history: records of the same run before it was interrupted; a file from beyond
            them is cut back to them.
    """

    def __init__(self, folder: str | os.PathLike, history: Iterable[Record] = ()):
        """Write down the history and open the files."""
        self.history = list(history)
        path = Path(folder) / "metrics.jsonl"
        with replacing(path) as put:
            put("".join(map(_line, self.history)).encode())
        self._file = open(path, "a", encoding="utf-8")
        step = self.history[-1]["step"] if self.history else 0
        self._events = _Events(Path(folder) / "tensorboard", step)

    def add(self, record: Record) -> None:
        """Write a record down; the line is in the file when this returns."""
        self.history.append(record)
        self._file.write(_line(record))
        self._file.flush()
        self._events.add(record)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._events.close()


class _Events:
    """TensorBoard's event file, or nothing where tensorboard is not installed."""

    def __init__(self, folder: Path, step: int):
        self._writer = None
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ModuleNotFoundError:
            return
        self._event, self._summary = event_pb2, summary_pb2
        self._writer = EventFileWriter(str(folder))
        # Tells TensorBoard to forget what an interrupted run wrote beyond this step.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)  # pyright: ignore[reportAttributeAccessIssue]
        self._put(step + 1, session_log=start)

    def add(self, record: Record) -> None:
        if self._writer is None:
            return
        values = [
            self._summary.Summary.Value(tag=name, simple_value=value)
            for name, value in record.items()
            if name != "step" and value is not None
        ]
        self._put(record["step"], summary=self._summary.Summary(value=values))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _put(self, step: int, **content: Any) -> None:
        assert self._writer is not None
        event = self._event.Event(wall_time=time.time(), step=step, **content)
        self._writer.add_event(event)


def _line(record: Record) -> str:
    # JSON has no NaN; a loss that was not finite is null.
    finite = {
        name: None if isinstance(value, float) and value - value != 0 else value
        for name, value in record.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"
