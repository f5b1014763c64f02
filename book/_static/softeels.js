// What the theme leaves out for people who use a keyboard or a screen reader; and folded parts opened for print.
(function () {
  function name(selector, text) {
    document.querySelectorAll(selector).forEach(function (element) { element.setAttribute('aria-label', text); });
  }

  // Regions that scroll can be reached, and have a name.
  const boxes = '.pst-scrollable-table-container, .bd-article pre, .bd-article .output, .bd-article .math, ' +
    '.bd-article dt.sig, mjx-container';
  function reach() {
    document.querySelectorAll(boxes).forEach(function (box) {
      const scrolls = box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX !== 'visible';
      if (!scrolls || box.hasAttribute('tabindex')) return;
      box.tabIndex = 0;
      if (box.matches('.pst-scrollable-table-container')) {
        box.setAttribute('role', 'region');
        box.setAttribute('aria-label', 'Table, scrolls sideways');
      }
    });
  }

  addEventListener('DOMContentLoaded', function () {
    name('.bd-links summary', 'Pages of this part');
    // An option is not broken after its hyphens.
    document.querySelectorAll('.bd-article code .pre').forEach(function (word) {
      if (word.textContent.startsWith('-')) word.style.whiteSpace = 'nowrap';
    });
    // The summary says what it does; a label that says something else is read in its place.
    document.querySelectorAll('details.hide > summary').forEach(function (s) { s.removeAttribute('aria-label'); });
    // A list may hold list items only: bibliographies hold anchors too, signatures on several lines are lists of names.
    document.querySelectorAll('.citation-list[role=list]').forEach(function (l) { l.removeAttribute('role'); });
    document.querySelectorAll('dt.sig dl').forEach(function (list) {
      list.setAttribute('role', 'list');
      list.querySelectorAll('dd').forEach(function (item) { item.setAttribute('role', 'listitem'); });
    });
    document.querySelectorAll('[role=doc-biblioentry]').forEach(function (e) { e.removeAttribute('role'); });
  });
  addEventListener('load', reach);
  addEventListener('resize', reach);

  let opened = [];
  addEventListener('beforeprint', function () {
    opened = [...document.querySelectorAll('.bd-article details:not([open])')];
    opened.forEach(function (part) { part.open = true; });
  });
  addEventListener('afterprint', function () { opened.forEach(function (part) { part.open = false; }); });
})();
