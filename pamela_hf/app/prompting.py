"""Prompt runs started from the page: one at a time, watched while they render, stopped and resumed."""

import json
import logging
import re
import secrets
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files.writing import write_json
from ..prompts.run_folder import TRACE_FIELDS
from .base import Base

if TYPE_CHECKING:  # PyTorch comes with it
    from ..heads.head import UserHead

logger = logging.getLogger(__name__)

RUN_ID = re.compile(r"[0-9a-f]{16}")
MAX_PROMPT, MAX_RUNS = 600, 200
MAX_OWN_RUNS = 12  # of one visitor where there is sign-in
OPTIONS = {"num_iterations": 3, "num_candidates": 6, "num_seeds": 2}
CARD = "app.json"  # whose run it is, beside the run's own folder


@dataclass
class PromptRun:
    """A run: `state` is waiting, running, stopped, done or failed; `rows` are the lines of its trace so far; `owner`
    is the visitor who started it, "" where there is no sign-in."""

    id: str
    person: str | None
    prompt: str
    folder: Path
    state: str = "waiting"
    problem: str | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    owner: str = ""

    def plain(self, full: bool = False) -> dict[str, Any]:
        about = {"id": self.id, "person": self.person, "prompt": self.prompt, "state": self.state}
        about |= {"problem": self.problem, "images": len(self.rows), "result": self.result}
        total = (1 + OPTIONS["num_iterations"] * OPTIONS["num_candidates"]) * OPTIONS["num_seeds"]
        return about | ({"rows": self.rows, "total": total} if full else {})


class PromptRuns:
    """The runs in a folder, one subfolder each.

    Args:
        folder: where the runs are; made when the first run starts.
        pipeline: Hub id or folder of a text-to-image pipeline, or "procedural" (the default).
    """

    def __init__(self, folder: Path, pipeline: str = "procedural"):
        self.folder, self.pipeline = folder, pipeline
        self.runs: dict[str, PromptRun] = {}
        self._pipe: Any = None
        self._lock, self._busy = threading.Lock(), threading.Lock()
        for card in sorted(folder.glob(f"*/{CARD}"), key=lambda path: path.stat().st_mtime):
            self._read(card)

    @property
    def simulated(self) -> bool:
        return self.pipeline == "procedural"

    def _read(self, card: Path) -> None:
        try:
            about = json.loads(card.read_text(encoding="utf-8"))
            run = PromptRun(card.parent.name, about["person"], about["prompt"], card.parent / "run", "stopped")
            run.owner = str(about.get("owner", ""))
            trace = run.folder / "trace.jsonl"
            if trace.exists():
                run.rows = [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()]
            if (result := run.folder / "result.json").exists():
                run.result, run.state = json.loads(result.read_text(encoding="utf-8")), "done"
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s is not a prompt run: %s", card.parent, error)
            return
        self.runs[run.id] = run

    def start(self, base: Base, person: str | None, prompt: str, head: "UserHead | None", owner: str = "") -> PromptRun:
        """Starts a run for a person's head, or everyone's taste; `owner`: the visitor who asks.

        Raises:
            ValueError: no prompt, too long a one, or too many runs.
        """
        prompt = prompt.strip()
        if not prompt or len(prompt) > MAX_PROMPT:
            raise ValueError(f"prompt has {len(prompt)} characters; give 1 to {MAX_PROMPT}.")
        own = sum(run.owner == owner for run in list(self.runs.values()))
        most = MAX_OWN_RUNS if owner else MAX_RUNS
        if own >= most:
            raise ValueError(f"There are {own} runs already; delete one first.")
        if len(self.runs) >= MAX_RUNS:
            raise ValueError(f"Visitors have made {MAX_RUNS} runs, which is all that fits. Try again later.")
        id = secrets.token_hex(8)
        place = self.folder / id
        place.mkdir(parents=True)
        if head is not None:
            head.save(place / "head")  # a resumed run goes on for the taste it began with
        write_json(place / CARD, {"person": person, "prompt": prompt, "owner": owner})
        run = self.runs[id] = PromptRun(id, person, prompt, place / "run", owner=owner)
        self._go(base, run)
        return run

    def resume(self, base: Base, run: PromptRun) -> None:
        if run.state in ("stopped", "failed"):
            self._go(base, run)

    def stop(self, run: PromptRun) -> None:
        """Ends the run after the round under way."""
        if run.state in ("waiting", "running"):
            run.state = "stopping"

    def delete(self, run: PromptRun) -> None:
        self.stop(run)
        self.runs.pop(run.id, None)
        shutil.rmtree(run.folder.parent, ignore_errors=True)

    def erase(self, person: str) -> int:
        """Deletes a person's runs and returns how many there were."""
        own = [run for run in list(self.runs.values()) if run.person == person]
        for run in own:
            self.delete(run)
        return len(own)

    def image(self, run: PromptRun, number: int) -> Path | None:
        """The file of a row's image; `None` for a row that does not exist or names no image of the run."""
        if not 0 <= number < len(run.rows) or not run.rows[number].get("image"):
            return None
        return run.folder / "images" / Path(run.rows[number]["image"]).name

    def _go(self, base: Base, run: PromptRun) -> None:
        run.state, run.problem = "waiting", None
        threading.Thread(target=self._run, args=(base, run), name=f"prompt {run.id}", daemon=True).start()

    def _run(self, base: Base, run: PromptRun) -> None:
        import torch

        from ..heads.head import UserHead

        with self._busy:  # one at a time: they share the pipeline
            if run.state == "stopping":
                run.state = "stopped"
                return
            run.state, run.rows = "running", []
            try:
                pipe = self._load(base)
                own = run.folder.parent / "head"
                head = UserHead.load(own, base.scorer) if own.exists() else None

                def on_candidate(pipe: Any, index: int, row: dict[str, Any]) -> None:
                    run.rows.append({key: row.get(key) for key in TRACE_FIELDS if key != "checksum"})
                    if run.state == "stopping":
                        pipe._interrupt = True

                seed = torch.Generator().manual_seed(0)  # runs of one prompt start from the same pictures
                pipe(run.prompt, head, output=run.folder, generator=seed, callback_on_candidate=on_candidate, **OPTIONS)
                done = json.loads((run.folder / "result.json").read_text(encoding="utf-8"))
                run.result, run.state = (None, "stopped") if run.state == "stopping" else (done, "done")
            except Exception as error:
                logger.warning("Prompt run %s: %s", run.id, error)
                run.state, run.problem = "failed", str(error)

    def _load(self, base: Base) -> Any:
        if self._pipe is None:
            from ..prompts.pipeline_pamela import PamelaPromptPipeline

            if self.simulated:
                from ..simulation.pipeline import SimulatedPipeline

                nested = SimulatedPipeline(size=256)
            else:
                from diffusers import DiffusionPipeline

                nested = DiffusionPipeline.from_pretrained(self.pipeline, use_safetensors=True)
            self._pipe = PamelaPromptPipeline(nested, *base.with_encoder())
            self._pipe.set_progress_bar_config(disable=True)
        return self._pipe
