"""Does the server's memory grow? Ten minutes at 80 % of what it can answer.

Run: python benchmarks/serving_soak.py. The 64-256-256-10 perceptron, so that there are many
requests: a leak of a byte each would show. Exits 1 where resident memory grows by 1 % from the
end of the first minute to the end of the last.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

import onnx

from figures import MODELS, Figure, report
from hasten.load_generator.arrivals import Poisson
from hasten.load_generator.generator import Generator
from hasten.load_generator.protocol import Closed, Open
from own_server import OwnServer, aim

_MINUTES, _SHARE, _GROWTH = 10, 0.8, 0.01
_MINUTE_S = 60
_CONNECTIONS = 32


def main() -> int:
    """Load for ten minutes, and read the memory once a minute."""
    with tempfile.TemporaryDirectory() as folder, Generator() as generator:
        model = Path(folder) / "mlp.onnx"
        onnx.save(MODELS["mlp"](), model)
        with OwnServer(model) as own:
            number = aim(generator, own.url, "mlp")
            most = generator.fire(number, Closed(_CONNECTIONS, 5 * 10**9)).rate_per_s
            rate = most * _SHARE
            print(f"{most:,.0f} requests/s at most; loaded with {rate:,.0f}/s")
            sizes: list[int] = []
            watch = threading.Thread(target=_watch, args=(own, sizes))
            watch.start()
            pattern = Open(Poisson(rate, 0), (_MINUTES * _MINUTE_S + 5) * 10**9)
            record = generator.fire(number, pattern)
            watch.join()
    growth = sizes[-1] / sizes[0] - 1
    print(f"{record.answered:,} answered, {record.missed} missed")
    return report(
        [
            Figure(
                f"resident memory after {_MINUTES} minutes against after one",
                f"{growth:+.2%} ({sizes[-1] / 1e6:.1f} MB)",
                f"< {_GROWTH:.0%}",
                growth < _GROWTH and not record.missed,
            )
        ]
    )


def _watch(own: OwnServer, sizes: list[int]) -> None:
    for minute in range(1, _MINUTES + 1):
        time.sleep(_MINUTE_S)
        sizes.append(own.resident_bytes)
        print(f"minute {minute}: {sizes[-1] / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
