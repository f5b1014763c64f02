// A 3-D view by the keyboard: arrow keys turn it, plus and minus move it nearer or away; a button for each phase in the
// legend hides and shows it. A frame around it is as high as the view and its buttons.
(function () {
  const figure = document.getElementById('{plot_id}'), circle = 2 * Math.PI;
  const moves = {ArrowLeft: [-1, 0, 1], ArrowRight: [1, 0, 1], ArrowUp: [0, 1, 1], ArrowDown: [0, -1, 1],
    '+': [0, 0, 0.9], '-': [0, 0, 1.1]};
  const width = figure.clientWidth, eye = figure.layout.scene.camera.eye;
  const height = Math.min(figure.layout.height, 1.1 * width), away = 1.04 * height / width;
  if (away > 1) {  // a narrow page shows less to the sides: from farther away the axes fit, in a lower figure
    figure.style.height = height + 'px';
    Plotly.relayout(figure, {height: height,
      'scene.camera.eye': {x: away * eye.x, y: away * eye.y, z: away * eye.z}});
  }
  if (window.frameElement) {
    const all = figure.parentElement;
    new ResizeObserver(function () {
      window.frameElement.style.height = Math.ceil(all.getBoundingClientRect().bottom + window.scrollY) + 8 + 'px';
    }).observe(all);
  }
  figure.tabIndex = 0;
  figure.setAttribute('role', 'application');
  figure.setAttribute('aria-label', '3-D view: arrow keys turn it, plus and minus move it nearer or away');
  figure.addEventListener('keydown', function (event) {
    const move = moves[event.key];
    if (!move || event.target !== figure) return;
    event.preventDefault();
    const eye = figure._fullLayout.scene._scene.getCamera().eye, length = Math.hypot(eye.x, eye.y, eye.z) * move[2];
    const around = Math.atan2(eye.y, eye.x) + move[0] * circle / 36;
    const up = Math.max(-1.5, Math.min(1.5, Math.asin(eye.z / Math.hypot(eye.x, eye.y, eye.z)) + move[1] * circle / 36));
    const next = {x: length * Math.cos(up) * Math.cos(around), y: length * Math.cos(up) * Math.sin(around),
      z: length * Math.sin(up)};
    Plotly.relayout(figure, {'scene.camera.eye': next});
  });

  const box = document.createElement('div'), buttons = {};
  box.setAttribute('role', 'group');
  box.setAttribute('aria-label', 'phases shown');
  box.style.cssText = 'text-align:center;margin:0.2rem 0';
  function of(name) {
    return figure.data.map(function (_, i) { return i; })
      .filter(function (i) { return figure.data[i].name === name && figure.data[i].visible !== false; });
  }
  function hidden(name) { return of(name).some(function (i) { return figure.data[i].visible === 'legendonly'; }); }
  function refresh() {
    Object.keys(buttons).forEach(function (name) { buttons[name].setAttribute('aria-pressed', !hidden(name)); });
  }
  figure.data.forEach(function (trace) {
    if (buttons[trace.name]) return;
    const button = buttons[trace.name] = document.createElement('button');
    const digits = function (_, below) { return String.fromCharCode(0x2080 + +below); };
    button.type = 'button';
    button.textContent = trace.name.replace(/<sub>(\d)<\/sub>/g, digits);
    button.style.cssText = 'font:inherit;padding:0.15rem 0.6rem;margin:0 0.1rem;cursor:pointer';
    button.addEventListener('click', function () {
      Plotly.restyle(figure, {visible: hidden(trace.name) ? true : 'legendonly'}, of(trace.name));
    });
    box.append(button);
  });
  if (!box.childNodes.length) return;
  const style = document.createElement('style');
  style.textContent = '#{plot_id} + div button[aria-pressed=false] {text-decoration: line-through; color: #595959}' +
    '#{plot_id}:focus-visible {outline: 2px solid #0b5bc2}';
  document.head.append(style);
  figure.after(box);
  figure.on('plotly_restyle', refresh);
  refresh();
})();
