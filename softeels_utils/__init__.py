"""Low-dose EELS tomography of oxidation states, one module to a step.

Import the modules themselves, ``from softeels_utils import dose, fitting``: each is one subject, and
importing one does not pay for the others.
"""

__version__ = "0.1.0"
