"""An optimiser for small networks: Adam in the eigenbasis of the gradients of each weight matrix (SOAP)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

__all__ = ["SOAP"]

BETAS = (0.9, 0.99)  # of Adam, for what is no matrix
MATRIX_BETAS = (0.9, 0.95)  # of Adam in the eigenbasis; the second is that of the covariances, too
EVERY = 20  # steps between two turns of the basis
NOISE = (
    1e-6  # of the largest root mean square: what rounding leaves in directions that have none, and no reason to move
)
EPSILON = 1e-12


class SOAP(torch.optim.Optimizer):
    """Adam, for matrices in the eigenbasis of the running covariances of their gradient's rows and columns.

    Gradients of a perceptron on Fourier features are strongly correlated: Adam alone needs several times as many
    steps, and more of them for a small specimen in a large field.

    Parameters
    ----------
    parameters : iterable of tensors
    learning_rate : float

    References
    ----------
    N. Vyas et al., ICLR 2025, arXiv:2409.11321.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], learning_rate: float):
        super().__init__(parameters, {"lr": learning_rate})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move each parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(group["lr"] * self._direction(parameter, self.state[parameter]))

    def _direction(self, parameter, state):
        gradient, matrix = parameter.grad, parameter.ndim == 2
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
        state["step"] += 1
        first, second = MATRIX_BETAS if matrix else BETAS
        mean = state["mean"].lerp_(gradient, 1 - first)
        if matrix:
            _turn_basis(gradient, state, second)
            gradient, mean = (state["rows"].T @ x @ state["columns"] for x in (gradient, mean))
        square = state["square"].lerp_(gradient.square(), 1 - second)
        mean, square = (x / (1 - beta ** state["step"]) for x, beta in ((mean, first), (square, second)))
        root = square.sqrt()
        direction = mean / (root + NOISE * root.max() + EPSILON)
        return state["rows"] @ direction @ state["columns"].T if matrix else direction


def _turn_basis(gradient, state, beta):
    """Update the covariances of rows and columns, and now and then their eigenvectors, by one power iteration.

    The largest come first, as QR keeps the first direction and bends the last. The mean squares turn with the basis, as
    those of independent components do: left as they are, a direction that had no gradient before a turn and has one
    after it is divided by next to nothing, and one such step may empty the whole volume.
    """
    for name, covariance in (("rows", gradient @ gradient.T), ("columns", gradient.T @ gradient)):
        if name not in state:
            state[f"{name}_covariance"] = (1 - beta) * covariance
            state[name] = torch.linalg.eigh(covariance)[1]
            continue
        covariance = state[f"{name}_covariance"].lerp_(covariance, 1 - beta)
        if state["step"] % EVERY == 0:
            before, turned = state[name], covariance @ state[name]
            order = (before * turned).sum(0).argsort(descending=True)
            state[name] = torch.linalg.qr(turned[:, order])[0]
            turn = (state[name].T @ before).square()
            state["square"] = turn @ state["square"] if name == "rows" else state["square"] @ turn.T
