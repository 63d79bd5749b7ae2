"use strict";
(() => {
  const data = JSON.parse(document.getElementById("charts").textContent);

  const common = (width) => ({
    width,
    style: {fontFamily: "inherit", fontSize: "12px", background: "transparent", color: "var(--soft)"},
  });
  const tip = {fill: "var(--card)", stroke: "var(--line)", fontSize: 12, textPadding: 8};
  const left = (rows, width) => Math.min(34 + 6.6 * Math.max(0, ...rows.map((row) => row.name.length)), width * 0.45);
  const names = (width, margin) => Charts.axisY({
    label: null, tickSize: 0, fill: "var(--ink)", lineWidth: (margin - 22) / 12, textOverflow: "ellipsis-middle",
  });

  const kinds = {
    shares({rows}, width) {
      const margin = left(rows, width);
      const most = Math.max(100, ...rows.map((row) => row.share ?? 100));
      return Charts.plot({
        ...common(width), marginLeft: margin, marginRight: 56, marginTop: 22, marginBottom: 38, height: 68 + 26 * rows.length,
        x: {domain: [0, most], label: "% of the bound", labelOffset: 36, ticks: 5, labelArrow: "none"},
        y: {domain: rows.map((row) => row.name), label: null, padding: 0.35},
        marks: [
          Charts.gridX({stroke: "var(--grid)", strokeOpacity: 1}),
          names(width, margin),
          Charts.barX(rows, {x: (row) => row.share ?? most, y: "name", fill: (row) => row.holds ? "var(--down)" : "var(--up)", rx: 2}),
          Charts.text(rows, {x: (row) => row.share ?? most, y: "name", text: "text", textAnchor: "start", dx: 6, fill: "var(--ink)"}),
          Charts.ruleX([100], {stroke: "var(--bad)", strokeWidth: 1.5}),
          Charts.text(["bound"], {x: () => 100, text: (one) => one, frameAnchor: "top", dy: -14, fill: "var(--bad)"}),
          Charts.tip(rows, Charts.pointerY({x: "share", y: "name", title: (row) => `${row.name}\n${row.tip}`, ...tip})),
        ],
      });
    },

    waterfall({rows, ends, unit}, width) {
      const margin = left(rows, width);
      const [before, after] = ends;
      const domain = [before.name, ...rows.map((row) => row.name), after.name];
      const most = Math.max(...ends.map((end) => end.value), ...rows.flatMap((row) => [row.from, row.to]));
      const joints = [before.value, ...rows.map((row) => row.to)].map((x, i) => ({x, y1: domain[i], y2: domain[i + 1]}));
      return Charts.plot({
        ...common(width), marginLeft: margin, marginRight: 64, marginBottom: 38, height: 58 + 24 * domain.length,
        x: {domain: [0, most], label: unit, labelOffset: 36, ticks: 4, labelArrow: "none"},
        y: {domain, label: null, padding: 0.3},
        marks: [
          Charts.gridX({stroke: "var(--grid)", strokeOpacity: 1}),
          names(width, margin),
          Charts.link(joints, {x1: "x", x2: "x", y1: "y1", y2: "y2", stroke: "var(--total)", strokeDasharray: "2,2"}),
          Charts.barX(ends, {x1: 0, x2: "value", y: "name", fill: "var(--total)", rx: 2}),
          Charts.barX(rows, {
            x1: (row) => Math.min(row.from, row.to), x2: (row) => Math.max(row.from, row.to), y: "name",
            fill: (row) => row.to < row.from ? "var(--down)" : "var(--up)", rx: 2,
          }),
          Charts.text([...ends.map((end) => ({...end, to: end.value, from: end.value})), ...rows], {
            x: (row) => Math.max(row.from, row.to), y: "name", text: "text", textAnchor: "start", dx: 6, fill: "var(--ink)",
          }),
          Charts.ruleX([0], {stroke: "var(--line)"}),
        ],
      });
    },

    pareto({points, chosen}, width) {
      const drawn = points.filter((one) => one.kl > 0);
      const steps = drawn.slice(1).map((one, index) => [drawn[index], one]);
      const here = [{...chosen, says: "this plan"}, ...(chosen.measured > 0 ? [{bpw: chosen.bpw, kl: chosen.measured, says: "as measured"}] : [])].filter((one) => one.kl > 0);
      return Charts.plot({
        ...common(width), height: 240, marginLeft: 56, marginRight: 72, marginBottom: 38, marginTop: 26,
        x: {label: "bits a weight", labelOffset: 36, labelArrow: "none", nice: true, ticks: 8},
        y: {type: "log", label: "mean KL divergence, nats a token", labelArrow: "none", nice: true, ticks: 4, tickFormat: (value) => `${+value.toPrecision(1)}`},
        marks: [
          Charts.gridY({stroke: "var(--grid)", strokeOpacity: 1}),
          Charts.link(steps, {x1: (one) => one[0].bpw, y1: (one) => one[0].kl, x2: (one) => one[1].bpw, y2: (one) => one[1].kl, stroke: "var(--total)", strokeWidth: 1.5}),
          Charts.dot(drawn, {x: "bpw", y: "kl", r: 3, fill: "var(--total)"}),
          Charts.dot(here, {x: "bpw", y: "kl", r: 5, fill: "var(--down)"}),
          Charts.text(here.slice(0, 1), {x: "bpw", y: "kl", text: "says", textAnchor: "end", dx: -7, dy: 8, fill: "var(--ink)"}),
          Charts.text(here.slice(1), {x: "bpw", y: "kl", text: "says", textAnchor: "start", dx: 9, dy: -4, fill: "var(--ink)"}),
          Charts.tip(drawn, Charts.pointer({x: "bpw", y: "kl", title: (one) => `${one.bpw.toPrecision(3)} bits, ${one.kl.toPrecision(3)}\n${one.tip}`, ...tip})),
        ],
      });
    },

    damage({rows, layers, bound, label, unit}, width) {
      const kept = rows.filter((row) => row.value !== null);
      return Charts.plot({
        ...common(width), height: 240, marginLeft: 44, marginRight: 56, marginBottom: 38, marginTop: 26,
        x: {domain: layers, label: "layer", labelOffset: 36, labelArrow: "none", tickSize: 0},
        y: {label: unit ? `${label}, ${unit}` : label, labelArrow: "none", zero: true, nice: true, ticks: 5},
        marks: [
          Charts.gridY({stroke: "var(--grid)", strokeOpacity: 1}),
          Charts.ruleY([bound], {stroke: "var(--bad)", strokeWidth: 1.5}),
          Charts.text(["bound"], {y: () => bound, text: (one) => one, frameAnchor: "right", dx: 52, textAnchor: "end", fill: "var(--bad)"}),
          Charts.dot(kept, {x: "layer", y: "value", r: 4, fill: "var(--down)", fillOpacity: 0.65}),
          Charts.tip(kept, Charts.pointer({x: "layer", y: "value", title: (row) => `${row.tip}\n${row.value.toPrecision(3)} ${unit}`, ...tip})),
        ],
      });
    },
  };

  kinds.interval = ({value, low, high, bound, domain, fails, same, control, tone, suffix}, width) => {
    const side = {above: [[bound, domain[1]]], below: [[domain[0], bound]]}[fails] ?? [];
    return Charts.plot({
      ...common(width), height: 48, marginLeft: 16, marginRight: 16, marginTop: 6, marginBottom: 20,
      x: {domain, ticks: 3, label: null, tickFormat: (value) => `${+value.toPrecision(6)}${suffix}`},
      y: {domain: [0, 1], axis: null},
      marks: [
        Charts.rect(side, {x1: "0", x2: "1", y1: 0, y2: 1, fill: "var(--bad-soft)"}),
        Charts.rect(control ? [control] : [], {x1: "0", x2: "1", y1: 0, y2: 1, fill: "var(--band)"}),
        Charts.ruleX(same === null ? [] : [same], {stroke: "var(--total)", strokeDasharray: "3,2"}),
        Charts.ruleX([bound], {stroke: "var(--bad)", strokeWidth: 2}),
        Charts.ruleY(low < high ? [0.5] : [], {x1: low, x2: high, stroke: `var(--${tone})`, strokeWidth: 2.5}),
        Charts.ruleX(low < high ? [low, high] : [], {y1: 0.3, y2: 0.7, stroke: `var(--${tone})`, strokeWidth: 2.5}),
        Charts.dot([value], {x: (one) => one, y: 0.5, r: 5, fill: `var(--${tone})`, stroke: "var(--card)"}),
      ],
    });
  };

  kinds.bars = ({rows, unit, best}, width) => {
    const margin = left(rows, width);
    const known = rows.filter((row) => row.value !== null);
    const ranged = known.filter((row) => row.low !== null && row.high !== null && row.low < row.high);
    const end = (row) => Math.max(row.value, row.high ?? row.value);
    return Charts.plot({
      ...common(width), marginLeft: margin, marginRight: 84, marginBottom: 36, height: 48 + 28 * rows.length,
      x: {label: unit || null, ticks: 4, labelArrow: "none", labelOffset: 34, zero: true, nice: true},
      y: {domain: rows.map((row) => row.name), label: null, padding: 0.35},
      marks: [
        Charts.gridX({stroke: "var(--grid)", strokeOpacity: 1}),
        names(width, margin),
        Charts.barX(known, {x: "value", y: "name", fill: (row) => rows.indexOf(row) === best ? "var(--down)" : "var(--total)", rx: 2}),
        Charts.link(ranged, {x1: "low", x2: "high", y1: "name", y2: "name", stroke: "var(--ink)", strokeWidth: 1.5}),
        Charts.text(known, {x: end, y: "name", text: "text", textAnchor: "start", dx: 6, fill: "var(--ink)"}),
        Charts.ruleX([0], {stroke: "var(--line)"}),
      ],
    });
  };

  kinds.pairs = ({rows, unit}, width) => {
    const margin = left(rows, width);
    const names = [...new Set(rows.map((row) => row.name))];
    return Charts.plot({
      ...common(width), marginLeft: margin, marginRight: 78, marginTop: 4, marginBottom: 38, height: 44 + 40 * names.length,
      x: {label: unit, labelOffset: 36, ticks: 4, labelArrow: "none"},
      fy: {domain: names, label: null, padding: 0.25, axis: null},
      y: {domain: ["before", "after"], axis: null, padding: 0.1},
      marks: [
        Charts.axisFy({anchor: "left", label: null, dx: -4, fill: "var(--ink)", lineWidth: (margin - 22) / 12, textOverflow: "ellipsis-middle"}),
        Charts.gridX({stroke: "var(--grid)", strokeOpacity: 1}),
        Charts.barX(rows, {x: "value", y: "side", fy: "name", fill: (row) => row.side === "after" ? "var(--down)" : "var(--total)", rx: 2}),
        Charts.text(rows, {x: "value", y: "side", fy: "name", text: "text", textAnchor: "start", dx: 6, fill: "var(--ink)", fontSize: 11}),
        Charts.ruleX([0], {stroke: "var(--line)"}),
      ],
    });
  };

  const drawn = new WeakMap();
  const draw = (place) => {
    const width = Math.floor(place.clientWidth);
    const chart = data[place.dataset.chart];
    if (!width || drawn.get(place) === width) return;
    drawn.set(place, width);
    const picture = kinds[chart.kind](chart.data, width);
    for (const part of picture.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label"); // the place has the words
    place.replaceChildren(picture);
  };
  const watch = new ResizeObserver((entries) => entries.forEach((entry) => draw(entry.target)));
  for (const place of document.querySelectorAll("[data-chart]")) {
    draw(place);
    watch.observe(place);
  }

  addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("details[data-print]")) one.open = true;
  });

  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const told = () => {
    theme.querySelector("span").textContent = isDark() ? "Light" : "Dark";
    theme.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
  };
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    told();
  });
  system.addEventListener("change", told);
  told();
})();
