"""Dose calculator for a page: a precomputed grid of bounds, and controls that read it without a kernel."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ..simulate import Microscope, spectrum_model
from .bounds import linear_model
from .efficiency import iron_weights

EDGES = ("M2,3", "L2,3")
QUANTITIES = ("FeO", "Fe3O4", "total iron")


@dataclass(frozen=True)
class Calculator:
    """Standard errors of FeO, Fe3O4 and total iron on a grid of conditions; shows itself in a notebook or page.

    Attributes
    ----------
    axes : dict
        Values of each condition, in the order of the axes of `error_nm`.
    electrons : (N,)
        Electrons in a pixel.
    error_nm : (..., 2, 3, N)
        Conditions, edge (M2,3, L2,3), quantity (FeO, Fe3O4, total iron), electrons.
    """

    axes: dict
    electrons: np.ndarray
    error_nm: np.ndarray

    def html(self) -> str:
        """The figure and its controls as HTML; plotly draws it, no kernel is asked."""
        from ..plotting import COLORS, _to_html

        figure = self._figure(COLORS)
        script = _SCRIPT.replace("__GRID__", self._json())
        return _to_html(figure, full_html=False, post_script=script)

    _repr_html_ = html

    def _start(self) -> tuple:
        return tuple(len(v) // 2 if name != "readout" else 0 for name, v in self.axes.items())

    def _figure(self, colors):
        import plotly.graph_objects as go

        figure = go.Figure()
        fluence = self.electrons / 16.0  # pixel of 0.4 nm; the page's control rescales it
        for edge, dash in zip(EDGES, ("solid", "dash"), strict=True):
            for k, quantity in enumerate(QUANTITIES):
                figure.add_trace(
                    go.Scatter(
                        x=fluence,
                        y=self.error_nm[self._start()][EDGES.index(edge), k],
                        mode="lines",
                        name=f"{quantity}, {edge}",
                        line={"color": colors["Fe total" if k == 2 else quantity], "dash": dash},
                        hovertemplate="%{x:.2e} e/Å²: %{y:.2f} nm",
                    )
                )
        figure.update_layout(
            template="plotly_white",
            xaxis={"type": "log", "title": {"text": "fluence (e/Å²)"}, "exponentformat": "power"},
            yaxis={"type": "log", "title": {"text": "standard error (nm)"}, "exponentformat": "power"},
            legend={"orientation": "h", "y": -0.25},
            margin={"l": 70, "r": 20, "t": 20, "b": 60},
            height=400,
            autosize=True,
        )
        return figure

    def _json(self) -> str:
        logs = np.round(np.log10(self.error_nm), 4)
        return json.dumps(
            {
                "axes": {name: [float(v) for v in values] for name, values in self.axes.items()},
                "start": list(self._start()),
                "electrons": [float(f"{n:.5g}") for n in self.electrons],
                "shape": list(logs.shape),
                "log_error": logs.ravel().tolist(),
            },
            separators=(",", ":"),
        )


def calculator(
    *,
    beam_energy_keV=(80.0, 200.0, 300.0),
    collection_mrad=(10.0, 20.0, 40.0),
    energy_resolution_eV=(0.3, 0.7, 1.2),
    thickness_nm=(5.0, 10.0, 20.0, 40.0, 80.0),
    readout_electrons=(0.0, 1.0, 5.0),
    microscope: Microscope | None = None,
) -> Calculator:
    """Bounds of both edges over all combinations of some conditions, as `Calculator`.

    Parameters
    ----------
    thickness_nm
        Total thickness, half FeO, half Fe3O4.
    readout_electrons
        Readout noise of a channel in electrons (standard deviation); 0 is a camera that counts.
    microscope
        Everything else.
    """
    microscope = microscope or Microscope()
    axes = {
        "beam_energy": tuple(beam_energy_keV),
        "collection": tuple(collection_mrad),
        "resolution": tuple(energy_resolution_eV),
        "thickness": tuple(thickness_nm),
        "readout": tuple(readout_electrons),
    }
    for name, values in axes.items():
        if not values or not np.isfinite(values).all() or min(values) < 0:
            raise ValueError(f"{name} must be finite values of at least 0, got {values!r}")
    electrons = np.geomspace(1e3, 1e9, 13)
    error = np.empty((*(len(v) for v in axes.values()), 2, 3, electrons.size))
    for i, j, k in product(*(range(len(v)) for v in list(axes.values())[:3])):
        model = spectrum_model(
            replace(
                microscope,
                beam_energy_keV=axes["beam_energy"][i],
                collection_mrad=axes["collection"][j],
                energy_resolution_eV=axes["resolution"][k],
            )
        )
        weights = np.vstack([np.eye(2), iron_weights(model)])
        for (h, thick), (e, edge) in product(enumerate(axes["thickness"]), enumerate(EDGES)):
            one = linear_model(model, 1.0, edge=edge, thickness_nm=(thick / 2, thick / 2), pixel_size_nm=0.1)
            for r, readout in enumerate(axes["readout"]):
                for n, count in enumerate(electrons):
                    # counts of `count` electrons: everything of one electron scales, the readout noise does not
                    covariance = one.covariance(one.expected / count + (readout / count) ** 2)
                    error[i, j, k, h, r, e, :, n] = np.sqrt(np.einsum("qp,pr,qr->q", weights, covariance, weights))
    return Calculator(axes, electrons, error)


# Runs in the page once plotly has drawn the figure. Builds labelled controls above it and redraws from the grid.
_SCRIPT = """
(function () {
  const grid = __GRID__, plot = document.getElementById('{plot_id}');
  const titles = {beam_energy: ['beam energy', 'kV'], collection: ['collection angle', 'mrad'],
    resolution: ['energy resolution', 'eV'], thickness: ['thickness', 'nm'],
    readout: ['readout noise', 'electrons']};
  const state = grid.start.slice(), names = Object.keys(grid.axes);
  const extra = {fluence: 4, pixel: 0.4};
  const box = document.createElement('div');
  box.className = 'softeels-dose-calculator';
  box.style.cssText = 'display:flex;flex-wrap:wrap;gap:0.4rem 1.2rem;align-items:center;margin:0.4rem 0';
  const result = document.createElement('p');
  result.className = 'softeels-dose-result';
  result.setAttribute('aria-live', 'polite');
  function labelled(text, control) {
    const label = document.createElement('label');
    label.append(text + ' ', control);
    box.append(label);
  }
  names.forEach(function (name, a) {
    const select = document.createElement('select');
    select.name = name;
    grid.axes[name].forEach(function (value, i) {
      select.add(new Option(value + ' ' + titles[name][1], i, i === state[a], i === state[a]));
    });
    select.addEventListener('change', function () { state[a] = +select.value; draw(); });
    labelled(titles[name][0], select);
  });
  function slider(name, text, min, max, step, value, show) {
    const input = document.createElement('input'), out = document.createElement('output');
    Object.assign(input, {type: 'range', name: name, min: min, max: max, step: step, value: value});
    const span = document.createElement('span');
    span.append(input, ' ', out);
    function set() { extra[name] = +input.value; out.textContent = show(extra[name]); }
    input.addEventListener('input', function () { set(); draw(); });
    set();
    labelled(text, span);
  }
  function power(x) { return Math.pow(10, x); }
  function short(x) { return x >= 100 ? x.toFixed(0) : x.toPrecision(2); }
  slider('fluence', 'fluence', 2, 7, 0.1, 4, function (x) { return power(x).toExponential(1) + ' e/Å²'; });
  slider('pixel', 'pixel', 0.1, 2, 0.1, 0.4, function (x) { return x.toFixed(1) + ' nm'; });
  const count = grid.electrons.length;
  function curve(edge, quantity) {
    const index = state.concat([edge, quantity]);
    let flat = 0;
    index.forEach(function (i, a) { flat = flat * grid.shape[a] + i; });
    return grid.log_error.slice(flat * count, (flat + 1) * count);
  }
  function at(y, electrons) {
    const x = grid.electrons.map(Math.log10), v = Math.log10(electrons);
    let i = 0;
    while (i < count - 2 && v > x[i + 1]) i++;
    return power(y[i] + (v - x[i]) / (x[i + 1] - x[i]) * (y[i + 1] - y[i]));
  }
  function needed(y, error) {  // electrons at which the error, which falls with them, is reached
    const x = grid.electrons.map(Math.log10), v = Math.log10(error);
    let i = 0;
    while (i < count - 2 && y[i + 1] > v) i++;
    return power(x[i] + (y[i] - v) / (y[i] - y[i + 1]) * (x[i + 1] - x[i]));
  }
  function draw() {
    const area = 100 * extra.pixel * extra.pixel, electrons = power(extra.fluence) * area;
    const x = grid.electrons.map(function (n) { return n / area; });
    const xs = [], ys = [], text = [];
    [0, 1].forEach(function (edge) {
      [0, 1, 2].forEach(function (q) {
        xs.push(x);
        ys.push(curve(edge, q).map(power));
      });
    });
    ['FeO', 'Fe3O4', 'total iron'].forEach(function (name, q) {
      const m = curve(0, q), l = curve(1, q), error = at(m, electrons);
      text.push(name + ': ' + short(error) + ' nm with M2,3, ' + short(at(l, electrons)) +
        ' nm with L2,3, which needs ' + short(needed(l, error) / electrons) + ' times the fluence for equal error');
    });
    result.textContent = text.join('; ') + '.';
    Plotly.restyle(plot, {x: xs, y: ys});
    Plotly.relayout(plot, {shapes: [{type: 'line', xref: 'x', yref: 'paper', x0: power(extra.fluence),
      x1: power(extra.fluence), y0: 0, y1: 1, line: {color: 'grey', dash: 'dot', width: 1}}]});
  }
  plot.parentNode.style.height = 'auto';  // plotly's frame is as high as the figure alone
  plot.parentNode.insertBefore(box, plot);
  plot.parentNode.insertBefore(result, plot);
  draw();
})();
"""
