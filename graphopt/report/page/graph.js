"use strict";
(() => {
  const graphs = JSON.parse(document.getElementById("graphs").textContent);
  const [across, down, wide, high] = [232, 68, 212, 48]; // pixels between parts, and of one
  const far = 2.5; // a part is never drawn larger than this
  const steps = {ArrowDown: [0, 1], ArrowUp: [0, -1], ArrowRight: [1, 0], ArrowLeft: [-1, 0]};
  const element = (name, options = {}, ...children) => {
    const made = Object.assign(document.createElement(name), options);
    made.append(...children);
    return made;
  };

  const curve = Charts.linkVertical().x((at) => at[0]).y((at) => at[1]);

  const layOut = (view, {groups, edges}) => {
    const least = Math.min(0, ...groups.map((group) => group.x));
    const at = new Map(groups.map((group) => [group.id, [(group.x - least) * across, group.y * down]]));
    const size = [Math.max(...[...at.values()].map(([x]) => x)) + wide, Math.max(...[...at.values()].map(([, y]) => y)) + high];
    const world = view.querySelector(".world");
    const svg = Charts.select(world).append("svg").attr("width", size[0]).attr("height", size[1]).attr("aria-hidden", "true");
    svg.selectAll("path").data(edges.filter(([a, b]) => at.has(a) && at.has(b))).join("path").attr("d", ([a, b]) => curve({
      source: [at.get(a)[0] + wide / 2, at.get(a)[1] + high], target: [at.get(b)[0] + wide / 2, at.get(b)[1]],
    }));
    const buttons = groups.map((group, index) => {
      const button = element("button", {type: "button", className: "part", tabIndex: index ? -1 : 0},
        element("b", {textContent: group.title}), element("span", {textContent: group.fused ? `fused · ${group.sub}` : group.sub}));
      button.classList.toggle("fused", group.fused);
      button.classList.toggle("alone", group.alone);
      const [x, y] = at.get(group.id);
      Object.assign(button.style, {left: `${x}px`, top: `${y}px`, width: `${wide}px`, height: `${high}px`});
      return button;
    });
    world.append(...buttons);
    return {buttons, places: groups.map((group) => at.get(group.id)), size};
  };

  const zoomable = (view, {size, places}, tools) => {
    const world = view.querySelector(".world");
    const behaviour = Charts.zoom()
      .filter((event) => event.type === "wheel" ? event.ctrlKey : !event.button)
      .clickDistance(6)
      .on("zoom", ({transform}) => {
        world.style.transform = `translate(${transform.x}px, ${transform.y}px) scale(${transform.k})`;
      });
    const chosen = Charts.select(view).call(behaviour).on("dblclick.zoom", null);
    const put = (scale, top = 12) => chosen.call(behaviour.transform,
      Charts.zoomIdentity.translate((view.clientWidth - scale * size[0]) / 2, top).scale(scale));
    const all = (height = view.clientHeight) => Math.min(view.clientWidth / (size[0] + 24), height / (size[1] + 24));
    behaviour.scaleExtent([Math.min(all(), 1), far]).translateExtent([[-24, -24], [size[0] + 24, size[1] + 24]]);
    const start = () => put(Math.min(1, view.clientWidth / (size[0] + 24)));
    start();
    tools.in.addEventListener("click", () => chosen.call(behaviour.scaleBy, 1.4));
    tools.out.addEventListener("click", () => chosen.call(behaviour.scaleBy, 1 / 1.4));
    tools.fit.addEventListener("click", () => put(all()));
    let before = null;
    addEventListener("beforeprint", () => { before = view.__zoom; put(all(), 4); });
    addEventListener("afterprint", () => before && chosen.call(behaviour.transform, before));
    return (index) => chosen.call(behaviour.translateTo, places[index][0] + wide / 2, places[index][1] + high / 2);
  };

  const list = (names, more) => names.join(", ") + (more ? ` and ${more} more` : "");

  const story = (title, side, group, twin) => {
    const now = side === "after" ? group : twin;
    const source = side === "before" ? group : twin;
    const rows = (now?.nodes ?? []).map(([name, operator, edit]) => {
      const origin = now.origins[edit];
      const through = origin?.through.length ? element("small", {textContent: `through ${origin.through.join(", then ")}`}) : "";
      return element("tr", {},
        element("th", {scope: "row", textContent: name}), element("td", {textContent: operator.replace(/^.*::/, "")}),
        element("td", {}, edit || "the source's own", element("small", {textContent: origin?.did ?? ""})),
        element("td", {}, origin ? list(origin.from, origin.more) : "", through));
    });
    const head = element("tr", {}, ...["node", "operator", "made by", "stands for, in the source"].map((text) => element("th", {scope: "col", textContent: text})));
    const table = element("table", {}, element("caption", {textContent: `Nodes of ${title} in the package, and where they come from`}), element("thead", {}, head), element("tbody", {}, ...rows));
    const counts = Object.entries(source?.operators ?? {}).map(([name, count]) => `${count} ${name.replace(/^.*::/, "")}`).join(", ");
    return [
      element("p", {className: "soft", textContent: `Before: ${source ? source.sub : "not there"}. After: ${now ? now.sub : "taken out"}.`}),
      element("p", {}, element("b", {textContent: "In the source: "}), counts || "nothing"),
      ...(rows.length ? [element("div", {className: "scroll", tabIndex: 0, role: "region", ariaLabel: `Nodes of ${title}`}, table)] : []),
      ...(now?.more ? [element("p", {className: "soft", textContent: `${now.more} more nodes are not listed.`})] : []),
    ];
  };

  for (const place of document.querySelectorAll("[data-graph]")) {
    const data = graphs[place.dataset.graph];
    const panel = place.parentElement.querySelector(".origin");
    const sides = {};
    let opener = null;

    const close = () => {
      panel.hidden = true;
      place.querySelectorAll(".chosen").forEach((one) => one.classList.remove("chosen"));
      opener?.focus();
    };
    const show = (side, index) => {
      const group = data[side].groups[index];
      const other = side === "before" ? "after" : "before";
      const at = data[other].groups.findIndex((one) => one.id === group.id);
      place.querySelectorAll(".chosen").forEach((one) => one.classList.remove("chosen"));
      opener = sides[side].buttons[index];
      opener.classList.add("chosen");
      if (at >= 0) {
        sides[other].buttons[at].classList.add("chosen");
        sides[other].reveal(at);
      }
      const shut = element("button", {type: "button", className: "quiet", textContent: "Close"});
      shut.addEventListener("click", close);
      panel.replaceChildren(
        element("div", {className: "head"}, element("h3", {textContent: group.title}), shut),
        ...story(group.title, side, group, data[other].groups[at]));
      panel.hidden = false;
      panel.focus();
    };
    panel.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });

    for (const box of place.querySelectorAll("[data-side]")) {
      const side = box.dataset.side;
      if (!data[side].groups.length) continue;
      const view = box.querySelector(".view");
      const tools = Object.fromEntries([...box.querySelectorAll("[data-zoom]")].map((one) => [one.dataset.zoom, one]));
      const laid = layOut(view, data[side]);
      const reveal = zoomable(view, laid, tools);
      sides[side] = {...laid, reveal};
      laid.buttons.forEach((button, index) => {
        button.addEventListener("click", () => show(side, index));
        button.addEventListener("focus", () => {
          laid.buttons.forEach((one) => { one.tabIndex = one === button ? 0 : -1; });
          if (button.matches(":focus-visible")) reveal(index);
        });
        button.addEventListener("keydown", (event) => {
          const step = steps[event.key];
          if (!step) return;
          event.preventDefault();
          const [x, y] = laid.places[index];
          const along = ([a, b]) => (a - x) * step[0] + (b - y) * step[1];
          const beside = ([a, b]) => Math.abs((a - x) * step[1]) + Math.abs((b - y) * step[0]);
          const ahead = laid.places.map((to, at) => ({at, far: along(to) + 3 * beside(to), along: along(to)})).filter((one) => one.along > 1);
          if (ahead.length) laid.buttons[ahead.reduce((a, b) => b.far < a.far ? b : a).at].focus();
        });
      });
    }
  }
})();
