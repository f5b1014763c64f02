// Fills the planner of the page from its precomputed grid, once plotly has drawn the figure. planner.py puts the grid
// in place of __GRID__, plotly the id of its div.
(function () {
  const grid = __GRID__, plot = document.getElementById('{plot_id}');
  const box = plot.closest('.softeels-planner'), names = Object.keys(grid.axes);
  const state = grid.start.slice(), fluence = names.indexOf('fluence_e_per_A2');
  function value(name, index) {  // null where there is no number
    const quantity = grid.quantities[name];
    let flat = 0;
    quantity.axes.forEach(function (a) { flat = flat * grid.axes[names[a]].length + index[a]; });
    return quantity.values[flat];
  }
  function recorded(name) { return grid.quantities[name].values.some(function (x) { return x !== null; }); }
  function short(x) {
    if (Number.isInteger(x)) return x.toLocaleString('en');
    return x >= 1000 ? Math.round(x).toLocaleString('en') : x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) :
      x.toPrecision(2);
  }
  function time(s) { return s < 90 ? short(s) + ' s' : s < 5400 ? short(s / 60) + ' min' : short(s / 3600) + ' h'; }
  function shown(name, unit) {
    const x = value(name, state), feature = /^(void|skin)_nm$/.test(name);
    if (x === null && feature) return (name === 'skin_nm' ? 'thicker' : 'larger') + ' than the particle';
    if (x === null) return recorded(name) ? 'outside the record' : 'no record';
    if (feature && x === value('delocalisation_nm', state)) {
      return 'not below ' + short(x) + '\u00a0' + unit + ', the delocalisation of ' + grid.axes.edge[state[0]];
    }
    if (name === 'cpu_seconds') return time(x);
    if (name === 'nrmse') return range(name) + elements();
    if (name === 'fine_nrmse') return range(name) + fine();
    return short(x) + '\u00a0' + unit;
  }
  function range(name) {  // median (least to most)
    const ends = ['_least', '_most'].map(function (end) { return value(name + end, state).toFixed(2); });
    return value(name, state).toFixed(2) + (ends[0] === ends[1] ? '' : ' (' + ends.join(' to ') + ')');
  }
  function elements() { return ', elements of ' + short(value('element_nm', state)) + '\u00a0nm'; }
  function fine() {
    return ', ' + grid.fine_views + ' tilts, voxels of ' + short(value('fine_voxel_nm', state)) + '\u00a0nm at ' +
      short(value('fine_fluence', state)) + '\u00a0' + grid.units.fluence_e_per_A2;
  }
  function curve(name) {
    return grid.axes.fluence_e_per_A2.map(function (_, i) {
      const index = state.slice();
      index[fluence] = i;
      return value(name, index);
    });
  }
  function put(element, text) { element.textContent = text.replaceAll('e/Å²', 'e/\u2060Å²'); }  // not broken there
  function draw() {
    names.forEach(function (name, a) {
      const control = box.querySelector('[name="' + name + '"]');
      if (control.type !== 'range') return;
      const text = (short(grid.axes[name][state[a]]) + ' ' + grid.units[name]).trim();
      control.setAttribute('aria-valuetext', text);
      put(control.nextElementSibling, text);
    });
    box.querySelectorAll('td > [data-planner]').forEach(function (cell) {
      put(cell, shown(cell.dataset.planner, cell.dataset.unit));
    });
    put(box.querySelector('[data-planner="summary"]'), 'NRMSE with exact references: ' + shown('nrmse', '') +
      '; NRMSE recorded on fine voxels, references found: ' + shown('fine_nrmse', '') +
      '; smallest void: ' + shown('void_nm', 'nm') + '; thinnest skin: ' + shown('skin_nm', 'nm') +
      '; fluence of the series: ' + shown('total', 'e/Å²') + '.');
    const ys = ['nrmse_least', 'nrmse_most', 'nrmse', 'void_nm', 'skin_nm'].map(curve);
    const x = grid.axes.fluence_e_per_A2[state[fluence]], colour = grid.colours[grid.axes.edge[state[0]]];
    Plotly.restyle(plot, {y: ys, 'line.color': colour, 'marker.color': colour});
    Plotly.relayout(plot, {shapes: [{type: 'line', xref: 'x', yref: 'paper', x0: x, x1: x, y0: 0, y1: 1,
      line: {color: 'grey', dash: 'dot', width: 1}}]});
  }
  names.forEach(function (name, a) {
    const control = box.querySelector('[name="' + name + '"]');
    control.addEventListener(control.type === 'range' ? 'input' : 'change', function () {
      state[a] = +this.value;
      draw();
    });
  });
  draw();
})();
