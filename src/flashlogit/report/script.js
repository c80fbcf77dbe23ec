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

  // A box that has more than it shows says so; whether it does can change with the window and with what is opened.
  const watch = new ResizeObserver((entries) => {
    for (const box of new Set(entries.map((entry) => entry.target.closest(".scroll")))) {
      const more = [];
      if (box.scrollWidth > box.clientWidth + 1) more.push("sideways for all columns →");
      if (box.scrollHeight > box.clientHeight + 1) more.push("down for all rows ↓");
      let hint = box.previousElementSibling;
      if (!hint || !hint.classList.contains("hint")) {
        if (!more.length) continue;
        hint = document.createElement("p");
        hint.className = "hint";
        box.before(hint);
      }
      hint.hidden = !more.length;
      hint.textContent = "Scroll " + more.join(", ");
    }
  });
  const observe = (root) => root.querySelectorAll(".scroll, .scroll > table").forEach((one) => watch.observe(one));
  observe(document);

  const target = by("target");
  if (target) {
    const draw = () => {
      by("target-curves").replaceChildren(by("target-" + target.value).content.cloneNode(true));
      observe(by("target-curves"));
    };
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

  // Costs of a false positive and of a false negative; nothing where one is no number of at least 0.
  const costs = () => {
    const typed = ["cost-fp", "cost-fn"].map((id) => by(id).value.trim() === "" ? NaN : Number(by(id).value));
    return typed.every((value) => Number.isFinite(value) && value >= 0) ? typed : null;
  };
  const costAt = ([ofFp, ofFn], of, at) => ofFp * of.fp[at] + ofFn * (of.tp[0] - of.tp[at]);
  const name = (threshold) => String(Number(threshold.toPrecision(4)));

  // The threshold of least cost in the split; of several the nearest to where right probabilities have it.
  const cheapest = (typed, of) => {
    const sum = typed[0] + typed[1];
    const ideal = sum > 0 ? typed[0] / sum : 0.5;
    const all = counts.thresholds.map((_, at) => costAt(typed, of, at));
    const least = Math.min(...all) + 1e-12 * Math.max(...all);
    const away = (at) => Math.abs(counts.thresholds[at] - ideal);
    return all.reduce((best, cost, at) => cost <= least && (best < 0 || away(at) < away(best)) ? at : best, -1);
  };

  const showCosts = () => {
    const typed = costs();
    const of = counts.splits[split.value];
    const at = Number(slider.value);
    const whole = of.whole && typed !== null && typed.every(Number.isInteger);
    const told = (value) => typed === null ? "–" : amount(value, whole);
    by("cost-at").textContent = name(counts.thresholds[at]);
    by("cost").textContent = typed === null ? "–" : told(costAt(typed, of, at));
    by("cost-none").textContent = typed === null ? "–" : told(typed[1] * of.tp[0]);
    by("cost-all").textContent = typed === null ? "–" : told(typed[0] * of.fp[0]);
    const best = typed === null ? -1 : cheapest(typed, of);
    const words = best < 0 ? "Type two costs of at least 0."
      : `The cheapest threshold of the ${split.value} rows is ${name(counts.thresholds[best])}, at a cost of ${told(costAt(typed, of, best))}.`;
    if (by("cheapest").textContent !== words) by("cheapest").textContent = words;  // what changes is read aloud
    by("go-cheapest").disabled = best < 0;
    return best;
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
    by("threshold-value").textContent = name(threshold);
    by("split-name").textContent = split.value;
    showCosts();
    slider.setAttribute("aria-valuetext",
      `${name(threshold)}: precision ${words.precision}, recall ${words.recall}, cost ${by("cost").textContent}`);
    const x = Number(line.dataset.left) + Number(line.dataset.width) * threshold;
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
  };
  // Browsers keep a form's values over a reload: start from the run's threshold all the same.
  slider.value = counts.at;
  slider.addEventListener("input", show);
  split.addEventListener("change", show);
  by("reset").addEventListener("click", () => { slider.value = counts.at; show(); });
  for (const id of ["cost-fp", "cost-fn"]) {
    by(id).value = by(id).defaultValue;
    by(id).addEventListener("input", show);
  }
  by("go-cheapest").addEventListener("click", () => { slider.value = showCosts(); show(); });
  show();
})();
