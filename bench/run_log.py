"""Server time of a log of a million lines: counting it, windows of it, and a search through all of it.

    .venv/bin/python bench/run_log.py [--lines 1000000]

Prints milliseconds of CPU. A page asks for windows; a search that takes longer than half a second goes on in turns.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "web"))

from msp_web.long_text import FileText, Lines


def milliseconds(act: Callable[[], object]) -> float:
    """Return the CPU time that `act` takes."""
    begun = time.process_time()
    act()
    return (time.process_time() - begun) * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    count = parser.parse_args().lines
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "long"
        file.write_bytes(b"".join(b"%07d copies a file from here to there\n" % number for number in range(count)))
        text, lines = FileText(file), Lines()
        print(f"{count} lines, {file.stat().st_size} bytes")
        print(f"count, once   {milliseconds(lambda: lines.catch_up(text, seconds=60)):8.1f} ms")
        windows = [milliseconds(lambda at=at: lines.window(text, at * count // 50, 250)) for at in range(50)]  # type: ignore[misc]
        print(f"window of 250 {sorted(windows)[25]:8.2f} ms (worst of 50: {max(windows):.2f})")
        print(f"search, all   {milliseconds(lambda: lines.find(text, 'no such words', 0, seconds=60)):8.1f} ms")


if __name__ == "__main__":
    main()
