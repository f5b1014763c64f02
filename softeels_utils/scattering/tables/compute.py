"""Near-edge shapes of iron and manganese from atomic multiplets, for the digital twin: makes the CSV tables beside it.

    pip install edrixs==0.2.0 mpi4py && python compute.py          (about a minute)

edrixs is not a dependency of the project: the tables are kept, this says where they come from.

Model: one ion, 3d^n -> p^5 3d^(n+1), full Coulomb interaction, spin-orbit coupling and a cubic crystal
field, no charge transfer; isotropic dipole transitions at 300 K (Boltzmann over the ground multiplet).
The shapes are multiplet-motivated, never measured. Sources of the numbers:

- Slater integrals and spin-orbit constants: Hartree-Fock (Cowan) values as in crispy's tables for
  Fe2+, Fe3+, Mn2+ and Mn3+ (M. Retegan, Crispy, doi:10.5281/zenodo.1008184), in eV, below.
- Reduction: 80 % (de Groot and Kotani 2008), but the 3p-3d integrals to 65 %: these two holes share a
  shell and screen more; with 80 % the first peak lies 3.3 eV (Fe2+) and 5.5 eV (Fe3+) before the maximum,
  with 65 % it comes near the 2.2 and 4.2 eV measured (van Aken et al. 1999, Phys Chem Minerals 26, 584).
  The choice is not critical: with 80 % the equal-bound fluence ratios of chapter 01 move by at most 15 %.
- 10Dq, iron: 1.2 eV for Fe2+ Oh, 1.5 eV for Fe3+ Oh, -0.7 eV for Fe3+ Td (about 4/9 of Oh, opposite sign), the
  order of values used for FeO and Fe3O4 in Miedema and de Groot 2013, J Electron Spectrosc 187, 32. Manganese: the
  same for Mn2+ Oh and Mn3+ Oh (a choice; optical spectra of MnO give 1.2 eV, Pratt and Coelho 1959, Phys Rev 116,
  281), -0.5 eV for Mn2+ Td. The tetragonal distortion about Mn3+ is left out.
- Energies (not known to multiplets), iron: L3 maximum 707.8 eV for Fe2+ and 709.5 eV for Fe3+ (van Aken et al. 1998,
  Phys Chem Minerals 25, 323). M2,3 maximum 57.0 eV for Fe2+ ("about 57 eV", van Aken et al. 1999) and 57.8 eV for
  Fe3+ (the 3p level shifts to higher energy with valence, Yamashita and Hayes 2008, Appl Surf Sci 254, 2441; the
  size of the shift here is a choice). The Td site is shifted like the Oh site of the same valence.
- Energies, manganese: choices. L3 maximum 640.0 eV for Mn2+, 1.6 eV more for Mn3+ (of the size that Garvie and Craven
  1994, Phys Chem Minerals 21, 191, report). M2,3 maximum 50.6 eV for Mn2+ and 51.4 eV for Mn3+: the shift is that of
  iron, the place is such that a mean valence of 3.3 has the maximum within 1 eV of that in the dual EELS of LSMO
  registered with the project (a measured check, on the plasmon tail of another compound).
- Lifetime, L2,3: Lorentzians of half width 0.2 eV (L3) and 0.5 eV (L2, Coster-Kronig decay).
- Lifetime, M2,3: the final states decay by super-Coster-Kronig autoionisation, into channels that open above
  the threshold; the half width grows with the energy of the loss, 0.15 eV at the lowest multiplet and 0.25 eV more
  for each eV, up to 2 eV. Taken at the energy of the loss (an energy-dependent damping), it gives the sharp low
  side and long high side of the giant resonance without Fano's interference dip.
"""

import contextlib
import io
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
K_300_EV = 8.617e-5 * 300
REDUCTION = 0.80
REDUCTION_3P_3D = 0.65
# 3d^n: F2, F4, zeta_d; then with the core hole: F2_dd, F4_dd, F2_pd, G1_pd, G3_pd, zeta_d, zeta_p (eV)
GROUND = {
    ("Fe", 6): (10.9662, 6.8152, 0.0520),
    ("Fe", 5): (12.0428, 7.5345, 0.0588),
    ("Mn", 5): (10.3156, 6.4135, 0.0401),
    ("Mn", 4): (11.4148, 7.1476, 0.0461),
}
EXCITED = {
    ("L2,3", "Fe", 6): (11.7788, 7.3273, 6.7932, 5.0035, 2.8442, 0.0665, 8.1999),
    ("L2,3", "Fe", 5): (12.8179, 8.0230, 7.4458, 5.5659, 3.1660, 0.0743, 8.1988),
    ("M2,3", "Fe", 6): (11.0693, 6.8821, 12.3157, 15.3109, 9.2526, 0.0531, 0.9426),
    ("M2,3", "Fe", 5): (12.0907, 7.5650, 13.0500, 16.1757, 9.8543, 0.0595, 0.9685),
    ("L2,3", "Mn", 5): (11.1551, 6.9425, 6.3211, 4.6064, 2.6177, 0.0527, 6.8458),
    ("L2,3", "Mn", 4): (12.2097, 7.6486, 6.9884, 5.1788, 2.9452, 0.0593, 6.8450),
    ("M2,3", "Mn", 5): (10.4314, 6.4886, 11.6436, 14.4973, 8.7529, 0.0411, 0.7719),
    ("M2,3", "Mn", 4): (11.4685, 7.1819, 12.4002, 15.3944, 9.3755, 0.0467, 0.7954),
}
# 3d electrons and 10Dq (eV); the first ion of each number of electrons sets the energy of the others
IONS = {
    "Fe": {"Fe2+ Oh": (6, 1.2), "Fe3+ Oh": (5, 1.5), "Fe3+ Td": (5, -0.7)},
    "Mn": {"Mn2+ Oh": (5, 1.2), "Mn3+ Oh": (4, 1.5), "Mn2+ Td": (5, -0.5)},
}
MAXIMUM = {
    "Fe": {("L2,3", 6): 707.8, ("L2,3", 5): 709.5, ("M2,3", 6): 57.0, ("M2,3", 5): 57.8},
    "Mn": {("L2,3", 5): 640.0, ("L2,3", 4): 641.6, ("M2,3", 5): 50.6, ("M2,3", 4): 51.4},
}
GRID = {
    ("L2,3", "Fe"): np.arange(695.0, 745.01, 0.05),
    ("M2,3", "Fe"): np.arange(46.0, 90.01, 0.05),
    ("L2,3", "Mn"): np.arange(627.0, 677.01, 0.05),
    ("M2,3", "Mn"): np.arange(39.6, 83.61, 0.05),
}


def sticks(edge, element, electrons, ten_dq):
    """Energies (eV, from the ground state) and isotropic dipole strengths of all transitions."""
    import edrixs

    f2, f4, zeta = GROUND[element, electrons]
    f2, f4 = REDUCTION * f2, REDUCTION * f4
    g2, g4, p2, g1, g3, zeta_n, zeta_c = EXCITED[edge, element, electrons]
    g2, g4 = REDUCTION * g2, REDUCTION * g4
    p2, g1, g3 = np.multiply((p2, g1, g3), REDUCTION_3P_3D if edge == "M2,3" else REDUCTION)
    slater = (
        [edrixs.get_F0("d", f2, f4), f2, f4],
        [edrixs.get_F0("d", g2, g4), g2, g4, edrixs.get_F0("dp", g1, g3), p2, g1, g3],
    )
    with contextlib.redirect_stdout(io.StringIO()):
        initial, final, dipole = edrixs.ed_1v1c_py(
            ("d", "p"),
            v_soc=(zeta, zeta_n),
            c_soc=zeta_c,
            v_noccu=electrons,
            slater=slater,
            v_cfmat=edrixs.cf_cubic_d(ten_dq),
        )
    population = np.exp(-(initial - initial.min()) / K_300_EV)
    strength = (np.abs(dipole) ** 2).sum(axis=0) @ (population / population.sum())
    assert np.isclose(strength.sum(), 10 - electrons), "dipole sum rule: the strength is the number of 3d holes"
    return final - initial.min(), strength


def half_width(edge, energy, lines, strength):
    """Half width of the lifetime Lorentzian (eV): of each line (L2,3), at each loss (M2,3)."""
    if edge == "L2,3":
        return np.where(lines < lines.min() + 11.0, 0.2, 0.5)[None, :]
    onset = lines[strength > 1e-3].min()
    return np.clip(0.15 + 0.25 * (energy - onset), 0.15, 2.0)[:, None]


def shape(edge, lines, strength, energy):
    """Lifetime-broadened shape, 1/eV; its integral over all energies is 1."""
    gamma = half_width(edge, energy, lines, strength)
    y = (strength / np.pi * gamma / ((energy[:, None] - lines) ** 2 + gamma**2)).sum(axis=1)
    return y / strength.sum()


if __name__ == "__main__":
    for (edge, element), grid in GRID.items():
        lines = {ion: sticks(edge, element, *parameters) for ion, parameters in IONS[element].items()}
        shift = {}
        for ion, (electrons, _) in IONS[element].items():
            if electrons not in shift:
                free = np.arange(-12, 14, 0.01)
                shift[electrons] = MAXIMUM[element][edge, electrons] - free[shape(edge, *lines[ion], free).argmax()]
        columns = [grid]
        for ion, (electrons, _) in IONS[element].items():
            energy, strength = lines[ion]
            y = shape(edge, energy + shift[electrons], strength, grid)
            columns.append(y / np.trapezoid(y, grid))
        name = f"{element.lower()}_{edge[0].lower()}23.csv"
        header = (
            f"{element}-{edge} near-edge shapes, lifetime-broadened, area 1 on this grid; made by compute.py "
            "(edrixs 0.2.0)\nenergy_eV," + ",".join(IONS[element])
        )
        np.savetxt(HERE / name, np.transpose(columns), fmt=["%.2f"] + ["%.5e"] * 3, delimiter=",", header=header)
        print(name, {n: round(s, 2) for n, s in shift.items()})
