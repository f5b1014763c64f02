// The spectrum at a pixel of a map, run in the page once plotly has drawn the figure: a click or the arrow keys choose the
// pixel. pixels.py puts in the data (its function _packed says how they are packed), plotly the id of its div.
(function () {
  const figure = document.getElementById('{plot_id}'), data = __SETTINGS__;
  const [rows, columns, channels] = data.shape, size = rows * columns * channels;
  const said = document.createElement('p');
  said.setAttribute('aria-live', 'polite');
  said.style.cssText = 'margin:0.2rem 0;text-align:center';
  figure.after(said);
  let [row, column] = data.start, bytes = null;

  async function unpack() {
    const packed = Uint8Array.from(atob(data.data), function (letter) { return letter.charCodeAt(0); });
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
    bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  }
  // What one of the arrays (0 fits, 1 residuals, 2 bands) holds at the pixel.
  function read(array, summed) {
    const pixel = row * columns + column, low = 2 * array * size + pixel * channels, found = new Array(channels);
    const scale = data.scales[array ? 1 : 0][pixel];
    let sum = 0;
    for (let i = 0; i < channels; i++) {
      const folded = bytes[low + i] | bytes[low + size + i] << 8, value = (folded >> 1) ^ -(folded & 1);
      sum += value;
      found[i] = scale * (summed ? sum : value);
    }
    return found;
  }
  function measured() { return data.measured[row * columns + column]; }
  function say() {
    const texts = data.values.map(function ([name, values, errors]) {
      const value = values[row][column], error = errors && errors[row][column];
      if (!error) return name + ' ' + Number(value.toPrecision(3)) + ' ' + data.unit;
      const digits = Math.min(Math.max(1 - Math.floor(Math.log10(error)), 0), 9);  // two of the error's
      const rounded = error < 100 ? error.toFixed(digits) : Number(error.toPrecision(2));
      return name + ' ' + value.toFixed(digits) + ' \u00b1 ' + rounded + ' ' + data.unit;
    });
    said.textContent = 'Row ' + row + ', column ' + column + ': ' + (measured() ? texts.join('; ') : 'not measured');
  }
  function draw() {
    const fit = read(0, true), left = read(1, false), band = read(2, true), zero = fit.map(function () { return 0; });
    const around = function (middle) {
      return middle.map(function (m, i) { return m + band[i]; })
        .concat(middle.map(function (m, i) { return m - band[i]; }).reverse());
    };
    const curves = [around(fit), fit.map(function (m, i) { return m + left[i]; }), fit, around(zero), left];
    Plotly.restyle(figure, {x: [[column]], y: [[row]]}, [1]);
    Plotly.restyle(figure, {y: measured() ? curves : curves.map(function () { return []; })}, [2, 3, 4, 5, 6]);
    say();
  }
  function choose(newRow, newColumn) {
    row = Math.min(Math.max(newRow, 0), rows - 1);
    column = Math.min(Math.max(newColumn, 0), columns - 1);
    if (bytes) draw();
  }

  say();
  unpack().then(function () {
    figure.on('plotly_click', function (event) {
      const point = event.points[0];
      if (point.curveNumber === 0) choose(point.y, point.x);
    });
    figure.tabIndex = 0;
    figure.setAttribute('role', 'application');
    figure.setAttribute('aria-label', 'Map of ' + rows + ' by ' + columns + ' pixels: arrow keys choose the pixel');
    figure.addEventListener('keydown', function (event) {
      const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
      if (!step || event.target !== figure) return;
      event.preventDefault();
      choose(row + step[0], column + step[1]);
    });
  });
})();
