"""Runs every stage of one model in order, skipping those whose product exists; started again after a stop, it goes on."""

import subprocess
import sys

from .config import load_config

STAGES = {"tower": "tower.json", "features": "pool-held-out/arrays.npz", "decoder": "decoder.json"}


def main() -> None:
    folder = load_config().folder
    for stage, product in STAGES.items():
        if not (folder / product).exists():
            run(stage)
    run("export")
    run("evaluate")


def run(stage: str) -> None:
    command = [sys.executable, "-m", f"train.{stage}", *sys.argv[1:]]
    print("$", *command, flush=True)
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
