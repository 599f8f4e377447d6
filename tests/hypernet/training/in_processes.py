"""Run by a launcher in each of its processes: train what recipes say, one after the other."""

import json
import sys
from pathlib import Path

from tokswap.hypernet.training.recipe import make_train_recipe
from tokswap.hypernet.training.train import train_hypernet

for path in sys.argv[1:]:
    train_hypernet(make_train_recipe(json.loads(Path(path).read_text(encoding="utf-8"))))
