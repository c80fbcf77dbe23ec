// What the tests of the page ask a browser.
'use strict';
document.querySelectorAll('details').forEach((one) => { one.open = true; });

// Every piece of visible text with its contrast against what is behind it, as WCAG 2 computes it.
const contrasts = () => {
  const parse = (text) => {
    const n = (text.match(/[\d.]+/g) || []).map(Number);
    if (text === 'transparent' || n.length < 3) return [0, 0, 0, 0];
    if (text.startsWith('color(')) return [n[0] * 255, n[1] * 255, n[2] * 255, n.length > 3 ? n[3] : 1];
    return [n[0], n[1], n[2], n.length > 3 ? n[3] : 1];
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const luminance = (c) => {
    const linear = c.slice(0, 3).map((v) => v / 255);
    const [r, g, b] = linear.map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const chain = [];
    for (let e = element; e; e = e.parentElement) chain.unshift(parse(getComputedStyle(e).backgroundColor));
    return chain.reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const found = [];
  for (const element of document.body.querySelectorAll('*')) {
    const text = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join('');
    const box = element.getBoundingClientRect();
    const inert = ['SCRIPT', 'STYLE', 'TITLE', 'title', 'desc', 'OPTION'].includes(element.tagName);
    if (!text || inert || box.width === 0 || box.height === 0) continue;
    const style = getComputedStyle(element);
    const back = behind(element);
    const front = over(parse(element.namespaceURI.endsWith('svg') ? style.fill : style.color), back);
    const [a, b] = [luminance(front), luminance(back)].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), text.slice(0, 40), element.className.baseVal || String(element.className)]);
  }
  return found;
};

// Text of charts that overlaps other text, or is cut.
const overlaps = () => {
  const found = [];
  for (const svg of document.querySelectorAll('svg.chart')) {
    const whole = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll('text')].map((t) => [t.getBoundingClientRect(), t.firstChild.textContent])
      .filter(([box]) => box.width > 0);
    boxes.forEach(([a, text], i) => {
      if (a.left < whole.left - 1 || a.right > whole.right + 1) found.push(['outside', text]);
      for (const [b, other] of boxes.slice(i + 1)) {
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 1.5 && down > 4) found.push([text, other, across, down]);
      }
    });
  }
  return found;
};

// Widths of the window and of the page, whether a box scrolls, boxes that cannot be reached by keyboard or have no name,
// and texts in charts that are too small to read.
const phone = () => {
  const boxes = [...document.querySelectorAll('.scroll')];
  const heights = [...document.querySelectorAll('svg.chart text')].map((t) => t.getBoundingClientRect().height);
  return [
    innerWidth, document.documentElement.scrollWidth, boxes.some((box) => box.scrollWidth > box.clientWidth),
    boxes.filter((box) => box.tabIndex !== 0 || !box.getAttribute('aria-label')).length,
    heights.filter((h) => h > 0 && h < 9).length,
  ];
};

// Whether all tables fit the paper, and the colours of text and paper.
const printed = () => {
  const out = (t) => t.getBoundingClientRect().right - t.closest('.card').getBoundingClientRect().right;
  const body = getComputedStyle(document.body);
  return [Math.max(...[...document.querySelectorAll('table')].map(out)) <= 0, body.color, body.backgroundColor];
};

// Visible text outside of boxes that scroll which reaches beyond the window or is cut by its own element.
const cut = () => {
  const found = [];
  for (const element of document.body.querySelectorAll('*')) {
    const text = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join('');
    const box = element.getBoundingClientRect();
    if (!text || box.width === 0 || element.closest('.scroll, .unseen, .skip, svg, script, style, option')) continue;
    const range = document.createRange();
    range.selectNodeContents(element);
    const inside = range.getBoundingClientRect();
    if (inside.right > innerWidth + 0.5 || inside.left < -0.5) found.push(text.slice(0, 40));
    if (element.closest('.card') && inside.right > element.closest('.card').getBoundingClientRect().right) {
      found.push('beyond its card: ' + text.slice(0, 40));
    }
  }
  return found;
};

// How many boxes scroll sideways, and the names of those that do so without a hint and a shadow.
const unsigned = () => {
  const wide = [...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth + 1);
  const signed = (box) => {
    const hint = box.previousElementSibling;
    const shadow = getComputedStyle(box).backgroundAttachment.includes('scroll');
    return shadow && hint.classList.contains('hint') && hint.getBoundingClientRect().height > 0;
  };
  return [wide.length, wide.filter((box) => !signed(box)).map((box) => box.getAttribute('aria-label'))];
};
