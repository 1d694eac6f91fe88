"""TensorBoard's own reader on an event file written by EventFile."""
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
assert sorted(events.Tags()["scalars"]) == ["train/loss", "validation/accuracy"], events.Tags()
loss = events.Scalars("train/loss")
assert [e.step for e in loss] == list(range(300))
assert all(abs(e.value - 1 / (e.step + 1)) < 1e-7 for e in loss)
assert all(e.wall_time == 1700000000.5 + e.step for e in loss)
(accuracy,) = events.Scalars("validation/accuracy")
assert (accuracy.step, accuracy.value) == (299, 0.5)
