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

  // A number stays with its unit; the unit of fluence, edges and the method are not broken at a slash or a hyphen.
  function keep() {
    const article = document.querySelector('.bd-article'), found = [];
    const number = /(\d) (?=(?:%|nm|eV|keV|kV|mrad|s|min|h)(?!\w)|e\/Å)/g;
    const whole = /(e\/Å²|t\/λ|DIPm-TV|X-rays?|(?:Fe|Mn)-[LM]|O-K|[αγ]-Fe)/;
    if (!article) return;
    const walker = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      const skipped = node.parentElement.closest('script, style, svg, pre, code, option, mjx-container');
      if (!skipped && (/\d /.test(node.data) || whole.test(node.data))) found.push(node);
    }
    found.forEach(function (node) {
      const parts = node.data.replace(number, '$1\u00a0').split(whole), last = parts.pop();
      parts.forEach(function (part, i) {
        const kept = {className: 'unit', textContent: part};
        node.before(i % 2 ? Object.assign(document.createElement('span'), kept) : part);
      });
      node.data = last;
    });
  }

  // Nor is a formula in a link before a subscript, which stands there in a box of its own.
  function keepFormulas() {
    document.querySelectorAll('.bd-article a sub').forEach(function (sub) {
      const text = sub.previousSibling;
      if (!text || text.nodeType !== Node.TEXT_NODE) return;
      const word = text.data.match(/\S*$/)[0], before = text.previousSibling;
      if (before && before.className === 'unit' && word === text.data) {
        before.append(text, sub);
      } else if (word) {
        const whole = Object.assign(document.createElement('span'), {className: 'unit'});
        text.data = text.data.slice(0, text.data.length - word.length);
        sub.before(whole);
        whole.append(word, sub);
      }
    });
  }

  // A table that is too wide is set smaller. On a phone, if that is not enough or its rows are very high, it becomes a
  // list: each row a block, each value with the name of its column, which stands in the cell but is shown there alone.
  function label() {
    document.querySelectorAll('.bd-article table.table').forEach(function (table) {
      const heads = table.tHead && table.tHead.rows.length === 1 ? [...table.tHead.rows[0].cells] : [];
      if (heads.length < 2) return;
      const roles = {table: 'table', thead: 'rowgroup', tbody: 'rowgroup', tr: 'row', 'thead th': 'columnheader',
        'tbody th': 'rowheader', td: 'cell'};  // a block is none of these by itself
      Object.keys(roles).forEach(function (part) {
        (part === 'table' ? [table] : table.querySelectorAll(part)).forEach(e => e.setAttribute('role', roles[part]));
      });
      [...table.tBodies].flatMap(body => [...body.rows]).forEach(function (row) {
        [...row.cells].forEach(function (cell, i) {
          if (!heads[i] || !heads[i].textContent.trim() || !cell.textContent.trim()) return;
          if (!i && !/^[−-]?\d/.test(cell.textContent.trim())) return;  // a word says itself what it names
          const shown = Object.assign(document.createElement('span'), {className: 'column-name'});
          shown.setAttribute('aria-hidden', 'true');
          const source = heads[i].querySelector('p') || heads[i];
          shown.append(...[...source.childNodes].map(node => node.cloneNode(true)), ': ');
          (cell.querySelector(':scope > p') || cell).prepend(shown);
        });
      });
      table.classList.add('can-stack');
    });
  }
  function stack() {
    document.querySelectorAll('table.can-stack').forEach(function (table) {
      table.classList.remove('tight', 'stacked');
      const rows = [...table.rows], box = table.parentElement;
      function wide() { return box.scrollWidth > box.clientWidth + 1; }
      const high = rows.some(row => row.offsetHeight > 170);
      if (wide()) table.classList.add('tight');
      if (innerWidth > 600) return;
      if (high || wide()) table.classList.replace('tight', 'stacked') || table.classList.add('stacked');
    });
  }

  addEventListener('DOMContentLoaded', function () {
    name('.bd-links summary', 'Pages of this part');
    label();
    // An option is not broken after its hyphens; what a run has written has no parts yet.
    document.querySelectorAll('.bd-article code:not(pre code, :has(*))').forEach(function (code) {
      code.innerHTML = code.innerHTML.replace(/(^|\s)(-[^\s<]+)/g, '$1<span class="pre">$2</span>');
    });
    document.querySelectorAll('.bd-article code .pre').forEach(function (word) {
      if (word.textContent.startsWith('-')) word.style.whiteSpace = 'nowrap';
    });
    keep();
    keepFormulas();
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
  addEventListener('load', function () { stack(); reach(); });
  addEventListener('resize', function () { stack(); reach(); });

  let opened = [];
  addEventListener('beforeprint', function () {
    opened = [...document.querySelectorAll('.bd-article details:not([open])')];
    opened.forEach(function (part) { part.open = true; });
  });
  addEventListener('afterprint', function () { opened.forEach(function (part) { part.open = false; }); });
})();
