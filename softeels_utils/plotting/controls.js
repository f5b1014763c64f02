// Controls of one plotly figure, run in the page once plotly has drawn it: HTML elements, which a keyboard reaches and a
// screen reader names, in place of plotly's own sliders and menus; and a second layout for narrow pages.
// interactive.py puts in the settings, plotly the id of its div.
(function () {
  const figure = document.getElementById('{plot_id}'), controls = __SETTINGS__;
  figure.style.height = figure.parentElement.style.height = 'auto';  // room for controls, and for another layout
  function run(step) { return Plotly[step.method](figure, ...(step.args || [])); }
  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }
  const above = element('div', {className: 'softeels-controls'}), below = element('div', {className: 'softeels-controls'});
  [above, below].forEach(function (box) {
    box.style.cssText = 'display:flex;flex-wrap:wrap;gap:0.3rem 0.8rem;align-items:center;justify-content:center';
  });

  controls.sliders.forEach(function (slider) {
    const input = element('input', {type: 'range', min: 0, max: slider.steps.length - 1, value: slider.active});
    const output = element('output', {});
    input.style.width = 'min(22rem, 45vw)';
    function name() {
      const label = slider.steps[+input.value].label;
      output.textContent = label + slider.suffix;
      input.setAttribute('aria-valuetext', label + slider.suffix);
    }
    input.addEventListener('input', function () { name(); run(slider.steps[+input.value]); });
    name();
    below.append(element('label', {}, slider.prefix + ' ', input, ' ', output));
  });

  controls.menus.forEach(function (menu) {
    const group = element('div', {});
    group.setAttribute('role', 'group');
    group.setAttribute('aria-label', menu.name);
    menu.steps.forEach(function (step, number) {
      const button = element('button', {type: 'button', textContent: step.label});
      button.style.cssText = 'font:inherit;padding:0.15rem 0.6rem;margin:0 0.1rem;cursor:pointer';
      function press(pressed) {
        button.setAttribute('aria-pressed', pressed);
        button.style.fontWeight = pressed ? 'bold' : 'normal';
      }
      press(number === menu.active);
      button.addEventListener('click', function () {
        group.childNodes.forEach(function (other) { other.press(other === button); });
        run(step);
      });
      button.press = press;
      group.append(button);
    });
    above.append(group);
  });

  if (above.childNodes.length) figure.before(above);
  if (below.childNodes.length) figure.after(below);

  if (controls.narrow) {
    let shown = 'wide';
    new ResizeObserver(function () {
      const fits = figure.clientWidth < 560 ? 'narrow' : 'wide';
      if (!figure.clientWidth || fits === shown) return;
      Plotly.relayout(figure, controls[shown = fits]);
    }).observe(figure);
  }
})();
