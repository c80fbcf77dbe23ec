"use strict";
(() => {
  const by = (id) => document.getElementById(id);
  document.documentElement.classList.add("scripted");

  const classes = by("class");
  if (classes) {
    const questions = [...document.querySelectorAll(".question")];
    const choose = () => questions.forEach((one) => { one.hidden = one.dataset.question !== classes.value; });
    classes.addEventListener("change", choose);
    choose();
  }

  // A click on a head sorts the table by its column, and another the other way round. Rows without a number stay last.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.value;
      const compare = (a, b) => {
        if (value(a) === undefined || value(b) === undefined) {
          const numbers = (value(b) === undefined ? -1 : 0) + (value(a) === undefined ? 1 : 0);
          return numbers || sign * a.cells[column].textContent.localeCompare(b.cells[column].textContent);
        }
        return sign * (Number(value(a)) - Number(value(b)));
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    }));
  }

  const target = by("target");
  if (target) {
    const draw = () => by("target-curves").replaceChildren(by("target-" + target.value).content.cloneNode(true));
    target.addEventListener("change", draw);
    for (const button of document.querySelectorAll("button.pick")) {
      button.addEventListener("click", () => {
        target.value = button.dataset.target;
        draw();
        by("curves").scrollIntoView();
      });
    }
    draw();
  }

  const data = by("counts");
  if (!data) return;
  const counts = JSON.parse(data.textContent);
  const slider = by("threshold");
  const split = by("split");
  const line = document.querySelector("line.threshold");

  // The same as `amount` in text.py, to the last digit.
  const amount = (value, whole) => {
    if (value === 0) return "0";
    const [mantissa, power] = value.toExponential(4).split("e");
    const exponent = Number(power);
    if (exponent >= 9 || (exponent < -4 && !whole)) return `${mantissa}e${exponent}`.replace("-", "−");
    const [before, after] = value.toFixed(whole ? 0 : Math.max(4 - exponent, 0)).split(".");
    return before.replace(/\B(?=(\d{3})+$)/g, ",") + (after ? "." + after : "");
  };

  const show = () => {
    const at = Number(slider.value);
    const threshold = counts.thresholds[at];
    const of = counts.splits[split.value];
    const positives = of.tp[0], negatives = of.fp[0];
    const tp = of.tp[at], fp = of.fp[at], fn = positives - tp, tn = negatives - fp;
    const least = 1e-12 * (positives + negatives);  // a difference of sums that is no larger is rounding
    for (const [id, value] of Object.entries({ tp, fp, fn, tn })) {
      by(id).textContent = amount(value > least ? value : 0, of.whole);
    }
    const rates = {
      accuracy: [tp + tn, positives + negatives],
      precision: [tp, tp + fp],
      recall: [tp, positives],
      specificity: [tn, negatives],
      f1: [2 * tp, tp + fp + positives],
    };
    const words = {};
    for (const [id, [right, all]] of Object.entries(rates)) {
      words[id] = all > 0 ? (100 * right / all).toFixed(1) + "%" : "–";
      by(id).textContent = words[id];
      by(id + "-bar").style.width = all > 0 ? words[id] : "0";
    }
    by("threshold-value").textContent = String(Number(threshold.toPrecision(4)));
    by("split-name").textContent = split.value;
    slider.setAttribute("aria-valuetext",
      `${Number(threshold.toPrecision(4))}: precision ${words.precision}, recall ${words.recall}`);
    const x = Number(line.dataset.left) + Number(line.dataset.width) * threshold;
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
  };
  // Browsers keep a form's values over a reload: start from the run's threshold all the same.
  slider.value = counts.at;
  slider.addEventListener("input", show);
  split.addEventListener("change", show);
  by("reset").addEventListener("click", () => { slider.value = counts.at; show(); });
  show();
})();
