"""What a search costs: candidates per minute, halving, workers, the measurement of time, and NSGA-II's proposals.

The search is an evolution of about a hundred candidates. The plain loop extracts every subnet and decodes it utterance
by utterance. Its subnets are some of those with which the evolution begins, uniform over sizes. Each process has one
thread. Halving is an option that may lose subnets of the Pareto front; they are counted. NSGA-II proposes subnets of
paper 2's space, with made-up errors, against a study of optuna with the same genes and figures.

    search.py EXP DATA      a trained supernet on its dev set
    search.py               the AN4 presets of paper 2 on 104 recordings of noise, as long as AN4's dev set. Weights are
                            random, with a bias of blank with which a frame emits as often as in real speech. All such
                            subnets are equally bad, so that few are stopped early and many losses are measured.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import optuna
import soundfile
import torch
from common import median_seconds, report
from lhotse import MonoCut, Recording, SupervisionSegment

from slimasr.config.load import load_config
from slimasr.config.schema import Config
from slimasr.config.search import Nsga2SearchConfig
from slimasr.data.features.stage import compute_features
from slimasr.data.files import DataFolder, write_cuts
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.stage import train_tokenizer
from slimasr.decoding.searches.greedy import greedy_search
from slimasr.experiment.record import write_record
from slimasr.models.build import build_model
from slimasr.models.transducer import Transducer
from slimasr.results.schema import Results
from slimasr.search.feasible import Feasible
from slimasr.search.history import Candidate, History
from slimasr.search.nsga2 import Nsga2, distributions
from slimasr.search.search import Job, Search
from slimasr.search.workers import run_workers
from slimasr.supernet.build import build_space
from slimasr.supernet.front import Limits, Measurement, find_front
from slimasr.supernet.space import LayerSpace
from slimasr.supernet.subnet import Subnet, unit_count

PRESETS = {"MH-SSM": "todm", "Conformer": "todm_conformer"}
CONF = Path(__file__).resolve().parents[2] / "egs" / "an4" / "conf"
WORDS = ["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "ZERO", "OH"]
SETS = {"train": 4, "dev": 104, "test": 1}
INITIAL, GENERATIONS, PLAIN = 40, 4, 4
SYMBOLS_PER_FRAME = 0.2
TARGET_PLAIN, TARGET_WORKERS, TARGET_PROPOSALS = 4.0, 1.6, 1.0
PAPER = LayerSpace((16, 13, 9), (("ffn", (512, 1024, 2048, 4096)),))
PROPOSALS = 300


def make_data(root: Path, config: Config) -> Path:
    """Make recordings of noise with random words, 1 to 6 s long, and run stages 2 and 3 on them."""
    rng = np.random.default_rng(0)
    folder = DataFolder(root / "data")
    for name, number in SETS.items():
        cuts = []
        for index in range(number):
            seconds = 1.0 + 5.0 * rng.random()
            path = root / "audio" / f"{name}-{index}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * rng.standard_normal(int(16000 * seconds)), 16000)
            recording = Recording.from_file(path)
            text = " ".join(rng.choice(WORDS, round(2 * seconds)))
            said = SupervisionSegment(path.stem, recording.id, 0.0, recording.duration, text=text)
            cuts.append(MonoCut(path.stem, 0.0, recording.duration, 0, [said], recording=recording))
        write_cuts(folder.raw_cuts(name), cuts)
    compute_features(config, folder.root, 1, lambda items, *_: items)
    train_tokenizer(config, folder.root)
    return folder.root


def make_experiment(root: Path, config: Config, data: Path) -> Path:
    """Make an experiment folder with random weights that emit as often as trained ones."""
    lang = DataFolder(data).lang(config.tokenizer.kind, config.tokenizer.vocab_size)
    write_record(root, config, lang, Results())
    torch.manual_seed(0)
    space = build_space(config)
    model = build_model(config.model, config.loss, load_tokenizer(lang).vocab_size, space.widths).eval()
    assert isinstance(model, Transducer)
    # The bias of blank is found by bisection: a larger one makes frames emit less.
    low = 0.0
    high = 50.0
    with torch.no_grad():
        # Random weights give nearly equal scores; larger ones let tokens differ as after training.
        model.joiner.output.weight.mul_(5)
        am = model.project_encoder(model.encode(torch.randn(4, 300, 80), torch.full((4,), 300)).out)
        lens = torch.full((4,), am.shape[1])
        for _ in range(12):
            middle = (low + high) / 2
            model.joiner.output.bias[model.blank_id] = middle
            hyps = greedy_search(model, am, lens)
            if sum(map(len, hyps)) / lens.sum() > SYMBOLS_PER_FRAME:
                low = middle
            else:
                high = middle
    torch.save({"model": model.state_dict()}, root / "final.pt")
    return root


@torch.inference_mode()
def plain_seconds(search: Search) -> float:
    """Return the median processor seconds per candidate of the plain loop."""
    model = search.experiment.model
    assert isinstance(model, Transducer)
    # Loading is not measured: the batches are cut into utterances beforehand.
    singles = [batch.select([row]) for batch in search.evaluator.batches for row in range(len(batch))]
    subnets = search.feasible.sample(INITIAL, random.Random(0))[:: INITIAL // PLAIN]
    seconds = []
    for subnet in subnets:
        start = time.process_time()
        alone = model.extract(subnet)
        for one in singles:
            encoded = alone.encode(one.x, one.x_lens)
            ids = greedy_search(alone, alone.project_encoder(encoded.out), encoded.lens)
            search.experiment.tokenizer.decode(ids[0])
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def search_seconds(job: Job) -> tuple[float, list[Measurement]]:
    """Run a whole search in this process.

    Returns:
        Processor seconds per candidate, without the time to load the set, and the Pareto front.
    """
    search = job.open()
    search.load_dev_set()
    start = time.process_time()
    number = sum(1 for _ in search.work())
    seconds = (time.process_time() - start) / number
    measured = (candidate.measurement() for candidate in search.study.history().measured)
    return seconds, find_front(measured, search.experiment.config.search.cost)


def meter_seconds(job: Job) -> tuple[float, float]:
    """Return the seconds for the time and memory of a subnet: in a process that has started, and in a new one."""
    search = job.open()
    smallest = search.experiment.space.min
    start = time.perf_counter()
    search.measure_runtime(smallest)
    first = time.perf_counter() - start
    return median_seconds(lambda: search.measure_runtime(smallest), repeats=3, warm_ups=0), first


def params_of(subnet: Subnet) -> dict[str, float]:
    """Return paper 2's parameters of a subnet in thousands, from the sizes of its feed-forward modules alone."""
    depth = 16 if subnet.path is None else len(subnet.path)
    # Modules of full size are not listed.
    smaller = sum(4096 - unit_count(units) for _, units in subnet.units)
    return {"params": float(depth * (1190 + 4096) - smaller)}


def errors_of(subnet: Subnet) -> int:
    """Return made-up errors of a subnet, fewer in larger ones."""
    return round(4e6 / params_of(subnet)["params"]) + zlib.crc32(subnet.to_json().encode()) % 20


def proposal_seconds() -> tuple[float, float]:
    """Return processor seconds for the proposals of NSGA-II without any measuring, here and by a study of optuna."""
    generator = Nsga2(
        Feasible(PAPER, params_of, "params", Limits()), Nsga2SearchConfig(candidates=PROPOSALS, population=32), seed=0
    )
    found: list[Candidate] = []
    start = time.process_time()
    while (proposal := generator.propose(History(found))) is not None:
        subnet = proposal.subnet
        figures = (params_of(subnet), None, errors_of(subnet), 1000, 0.0, proposal.marks)
        found.append(Candidate(subnet, "measured", *figures))
    ours = time.process_time() - start
    sampler = optuna.samplers.NSGAIISampler(population_size=32, seed=0)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    start = time.process_time()
    for _ in range(PROPOSALS):
        trial = study.ask(distributions(PAPER))
        subnet = PAPER.from_genes(trial.params)
        study.tell(trial, [errors_of(subnet), params_of(subnet)["params"]])
    return ours, time.process_time() - start


def workers_seconds(job: Job, workers: int) -> float:
    """Return the same with workers, from the first finished candidate to the last, without the start of processes."""
    search = job.open()
    for _ in run_workers(job, search, workers):
        pass
    trials = optuna.load_study(study_name=search.study.name, storage=search.study.database.storage).get_trials()
    ends = sorted(trial.datetime_complete for trial in trials if trial.datetime_complete)
    return (ends[-1] - ends[0]).total_seconds() / (len(ends) - 1)


def measure(name: str, exp: Path, data: Path, databases: Path) -> None:
    """Run all comparisons of one supernet, each with a study of its own."""
    overrides = ("search.kind=evolution", f"search.initial={INITIAL}", f"search.generations={GENERATIONS}")
    jobs = iter(Job(exp, data, overrides, f"sqlite:///{databases}/{name}{number}.db") for number in range(9))
    whole = Job(exp, data, (*overrides, "search.stop_early=false"), f"sqlite:///{databases}/{name}.db")
    plain = plain_seconds(next(jobs).open())
    ours, front = search_seconds(next(jobs))
    all_measured, _ = search_seconds(whole)
    halving = Job(exp, data, (*overrides, "search.halving=true"), f"sqlite:///{databases}/{name}-halving.db")
    halved, reached = search_seconds(halving)
    rates = [60 / ours, 60 / plain]
    title = f"search, {name}, candidates per minute against the plain loop"
    report(title, rates[0], rates[1], rates[0] / rates[1], TARGET_PLAIN, none_stopped_early=60 / all_measured)
    lost = {point.subnet for point in front} - {point.subnet for point in reached}
    title = f"search, {name}, seconds per candidate, with halving against without"
    report(title, halved, ours, halved / ours, None, front_points=len(front), front_points_lost=len(lost))
    again, first = meter_seconds(next(jobs))
    title = f"search, {name}, seconds to measure time and memory of a subnet, against a process for it alone"
    report(title, again, first, again / first, None)
    one = workers_seconds(next(jobs), 1)
    two = workers_seconds(next(jobs), 2)
    title = f"search, {name}, candidates per minute, two workers against one"
    report(title, 60 / two, 60 / one, one / two, TARGET_WORKERS)


def main() -> None:
    """Measure the experiment named on the command line, or both encoders with random weights."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ours, by_optuna = proposal_seconds()
    title = f"search, NSGA-II, seconds for {PROPOSALS} proposals besides measuring (ratio: against 1 s)"
    report(title, ours, by_optuna, ours / 1.0, TARGET_PROPOSALS)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if len(sys.argv) == 3:
            exp, data = map(Path, sys.argv[1:])
            measure(exp.resolve().name, exp, data, root)
            return
        char = ("tokenizer.kind=char",)
        data = make_data(root, load_config(CONF / "todm.yaml", char))
        for encoder, preset in PRESETS.items():
            exp = make_experiment(root / preset, load_config(CONF / f"{preset}.yaml", char), data)
            measure(encoder, exp, data, root)


if __name__ == "__main__":
    main()
