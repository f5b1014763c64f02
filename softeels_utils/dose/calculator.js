// Controls of the dose calculator, run in the page once plotly has drawn the figure: builds labelled controls above it
// and redraws it from the precomputed grid. calculator.py puts the grid in place of __GRID__, plotly the id of its div.
(function () {
  const grid = __GRID__, plot = document.getElementById('{plot_id}');
  const titles = {beam_energy_keV: ['beam energy', 'keV'], collection_mrad: ['collection angle', 'mrad'],
    energy_resolution_eV: ['energy resolution', 'eV'], thickness_nm: ['thickness', 'nm'],
    readout_electrons: ['readout noise', 'electrons']};
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
  slider('fluence', 'fluence', 2, 7, 0.1, 4, function (x) { 
    return Number(power(x).toPrecision(2)).toLocaleString('en') + ' e/Å²';
  });
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
      grid.quantities.forEach(function (name, q) {
        xs.push(x);
        ys.push(curve(edge, q).map(power));
      });
    });
    grid.quantities.forEach(function (name, q) {
      const m = curve(0, q), l = curve(1, q), error = at(m, electrons);
      text.push(name + ': ' + short(error) + ' nm with M2,3, ' + short(at(l, electrons)) +
        ' nm with L2,3, which needs ' + short(needed(l, error) / electrons) + ' times the fluence for equal error');
    });
    const pieces = (text.join('; ') + '.').split(/(?<=[ML])(2,3)/);  // edges with their subscripts
    result.replaceChildren(...pieces.map(function (piece, i) {
      return i % 2 ? Object.assign(document.createElement('sub'), {textContent: piece}) : piece;
    }));
    Plotly.restyle(plot, {x: xs, y: ys});
    Plotly.relayout(plot, {shapes: [{type: 'line', xref: 'x', yref: 'paper', x0: power(extra.fluence),
      x1: power(extra.fluence), y0: 0, y1: 1, line: {color: 'grey', dash: 'dot', width: 1}}]});
  }
  plot.parentNode.style.height = 'auto';  // plotly's frame is as high as the figure alone
  plot.parentNode.insertBefore(box, plot);
  plot.parentNode.insertBefore(result, plot);
  draw();
})();
