"""Turn the state of a training into the content of a checkpoint, and restore it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import UserError, is_memory_error
from .device import PRECISIONS

if TYPE_CHECKING:
    from ._network_trainer import NetworkTrainer


def contents(trainer: NetworkTrainer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header and the tensors of a checkpoint.

    Parameters
    ----------
    trainer : NetworkTrainer
        The training, between two steps.

    Returns
    -------
    header, tensors : dict
        Settings, numbers and state of the random generator as JSON values; weights, optimizers and
        state of the other random generator.
    """
    tensors = {f"network.{k}": v for k, v in trainer.network.state_dict().items()}
    tensors |= {f"averaged.{k}": v for k, v in trainer.averaged.items()}
    tensors |= {f"best.{k}": v for k, v in trainer.best.items()}
    tensors |= {f"teacher.{k}": v for k, v in trainer.teacher_weights.items()}
    for which, optimizer in enumerate(trainer.optimizers):
        for i, state in optimizer.state_dict()["state"].items():
            at = f"optimiser.{which}.{i}"
            tensors |= {f"{at}.{k}": torch.as_tensor(v) for k, v in state.items()}
    tensors["noise"] = trainer.generator.get_state()
    header = {
        "same": trainer.settings,
        "steps": trainer.steps,
        "seconds": trainer.seconds,
        "loss": trainer.loss,
        "held_out": None
        if math.isnan(trainer.val_loss)
        else [trainer.val_loss, trainer.best_loss, trainer.best_step],
        "precision": trainer.precision,
        "rng": trainer.rng.bit_generator.state,
    }
    return header, tensors


def restore_contents(
    trainer: NetworkTrainer,
    path: str | os.PathLike[str],
    header: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
) -> None:
    """Restore the state of a training from the content of a checkpoint.

    Parameters
    ----------
    trainer : NetworkTrainer
        A training with the same settings, before its first step.
    path : path-like
        The file, for messages.
    header, tensors : mapping
        As from `contents`.

    Raises
    ------
    UserError
        If the checkpoint is damaged, or belongs to another training.
    """
    same = json.loads(json.dumps(trainer.settings))
    begun = header.get("same")
    if not isinstance(begun, dict):
        raise UserError(f"{path}: not a {trainer.file_kind} of noise2score, or damaged")
    # earlier versions did not record that there is no context
    keys = dict.fromkeys([*same, "context"])
    if different := [k for k in keys if begun.get(k) != same.get(k)]:
        raise UserError(
            f"{path}: it was begun with other {', '.join(different)}; "
            "resume with the same images and settings, or start again"
        )
    try:
        _restore(trainer, header, tensors)
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError, OverflowError) as error:
        if is_memory_error(error):
            raise
        raise UserError(f"{path}: not a complete {trainer.file_kind}") from None


def _restore(
    trainer: NetworkTrainer, header: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Restore the state from a header and tensors; an error if they are not complete."""

    def tensors_of(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    keys = ("steps", "seconds", "loss", "precision")
    steps, seconds, loss, precision = (header[key] for key in keys)
    held_out = header.get("held_out")
    numbers = [seconds, loss, *(held_out or [])]
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in numbers):
        raise ValueError("not numbers")
    if type(steps) is not int or steps < 1 or seconds < 0:
        raise ValueError("no such step")
    if precision not in PRECISIONS:
        raise ValueError("no such precision")
    trainer.network.load_state_dict(tensors_of("network."))
    averaged = tensors_of("averaged.")
    for key, value in trainer.averaged.items():
        value.copy_(_like(averaged[key], value))
    for which, optimizer in enumerate(trainer.optimizers):
        parameters = optimizer.param_groups[0]["params"]
        state: dict[int, dict[str, Tensor]] = {i: {} for i in range(len(parameters))}
        for key, value in tensors_of(f"optimiser.{which}.").items():
            index, name = key.split(".")
            at = int(index)
            state[at][name] = value if name == "step" else _like(value, parameters[at])
        if any(not tensors for tensors in state.values()):
            raise ValueError("the state of an optimizer is missing")
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    trainer.generator.set_state(tensors["noise"])
    trainer.rng.bit_generator.state = header["rng"]
    trainer.steps, trainer.seconds, trainer.loss = steps, seconds, loss
    trainer.precision = precision
    teacher = tensors_of("teacher.")
    trainer.teacher_weights = {k: _like(teacher[k], trainer.averaged[k]) for k in teacher}
    if held_out is not None:
        trainer.val_loss, trainer.best_loss, trainer.best_step = held_out
        best = tensors_of("best.")
        trainer.best = {k: _like(best[k], v).to(v.device) for k, v in trainer.averaged.items()}


def _like(value: Tensor, other: Tensor) -> Tensor:
    """Return a tensor of a file; a `ValueError` unless it has shape and type of another."""
    if value.shape != other.shape or value.dtype != other.dtype:
        raise ValueError("a tensor does not fit")
    return value
