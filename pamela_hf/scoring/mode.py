"""Scoring leaves a model in the mode it was in, from several threads too."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch

_MODES = threading.Lock()
_in_use: "WeakKeyDictionary[torch.nn.Module, tuple[int, list[torch.nn.Module]]]" = WeakKeyDictionary()


@contextmanager
def scoring_mode(model: torch.nn.Module) -> Iterator[None]:
    """Holds a model in eval mode; afterwards each of its modules is in the mode it was in.

    Where several threads score at once, the first of them changes the mode and the last changes it back.
    """
    with _MODES:
        count, training = _in_use.get(model, (0, []))
        if not count:
            training = [module for module in model.modules() if module.training]
            if training:
                model.eval()
        _in_use[model] = count + 1, training
    try:
        yield
    finally:
        with _MODES:
            count, training = _in_use.pop(model)
            if count > 1:
                _in_use[model] = count - 1, training
            else:
                for module in training:
                    module.training = True
