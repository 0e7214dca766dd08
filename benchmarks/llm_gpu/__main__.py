"""What do releases of language models cost and do on a machine with a GPU and a real vLLM?

    python -m benchmarks.llm_gpu --site FOLDER --out FILE.jsonl [--parts through,fp8] [--budget 560]

Every part has a time box and writes each result at once, so that a run that is cut off keeps what it measured:

through      an 8 B model in bf16: directly, through the gateway, and through gateway and front, at 1 to 256 streams
fp8          the same weights' shape with --quantization fp8, beside it, both through a gateway
streams1000  what a gateway adds between the tokens of 1,000 open chats of known timing (no engine)
aa           releases of an equal engine with a cold cache: how many are sent home
kills        SIGKILL of the controller, and of the canary's engine, while users meet the canary

Engines that one part needs start at one time (`--one-at-a-time`: fp8 starts when bf16 has ended). `--engine llamacpp`
lets the engine that Shipway brings stand in for vLLM, with `--streams 1,4 --prompt 16 --new 16 --share 0.1`. No MLflow
and no Prefect; the ledger is SQLite. A further part is a name in PARTS and BOXES_S, and a function for `Run.part`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.llm_gpu.chats import Habit
from benchmarks.llm_gpu.engines import SHAPES, LlamaCpp, Running, Vllm
from benchmarks.llm_gpu.load import Asked, load
from benchmarks.llm_gpu.record import Record, versions_here
from benchmarks.llm_gpu.releases import Arms, equal, kills
from benchmarks.llm_gpu.thousand import thousand
from benchmarks.llm_gpu.through import Plan, compared, rounds, words_counted
from benchmarks.llm_gpu.ways import Way, fronted, gateway

PARTS = ("through", "fp8", "streams1000", "aa", "kills")
BOXES_S: Mapping[str, float] = {"through": 220.0, "fp8": 100.0, "streams1000": 55.0, "aa": 345.0, "kills": 140.0}
START_S = 230.0
FAST = ("--no-enable-prefix-caching", "--dtype", "bfloat16")
EAGER = ("--enforce-eager", "--enable-prefix-caching", "--enable-prompt-tokens-details", "--dtype", "bfloat16")
TURN = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


class Run:
    """One run: its options, its record, and when it must be over."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.folder = options, options.work
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "logs").mkdir(parents=True)
        is_real = options.engine == "vllm"
        logs = self.folder / "logs"
        self.maker = Vllm(options.site, self.folder, logs) if is_real else LlamaCpp(self.folder, logs)
        self.record = Record(options.out, {**versions_here(), "engine": self.maker.version, "device": device()})
        self.parts = options.parts
        self._ends_s = time.monotonic() + options.budget

    def until_s(self, part: str) -> float:
        """When a part that begins now must end."""
        return min(self._ends_s, time.monotonic() + self.options.scale * BOXES_S[part])

    def has(self, *parts: str) -> bool:
        """Whether one of them is asked for."""
        return bool({*parts} & {*self.parts})

    def part(self, name: str, do: Callable[[], None]) -> None:
        """Do a part, where it is asked for; what goes wrong in it ends no other part."""
        if name not in self.parts:
            return
        try:
            do()
        except Exception as error:  # noqa: BLE001  the other parts are measured in any case
            self.record.say(name, what="FAILED", error=f"{type(error).__name__}: {error}"[:500])

    def engines(self, stack: ExitStack, asked: Mapping[str, tuple[str, float, Sequence[str]]]) -> dict[str, Running]:
        """Start them all, and wait; what does not get ready is told with its last words."""
        made = {name: self.maker.start(name, shape, kv_gib=kv, flags=f) for name, (shape, kv, f) in asked.items()}
        for engine in made.values():
            stack.callback(engine.stop)
        until_s, ready = min(self._ends_s, time.monotonic() + START_S), {}
        for name, engine in made.items():
            flags = list(asked[name][2])
            if engine.wait(until_s):
                ready[name] = engine
                self.record.say("engine", name=name, ready_s=engine.ready_s, shape=asked[name][0], flags=flags)
            else:
                self.record.say("engine", name=name, what="NOT READY", flags=flags, log=engine.last_words())
                engine.kill()
        return ready


def device() -> str:
    """What nvidia-smi says of the first GPU."""
    if not shutil.which("nvidia-smi"):
        return "no GPU"
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.partition("\n")[0]


def fast(run: Run) -> None:
    """Through and fp8, which need the large model."""
    options = run.options
    kinds = {"bf16": (options.model, options.kv_gib, FAST)}
    kinds |= {"fp8": (options.model, options.kv_gib, (*FAST, "--quantization", "fp8"))} if run.has("fp8") else {}
    together = dict(list(kinds.items())[:1]) if options.one_at_a_time else kinds
    plan = Plan(_asked(run), [int(n) for n in options.streams.split(",")], options.rounds, 0.0, options.share)
    with ExitStack() as stack:
        ready = run.engines(stack, together)
        for engine in ready.values():
            load(engine.port, max(plan.streams), max(plan.streams), Asked(run.maker.called, 32, 8, plan.asked.tokens))
        if "bf16" in ready:
            run.part("through", lambda: _through(run, ready["bf16"], plan))
        if {"bf16", "fp8"} <= {*ready}:
            run.part("fp8", lambda: _fp8(run, ready, plan))
    if run.has("fp8") and "fp8" not in ready:
        with ExitStack() as stack:
            ready = run.engines(stack, {"fp8": kinds["fp8"]})
            if ready:
                run.part("fp8", lambda: _fp8(run, ready, plan))


def _asked(run: Run) -> Asked:
    options = run.options
    tokens = SHAPES[options.model][-1] if options.engine == "vllm" else 200
    return Asked(run.maker.called, options.prompt, options.new, tokens)


def _through(run: Run, engine: Running, plan: Plan) -> None:
    with ExitStack() as stack:
        ways = [Way("direct", engine.port), gateway(stack, run.folder / "bf16", "gateway", engine.port)]
        ways.append(fronted(stack, run.folder / "front", "gateway and front", engine, run.maker.called))
        plan.until_s = run.until_s("through")
        words_counted(run.record, ways[1], plan.asked, min(64, max(plan.streams)))
        rounds(run.record, "through", ways, plan)
        compared(run.record, "through", plan, "direct", [way.name for way in ways[1:]])


def _fp8(run: Run, ready: Mapping[str, Running], plan: Plan) -> None:
    """In turns with bf16 where both run; else beside what `through` found of the gateway."""
    with ExitStack() as stack:
        plan.until_s = run.until_s("fp8")
        both = {**ready} if len(ready) > 1 else {"fp8": ready["fp8"]}
        ways = [gateway(stack, run.folder / f"{name}-8", name, engine.port) for name, engine in both.items()]
        rounds(run.record, "fp8", ways, plan)
        compared(run.record, "fp8", plan, "bf16" if len(both) > 1 else "gateway", ["fp8"])


def open_chats(run: Run) -> None:
    """Needs no engine."""
    options = run.options
    asked = {"streams": options.open_streams, "rate": 40, "seconds": options.seconds, "workers": options.workers}
    until_s = run.until_s("streams1000")
    thousand(run.record, run.folder / "thousand", **asked, rounds=options.rounds, until_s=until_s)


def slow(run: Run) -> None:
    """Releases between two engines of a small model."""
    options = run.options
    template = run.folder / "chat.jinja"
    template.write_text(TURN)
    flags = (*EAGER, "--chat-template", str(template))
    with ExitStack() as stack:
        ready = run.engines(stack, dict.fromkeys(("a", "b"), (options.small, options.kv_gib, flags)))
        if len(ready) < 2:
            return
        words = SHAPES[options.small][-1] if options.engine == "vllm" else 200
        habit = Habit(options.rps, options.prefixes, options.begins, 20, options.chat_new, words)
        arms = Arms(list(ready.values()), run.maker.called, habit, run.folder)
        run.part("aa", lambda: equal(run.record, arms, options.releases, run.until_s("aa")))
        run.part("kills", lambda: kills(run.record, arms, run.until_s("kills")))


def main() -> None:
    """Measure, and keep each result."""
    run = Run(parser_of().parse_args())
    if run.has("through", "fp8"):
        fast(run)
    run.part("streams1000", lambda: open_chats(run))
    if run.has("aa", "kills"):
        slow(run)
    run.record.say("run", what="over", spent_s=round(run.record.spent_s, 1))


def parser_of() -> argparse.ArgumentParser:
    """What may be asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.llm_gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=_parts, default=PARTS, help=f"of {', '.join(PARTS)}; all unless said")
    parser.add_argument("--site", default="", help="the folder with vLLM, for its processes' PYTHONPATH")
    parser.add_argument("--out", type=Path, required=True, help="one JSON line for each result is added to this file")
    parser.add_argument("--work", type=Path, default=Path("/tmp/llm_gpu"), help="emptied first; logs lie in it")
    parser.add_argument("--budget", type=float, default=560.0, help="seconds for all parts together")
    parser.add_argument("--scale", type=float, default=1.0, help="of every part's time box")
    parser.add_argument("--engine", choices=("vllm", "llamacpp"), default="vllm")
    parser.add_argument("--one-at-a-time", action="store_true")
    for name, kind, usual, about in _NUMBERS:
        parser.add_argument(f"--{name}", type=kind, default=usual, help=f"{about} ({usual})")
    return parser


def _parts(text: str) -> tuple[str, ...]:
    """The parts that are asked for."""
    asked = tuple(text.split(","))
    if unknown := [name for name in asked if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    return asked


_NUMBERS: tuple[tuple[str, type, object, str], ...] = (
    ("model", str, "8b", "the large model's shape"),
    ("small", str, "1b", "the shape of the model that is released"),
    ("kv-gib", float, 30.0, "each engine's cache"),
    ("streams", str, "1,8,64,256", "how many at one time"),
    ("rounds", int, 8, "most rounds of a part"),
    ("prompt", int, 512, "tokens in"),
    ("new", int, 128, "tokens out"),
    ("share", float, 1.0, "of the questions of a pass"),
    ("open-streams", int, 1000, "of part streams1000"),
    ("seconds", float, 4.0, "of each pass of part streams1000, after its first second"),
    ("workers", int, 4, "of the second gateway of part streams1000"),
    ("releases", int, 40, "most releases of part aa"),
    ("rps", float, 160.0, "chats a second"),
    ("prefixes", int, 64, "beginnings that chats share"),
    ("begins", int, 500, "words of a beginning"),
    ("chat-new", int, 16, "tokens of an answer"),
)


if __name__ == "__main__":
    main()
