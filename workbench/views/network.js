// Makes a drawing of `network.py` answer: hover and focus, a card, thresholds, keys. Texts are set as text only.
function explore(root, hooks = {}) {
  const svg = root.querySelector("svg[role=group]");
  const nodes = [...svg.querySelectorAll("[data-node]")].map((mark) => {
    const [name, ...about] = mark.querySelector("title").textContent.split("\n");
    return { mark, name, about, id: mark.dataset.id, rank: Number(mark.dataset.rank) };
  });
  nodes.sort((one, other) => one.mark.dataset.node - other.mark.dataset.node);
  const edges = [...svg.querySelectorAll("[data-from]")].map((mark) => ({
    mark,
    from: nodes[mark.dataset.from],
    to: nodes[mark.dataset.to],
    weight: Number(mark.dataset.weight),
    share: Number(mark.dataset.share),
  }));
  const ranked = (list, size) => [...list].sort((one, other) => size(other) - size(one));
  ranked(nodes, (node) => node.rank).forEach((node, place) => { node.place = place; });
  ranked(edges, (edge) => edge.share).forEach((edge, place) => { edge.place = place; });
  const state = { focused: null, hovered: null, pinned: [], nodes: nodes.length, edges: Math.min(edges.length, 300) };

  function paint() {
    const at = state.hovered || state.focused;
    const kept = (node) => node.place < state.nodes || node === state.focused || state.pinned.includes(node.id);
    const near = new Set([at]);
    for (const edge of edges) {
      const touches = edge.from === at || edge.to === at;
      const shown = (edge.place < state.edges || touches) && kept(edge.from) && kept(edge.to);
      edge.mark.style.display = shown ? "" : "none";
      edge.mark.style.strokeOpacity = at ? (touches ? 0.95 : 0.12) : "";
      if (shown && touches) near.add(edge.from).add(edge.to);
    }
    for (const node of nodes) {
      const [shape] = node.mark.querySelectorAll("path, circle");
      const ring = node === at ? "#d55e00" : state.pinned.includes(node.id) ? "#e69f00" : "";
      node.mark.style.display = kept(node) ? "" : "none";
      node.mark.style.opacity = !at || near.has(node) ? 1 : 0.25;
      node.mark.setAttribute("aria-pressed", String(node === state.focused));
      shape.style.stroke = ring;
      shape.style.strokeWidth = ring ? 3.5 : "";
    }
  }

  function focus(node) {
    state.focused = node;
    paint();
    if (hooks.focused) hooks.focused(node ? node.id : "");
    else show_card(root.querySelector("[data-card]"), node, edges, focus);
  }

  for (const node of nodes) {
    node.mark.style.cursor = "pointer";
    node.mark.setAttribute("tabindex", "0");
    node.mark.setAttribute("role", "button");
    node.mark.setAttribute("aria-label", [node.name, ...node.about].join(", "));
    node.mark.addEventListener("click", () => focus(node === state.focused ? null : node));
    node.mark.style.outline = "none"; // the ring tells where the focus of the keyboard is
    const look_at = (found) => () => { state.hovered = found; paint(); };
    for (const [event, found] of Object.entries({ pointerenter: node, focus: node, pointerleave: null, blur: null }))
      node.mark.addEventListener(event, look_at(found));
    node.mark.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        focus(node);
      } else if (event.key === "Escape") focus(null);
    });
  }
  if (!hooks.focused) {
    const room = element("div", { style: "display:flex;flex-wrap:wrap;gap:.25rem 1.5rem;margin-bottom:.5rem" });
    for (const [name, count] of [["nodes", nodes.length], ["edges", edges.length]])
      if (count > 1) room.append(slider(name, count, state[name], (chosen) => { state[name] = chosen; paint(); }));
    root.prepend(room);
    const card = element("div", { "data-card": "", "aria-live": "polite", style: "min-height:1.5rem;margin:.5rem 0" });
    root.querySelector("details").before(card);
    show_card(card, null, edges, focus);
    paint();
  }
  return {
    show(chosen) {
      Object.assign(state, chosen, { focused: nodes.find((node) => node.id === chosen.focused) || null });
      paint();
    },
  };
}

// The name of a node, what is known of it, and its strongest inputs and outputs, each a way to the next node.
function show_card(card, node, edges, focus) {
  card.replaceChildren();
  if (!node) {
    card.append(element("small", {}, "Choose a node (click, or Tab and Enter) to see what makes it and what it makes."));
    return;
  }
  card.append(element("b", {}, node.name), element("br"), element("small", {}, node.about.join(" · ")));
  const room = element("div", { style: "display:flex;flex-wrap:wrap;gap:0 2rem" });
  for (const [title, end, other] of [["Strongest inputs", "to", "from"], ["Strongest outputs", "from", "to"]]) {
    const found = edges.filter((edge) => edge[end] === node);
    found.sort((one, next) => Math.abs(next.weight) - Math.abs(one.weight));
    const list = element("ul", { style: "list-style:none;margin:0;padding:0" });
    for (const edge of found.slice(0, 8)) {
      const look = "font:inherit;color:inherit;background:none;border:0;padding:2px 0;cursor:pointer;text-align:left";
      const button = element("button", { type: "button", style: look });
      const weight = (edge.weight > 0 ? "+" : "") + Number(edge.weight.toPrecision(4));
      const number = "display:inline-block;min-width:5.5em;font-variant-numeric:tabular-nums;color:";
      button.append(element("span", { style: number + edge.mark.getAttribute("stroke") }, weight), " ");
      button.append(element("bdi", { style: "text-decoration:underline dotted" }, edge[other].name));
      button.addEventListener("click", () => focus(edge[other]));
      list.append(element("li", {}, ""));
      list.lastChild.append(button);
    }
    const part = element("div", { style: "flex:1 1 16rem" });
    part.append(element("small", {}, found.length ? title : title + ": none"), list);
    room.append(part);
  }
  card.append(room);
}

function slider(name, count, value, hear) {
  const label = element("label", { style: "display:inline-flex;align-items:center;gap:.5rem" });
  const range = element("input", { type: "range", min: 1, max: count, value, "aria-label": `strongest ${name}` });
  const told = element("small", {}, "");
  const tell = () => { told.textContent = `${range.value} of ${count} ${name}`; };
  range.addEventListener("input", () => { tell(); hear(Number(range.value)); });
  tell();
  label.append(range, told);
  return label;
}

function element(tag, attributes = {}, content = "") {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = content;
  return made;
}
