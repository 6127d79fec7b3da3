"""Run as a process: writes numbered records, says on standard output which are acknowledged."""

import sys
from pathlib import Path

from penstock.telemetry.spool import SpoolWriter


def main() -> None:
    folder, mode = Path(sys.argv[1]), sys.argv[2]
    writer = SpoolWriter(folder)
    number = 0
    while True:
        group = [f"record {number + step}".encode().ljust(300, b".") for step in range(50)]
        if mode == "durable":
            writer.append_durable(group)
        else:
            for record in group:
                writer.append(record)
            writer.flush()
        number += len(group)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
