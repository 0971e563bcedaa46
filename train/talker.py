"""Asks the questioner, `conversations.ts`, for conversations over one pool of pictures."""

import json
import subprocess
from pathlib import Path

from .tokenizer import TALKER


class Talker:
    """A running `conversations.ts`: one request line in, as many conversations out as it asks for."""

    def __init__(self, scenes: Path, seed: int):
        command = ["npx", "tsx", str(TALKER), "--scenes", str(scenes.resolve()), "--seed", str(seed)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=TALKER.parent.parent)

    def ask(self, count: int, images: list[int], questions: int, types: dict[str, float], kinds: dict[str, float], later: float = 0.0, clip: bool = False) -> list[list[dict]]:
        """Turns of each conversation: {views, type, question, answer, subject?, image?}."""
        request = {"count": count, "images": images, "questions": questions, "types": types, "kinds": kinds, "later": later, "clip": clip}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        lines = [self.process.stdout.readline() for _ in range(count)]
        if not lines[-1]:
            raise RuntimeError(f"conversations.ts ended while answering {json.dumps(request)}; its message is above")
        return [json.loads(line)["turns"] for line in lines]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
