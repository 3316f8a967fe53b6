// Maps of examples: hover, tap or arrows show one; pills choose classes; the same example lights up in every map of the page.
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const still = matchMedia("(prefers-reduced-motion: reduce)");

function drawMap(figure) {
  const said = JSON.parse(figure.querySelector("script").textContent);
  const canvas = figure.querySelector("canvas"), tip = figure.querySelector(".tip"), live = figure.querySelector("[aria-live]");
  const frames = Object.fromEntries(Object.entries(said.frames).map(([epoch, text]) => [epoch, new Uint16Array(bytes(text).buffer)]));
  const epochs = Object.keys(frames).map(Number).sort((a, b) => a - b);
  const count = said.index.length;
  const atlas = said.columns ? Object.assign(new Image(), { src: document.getElementById(said.atlas).textContent.trim(), onload: () => draw() }) : null;
  let at = Float64Array.from(frames[epochs.at(-1)], (v) => v / 65535);
  let view = { x: 0.5, y: 0.5, zoom: 1 }, chosen = -1, images = false, wrongOnly = false, moving = 0;
  const off = new Set();

  const wrong = (i) => said.pred && said.labels[i] >= 0 && said.pred[i] !== said.labels[i];
  const visible = (i) => !off.has(said.groups[i]) && !(wrongOnly && !wrong(i));
  const fill = (i) => css(said.colors[said.groups[i]]) || said.colors[said.groups[i]];
  // every epoch fits into the field
  const extent = [0, 1].map((k) => Math.max(0.2, ...Object.values(frames).map((frame) => {
    let low = 65535, high = 0;
    for (let i = k; i < frame.length; i += 2) { low = Math.min(low, frame[i]); high = Math.max(high, frame[i]); }
    return (high - low) / 65535;
  })));
  const size = () => ({ w: canvas.clientWidth, h: canvas.clientHeight });
  const unit = () => 0.94 * view.zoom * Math.min(size().w / extent[0], size().h / extent[1]);
  const place = (i) => {
    const { w, h } = size(), side = unit();
    return [w / 2 + (at[2 * i] - view.x) * side, h / 2 - (at[2 * i + 1] - view.y) * side];
  };
  const tile = (context, i, x, y, side) => {
    const t = said.tile;
    context.drawImage(atlas, (i % said.columns) * t, Math.floor(i / said.columns) * t, t, t, x - side / 2, y - side / 2, side, side);
  };

  function draw() {
    const { w, h } = size(), scale = devicePixelRatio || 1, context = canvas.getContext("2d");
    if (!w) return;
    if (canvas.width !== Math.round(w * scale)) { canvas.width = Math.round(w * scale); canvas.height = Math.round(h * scale); }
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, w, h);
    const radius = Math.max(2, Math.min(4.5, 130 / Math.sqrt(count))) * Math.min(1.6, Math.sqrt(view.zoom));
    const paint = said.colors.map((c) => css(c) || c);
    for (let i = 0; i < count; i++) {
      if (!visible(i)) continue;
      const [x, y] = place(i);
      if (images && atlas?.complete) { tile(context, i, x, y, 20 * Math.min(2, view.zoom)); continue; }
      context.globalAlpha = 0.85;
      context.fillStyle = paint[said.groups[i]];
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
    if (chosen >= 0) {
      const [x, y] = place(chosen);
      context.lineWidth = 2.5;
      context.strokeStyle = css("--ink");
      context.beginPath();
      context.arc(x, y, images ? 14 : radius + 4, 0, 7);
      context.stroke();
    }
  }

  function describe(i) {
    const lines = [];
    if (said.values) lines.push(`${said.target} ${said.values[i]}`);
    else if (said.labels[i] >= 0) lines.push(said.names[said.labels[i]] ?? `class ${said.labels[i]}`);
    else lines.push("no label");
    if (said.pred) lines.push(wrong(i) ? `taken for ${said.names[said.pred[i]]}` : `recognized as ${said.names[said.pred[i]]}`);
    lines.push(`${said.split} example ${said.index[i]}`);
    return lines;
  }

  function choose(i, own) {
    chosen = i;
    tip.hidden = i < 0 || !visible(i);
    draw();
    if (tip.hidden) return;
    const [x, y] = place(i), { w, h } = size();
    tip.replaceChildren();
    if (atlas) {
      const picture = Object.assign(document.createElement("canvas"), { width: said.tile, height: said.tile });
      tile(picture.getContext("2d"), i, said.tile / 2, said.tile / 2, said.tile);
      tip.append(picture);
    }
    const words = document.createElement("span");
    describe(i).forEach((line, k) => words.append(Object.assign(document.createElement(k ? "span" : "b"), { textContent: line })));
    if (said.texts) words.append(Object.assign(document.createElement("q"), { textContent: said.texts[i] }));
    words.classList.toggle("wrong", !!wrong(i));
    tip.append(words);
    tip.style.left = `${Math.min(Math.max(x + 14, 0), Math.max(w - tip.offsetWidth, 0))}px`;
    tip.style.top = `${y + 14 + tip.offsetHeight > h ? y - tip.offsetHeight - 14 : y + 14}px`;
    if (own) live.textContent = describe(i).join(", ");
  }
  const tell = (i) => {
    choose(i, true);
    dispatchEvent(new CustomEvent("example", { detail: { index: i < 0 ? null : said.index[i], from: figure } }));
  };
  addEventListener("example", ({ detail }) => {
    if (detail.from !== figure && detail.from.dataset.group === figure.dataset.group) choose(detail.index === null ? -1 : said.index.indexOf(detail.index));
  });

  function under(event) {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let best = -1, least = 16 * 16;
    for (let i = 0; i < count; i++) {
      if (!visible(i)) continue;
      const [px, py] = place(i), d = (px - x) ** 2 + (py - y) ** 2;
      if (d < least) [best, least] = [i, d];
    }
    return best;
  }
  const zoom = (factor) => {
    view.zoom = Math.min(20, Math.max(1, view.zoom * factor));
    if (view.zoom === 1) view = { x: 0.5, y: 0.5, zoom: 1 };
    else if (chosen >= 0) view = { ...view, x: at[2 * chosen], y: at[2 * chosen + 1] };
    choose(chosen);
  };
  let drag = null;
  canvas.addEventListener("pointerdown", (e) => { drag = { x: e.clientX, y: e.clientY, view: { ...view } }; });
  addEventListener("pointerup", () => { drag = null; });
  canvas.addEventListener("pointermove", (e) => {
    if (drag && view.zoom > 1) {
      const side = unit();
      view.x = drag.view.x - (e.clientX - drag.x) / side;
      view.y = drag.view.y + (e.clientY - drag.y) / side;
      choose(-1);
    } else {
      const i = under(e);
      if (i !== chosen) tell(i);
    }
  });
  canvas.addEventListener("pointerleave", (e) => { if (e.pointerType === "mouse") tell(-1); });
  canvas.addEventListener("click", (e) => tell(under(e)));
  canvas.addEventListener("dblclick", (e) => { chosen = under(e); zoom(2); });

  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  function walk([dx, dy]) {
    const from = chosen >= 0 ? place(chosen) : [size().w / 2, size().h / 2];
    let best = -1, least = Infinity;
    for (let i = 0; i < count; i++) {
      if (i === chosen || !visible(i)) continue;
      const [px, py] = place(i), along = (px - from[0]) * dx + (py - from[1]) * dy, across = Math.abs((px - from[0]) * dy) + Math.abs((py - from[1]) * dx);
      if (along > 0 && across <= along && along + 2 * across < least) [best, least] = [i, along + 2 * across];
    }
    if (best >= 0) tell(best);
  }
  canvas.addEventListener("keydown", (event) => {
    if (way[event.key]) walk(way[event.key]);
    else if (event.key === "+") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (event.key === "Escape") { zoom(0); tell(-1); }
    else return;
    event.preventDefault();
  });

  const tools = figure.querySelector(".tools");
  tools.hidden = false;
  const press = (name, act) => {
    const button = tools.querySelector(`[data-do=${name}]`);
    button?.addEventListener("click", () => act(button));
  };
  const toggle = (button) => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", on);
    return on;
  };
  press("images", (button) => { images = toggle(button); draw(); });
  press("wrong", (button) => { wrongOnly = toggle(button); choose(-1); });
  press("in", () => zoom(1.5));
  press("out", () => zoom(1 / 1.5));
  press("all", () => zoom(0));
  const pills = [...figure.querySelectorAll("[data-class]")];
  pills.forEach((pill) => pill.addEventListener("click", (event) => {
    const own = +pill.dataset.class;
    if (event.shiftKey) {
      const alone = pills.every((p) => off.has(+p.dataset.class) === (p !== pill));
      off.clear();
      if (!alone) pills.forEach((p) => p !== pill && off.add(+p.dataset.class));
    } else off.has(own) ? off.delete(own) : off.add(own);
    pills.forEach((p) => p.setAttribute("aria-pressed", !off.has(+p.dataset.class)));
    choose(-1);
  }));

  followEpochs(figure, epochs, (epoch) => {
    const from = at, to = Float64Array.from(frames[epoch], (v) => v / 65535), start = performance.now(), run = ++moving;
    const glide = (now) => {
      if (run !== moving) return;
      const t = still.matches ? 1 : Math.min((now - start) / 450, 1), ease = t * t * (3 - 2 * t);
      at = from.map((v, k) => v + (to[k] - v) * ease);
      choose(chosen);
      if (t < 1) requestAnimationFrame(glide);
    };
    requestAnimationFrame(glide);
    figure.dataset.epoch = epoch;
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(draw).observe(canvas);
  draw();
}
document.querySelectorAll("figure.map").forEach(drawMap);
