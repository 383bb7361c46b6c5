"""The local Functions host with a clock that is wrong: CHAOS_CLOCK_S seconds ahead (or behind).

Clocks of two instances differ, and a clock that is set right makes a step. Only `time.time` is
moved, which is the clock that the app is given; leases and signatures stay on the real one.
"""

import os
import time

_offset = float(os.environ["CHAOS_CLOCK_S"])
_right = time.time
_until = _right() + float(os.environ["CHAOS_CLOCK_FOR_S"])


def _wrong() -> float:
    now = _right()
    # From one moment on the clock is right: that is the step.
    return now + _offset if now < _until else now


time.time = _wrong

if __name__ == "__main__":
    from dev.devhost.__main__ import main

    main()
