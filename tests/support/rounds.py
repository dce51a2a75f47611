"""A scale whose brackets go in rounds and whose runs the stand-in trainer does; as a program, it trains a claim of it.

python -m tests.support.rounds STORE PROCESSES
"""

from __future__ import annotations

import sys
from dataclasses import replace

from replicate.paper.registry import claim
from replicate.runs import scales
from replicate.runs.bracket import Rounds
from replicate.runs.needed import in_rounds
from replicate.runs.run import ModelSpec
from replicate.store.store import open_store
from replicate.train.engine import local
from tests.support import faketrainer

CLAIM = claim("rho/resnet50-cifar100")
SCALE = replace(
    scales.get("smoke"),
    models=(("resnet50", ModelSpec("fake", (("sleep", 0.02),))),),
    epochs=60,
    seeds=(0, 1, 2, 3),
    weight_decays=(0.0, 0.1),
    kappas=(1.0,),
    bracket=Rounds(),
)

if __name__ == "__main__":
    into = open_store(sys.argv[1])
    for runs in in_rounds([CLAIM], SCALE, into.result):
        local.ensure(into, runs, processes=int(sys.argv[2]), trainer=faketrainer.NAME)
