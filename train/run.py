"""Runs every stage in order, skipping those whose product exists; started again after a stop, it goes on."""

import shutil
import subprocess
import sys
from pathlib import Path

from .config import load_config, scratch

PACKAGES = (
    "@iconify-json/twemoji@1.2.5",
    "@iconify-json/noto@1.2.9",
    "@iconify-json/fluent-emoji-flat@1.2.6",
    "@iconify-json/openmoji@1.2.29",
    "@iconify-json/emojione@1.2.3",
    "sharp@0.35.5",
)

STAGES = {"tower": "tower.json", "features": "features.f16", "decoder": "decoder.json", "joint": "joint.json"}


def main() -> None:
    folder = scratch()
    if not (folder / "sprites.json").exists():
        run(shutil.which("npm"), "install", "--silent", "--prefix", folder, *PACKAGES)
        run("node", Path(__file__).with_name("render.mjs"), folder)
    for stage, product in STAGES.items():
        if stage == "joint" and load_config().joint_minutes == 0:
            continue
        if not (folder / product).exists():
            run(sys.executable, "-m", f"train.{stage}")
    for command in (("export",), ("picture_files", "demo"), ("picture_files", "eval"), ("evaluate",), ("evaluate_files",), ("results",)):
        run(sys.executable, "-m", f"train.{command[0]}", *command[1:])


def run(*command) -> None:
    print("$", *command, flush=True)
    subprocess.run([str(part) for part in command], check=True)


if __name__ == "__main__":
    main()
