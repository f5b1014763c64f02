// Turns a 3-D view about its vertical axis while it is on the screen, until the reader takes hold of it, or until it is
// clear that the machine draws it too slowly.
(function () {
  const figure = document.getElementById('{plot_id}'), still = matchMedia('(prefers-reduced-motion: reduce)');
  const button = document.createElement('button');
  let turning = !still.matches, seen = false, last = 0, slow = 0;
  button.type = 'button';
  button.style.cssText = 'display:block;margin:0.2rem auto;font:inherit;padding:0.15rem 0.6rem;cursor:pointer';
  function set(wanted) {
    turning = wanted;
    slow = 0;
    button.textContent = turning ? 'stop turning' : 'turn';
  }
  set(turning);
  button.addEventListener('click', function () { set(!turning); });
  figure.addEventListener('pointerdown', function () { set(false); }, true);
  figure.addEventListener('keydown', function (event) { if (event.key !== 'Tab') set(false); });
  figure.after(button);
  new IntersectionObserver(function (entries) { seen = entries[entries.length - 1].isIntersecting; }).observe(figure);
  function frame(now) {
    if (turning && seen && now - last > 50) {
      slow = now - last > 250 ? slow + 1 : 0;
      if (slow > 8) set(false);
      const scene = figure._fullLayout.scene._scene, camera = scene.getCamera(), angle = Math.min(now - last, 100) / 5000;
      const x = camera.eye.x, y = camera.eye.y;
      camera.eye.x = x * Math.cos(angle) - y * Math.sin(angle);
      camera.eye.y = x * Math.sin(angle) + y * Math.cos(angle);
      scene.setViewport({camera: camera, aspectratio: scene.fullSceneLayout.aspectratio,
        aspectmode: scene.fullSceneLayout.aspectmode});
      last = now;
    }
    requestAnimationFrame(frame);
  }
  requestAnimationFrame(frame);
})();
