"""The digital twin: core-shell nanocubes and the dual EELS that a microscope would record of them."""

from .specimen import PHASES, core_shell_nanocube

__all__ = ["PHASES", "core_shell_nanocube"]
