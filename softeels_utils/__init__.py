"""Low-dose EELS tomography of oxidation states; each subpackage or module is one step of the analysis.

Import the modules themselves, ``from softeels_utils import dose, fitting``: importing one loads only what it needs.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
