// Curves by uPlot: hover reads every series of every chart at one time; drag, + and - zoom; Esc and double click go back.
const DASH = { second: [6, 4], third: [2, 4] };
const WHOLE = [0.1, 0.2, 0.5, ...[...Array(8).keys()].flatMap((k) => [1, 2, 5].map((m) => m * 10 ** k))];  // no 2.5 epochs
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const short = (value) => (value == null ? "" : Number(value.toPrecision(4)).toLocaleString("en"));

function drawChart(figure) {
  const said = JSON.parse(figure.querySelector("script").textContent);
  const plot = figure.querySelector(".plot");
  const pills = [...figure.querySelectorAll(".pill")];
  const back = figure.querySelector(".back");
  const color = (line) => (line.color ? css(line.color) : css({ main: "--accent", second: "--ink", third: "--mute", faint: "--faint" }[line.style]));
  const ends = [said.x[0], said.x.at(-1)];
  const hidden = new Set();
  let chart;

  const labels = (u) => {
    const taken = [];
    const shown = said.lines.map((line, i) => ({ ...line, at: said.y[i].findLastIndex((v) => v != null), i }));
    for (const line of shown.filter((l) => u.series[l.i + 1].show && l.name && l.at >= 0 && l.style !== "faint").sort((a, b) => said.y[b.i][b.at] - said.y[a.i][a.at])) {
      const x = said.x[line.at];
      if (x < u.scales.x.min || x > u.scales.x.max) continue;
      let y = u.valToPos(said.y[line.i][line.at], "y", true);
      const gap = 14 * devicePixelRatio;
      if (taken.length) y = Math.max(y, taken.at(-1) + gap);
      taken.push(y);
      u.ctx.font = `600 ${12 * devicePixelRatio}px ${css("--sans")}`;
      u.ctx.fillStyle = color(line);
      u.ctx.textAlign = "left";
      u.ctx.textBaseline = "middle";
      u.ctx.fillText(line.name, u.valToPos(x, "x", true) + 7 * devicePixelRatio, y);
    }
  };
  const read = (u) => {
    pills.forEach((pill, i) => {
      const at = u.cursor.idxs?.[i + 1] ?? u.cursor.idx;
      pill.querySelector("b").textContent = at == null ? "" : short(said.y[i][at]);
    });
    figure.querySelector(".at").textContent = u.cursor.idx == null ? "" : `${said.x_label} ${short(said.x[u.cursor.idx])}`;
  };
  const near = (u, series, idx) => {  // the value beside the cursor that this series has
    const y = u.data[series];
    for (let off = 0; off < y.length; off++) for (const at of [idx - off, idx + off]) if (y[at] != null) return at;
    return idx;
  };
  const axis = { stroke: () => css("--mute"), font: `12px ${css("--sans")}`, grid: { stroke: () => css("--rule"), width: 1 }, ticks: { show: false } };
  const text = (u, values) => values.map((v) => (v === 0 ? "0" : Math.abs(v) < 1e-3 ? v.toExponential(0).replace("-", "\u2212") : short(v)));
  const longest = Math.max(...said.lines.map((line) => line.name.length));
  const build = () => {
    const options = {
      width: plot.clientWidth, height: 240,
      padding: [12, Math.min(18 + 7.2 * longest, 0.4 * plot.clientWidth), 0, 0],
      legend: { show: false },
      focus: { alpha: 1 },
      scales: { x: { time: false, range: (u, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) } },
      axes: [{ ...axis, grid: { show: false }, values: text, space: 60, incrs: WHOLE, size: 38, label: said.x_label, labelSize: 18, labelFont: `12px ${css("--sans")}`, labelGap: 0 }, { ...axis, values: text, size: 54 }],
      cursor: { y: false, drag: { x: true, y: false }, sync: { key: said.x_label, scales: ["x", null] }, dataIdx: near, points: { size: 7 } },
      series: [{}, ...said.lines.map((line, i) => ({
        label: line.name, stroke: () => color(line), width: line.style === "faint" ? 1 : 2, dash: line.dash ?? DASH[line.style],
        spanGaps: true, show: !hidden.has(i), points: { show: line.style !== "faint" && said.y[i].filter((v) => v != null).length <= 25, size: 5, fill: () => color(line) },
      }))],
      hooks: {
        draw: [labels], setCursor: [read],
        setScale: [(u, key) => key === "x" && (back.hidden = u.scales.x.min <= ends[0] && u.scales.x.max >= ends[1])],
      },
    };
    chart?.destroy();
    chart = new uPlot(options, [said.x, ...said.y], plot);
    chart.over.addEventListener("dblclick", reset);
  };
  const reset = () => chart.setScale("x", { min: ends[0], max: ends[1] });
  const zoom = (factor) => {
    const { min, max } = chart.scales.x;
    const middle = chart.cursor.idx == null ? (min + max) / 2 : said.x[chart.cursor.idx];
    chart.setScale("x", { min: Math.max(ends[0], middle - (middle - min) * factor), max: Math.min(ends[1], middle + (max - middle) * factor) });
  };
  const step = (by) => {
    const at = Math.min(Math.max((chart.cursor.idx ?? (by > 0 ? -1 : said.x.length)) + by, 0), said.x.length - 1);
    chart.setCursor({ left: chart.valToPos(said.x[at], "x"), top: 10 });
  };
  const keys = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), "+": () => zoom(0.5), "-": () => zoom(2), Escape: reset };
  plot.addEventListener("keydown", (event) => {
    if (!keys[event.key]) return;
    keys[event.key]();
    event.preventDefault();
  });
  back.addEventListener("click", reset);
  pills.forEach((pill, i) => pill.addEventListener("click", () => {
    hidden.has(i) ? hidden.delete(i) : hidden.add(i);
    pill.setAttribute("aria-pressed", !hidden.has(i));
    chart.setSeries(i + 1, { show: !hidden.has(i) });
  }));
  figure.querySelector(".pills").hidden = false;
  plot.style.height = "";
  build();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);
  let wide = plot.clientWidth;
  new ResizeObserver(() => {
    if (plot.clientWidth && plot.clientWidth !== wide) { wide = plot.clientWidth; build(); }
  }).observe(plot);
}

const charts = [...document.querySelectorAll("figure.chart")];
const inView = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((e) => e.isIntersecting)) {
    inView.unobserve(entry.target);
    drawChart(entry.target);
  }
}, { rootMargin: "600px" });
charts.forEach((figure) => inView.observe(figure));
addEventListener("beforeprint", () => charts.filter((f) => !f.querySelector("canvas")).forEach((f) => { inView.unobserve(f); drawChart(f); }));
