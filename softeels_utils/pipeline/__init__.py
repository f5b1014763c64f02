"""From files to a volume with errors, in steps whose results are files; nothing in it is simulated.

`inspect` says what files contain and at which step they can enter; `Settings` says what is reconstructed and how, and
`reconstruct` does it: spectra cleaned, standards, phase maps with covariance, alignment, DIPm-TV with its ensemble,
comparison on withheld tilts, halves of the dose, files for other programs, a report. A step is repeated only when
something that it depends on has changed, and resumes where it was killed.
"""

from .chain import classical_volumes, reconstruct
from .folder import Folder, FolderBusy, Step
from .inspection import Inspection, inspect, inspection_page, inspection_table, write_settings
from .metal import metal_and_valence, metal_maps
from .series import Maps
from .settings import Settings, expand, plain_yaml
from .volume_files import volume_signal, write_maps, write_volume

__all__ = [
    "Folder",
    "FolderBusy",
    "Inspection",
    "Maps",
    "Settings",
    "Step",
    "classical_volumes",
    "expand",
    "inspect",
    "inspection_page",
    "inspection_table",
    "metal_and_valence",
    "metal_maps",
    "plain_yaml",
    "reconstruct",
    "volume_signal",
    "write_maps",
    "write_settings",
    "write_volume",
]
