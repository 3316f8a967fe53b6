// Tables: heads that sort, copies for a paper; a cell of a confusion matrix shows its examples.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("thead th")];
  heads.forEach((head, k) => head.querySelector("button")?.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") !== "descending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[k].dataset.v ?? row.cells[k].textContent.trim();
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");  // unknown ones last
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}

const tex = (text) => text.replace(/[\\&%$#_{}~^]/g, (c) => ({ "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" })[c] ?? `\\${c}`).replaceAll("±", "$\\pm$");
const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const WRITE = {
  Markdown: (rows) => [rows[0], rows[0].map((_, k) => (k ? "---:" : ":---")), ...rows.slice(1)].map((row) => `| ${row.map((t) => t.replaceAll("|", "\\|")).join(" | ")} |`).join("\n"),
  LaTeX: (rows) => {
    const lines = rows.map((row) => `${row.map(tex).join(" & ")} \\\\`);
    return [`\\begin{tabular}{l${"r".repeat(rows[0].length - 1)}}`, "\\toprule", lines[0], "\\midrule", ...lines.slice(1), "\\bottomrule", "\\end{tabular}"].join("\n");
  },
  CSV: (rows) => rows.map((row) => row.map(quoted).join(",")).join("\n"),
};
for (const bar of document.querySelectorAll(".copies")) {
  bar.hidden = false;
  const said = bar.querySelector("[aria-live]");
  bar.querySelectorAll("button").forEach((button) => button.addEventListener("click", async () => {
    const rows = [...document.getElementById(bar.dataset.table).rows].map((row) => [...row.cells].map((cell) => cell.dataset.t ?? cell.textContent.trim()));
    const text = WRITE[button.textContent](rows);
    bar.dataset.copied = text;
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = `${button.textContent} copied`;
    } catch {  // no clipboard from a file: offer the text to copy by hand
      const area = bar.parentElement.querySelector("textarea") ?? bar.insertAdjacentElement("afterend", document.createElement("textarea"));
      area.value = text;
      area.setAttribute("aria-label", `The table as ${button.textContent}`);
      area.select();
      said.textContent = "copy it from here";
    }
  }));
}

for (const figure of document.querySelectorAll("figure.confusion")) {
  const cells = [...figure.querySelectorAll("td[data-cell]")];
  const side = Math.sqrt(cells.length), panel = figure.querySelector(".cell");
  const sprites = JSON.parse(figure.querySelector("script").textContent);
  const atlas = sprites.atlas && document.getElementById(sprites.atlas).textContent.trim();
  const open = (cell, focus) => {
    cells.forEach((other) => { other.tabIndex = other === cell ? 0 : -1; other.toggleAttribute("aria-current", other === cell); });
    if (focus) cell.focus();
    panel.replaceChildren(Object.assign(document.createElement("p"), { textContent: cell.getAttribute("aria-label") }));
    for (const place of sprites.cells[cells.indexOf(cell)] ?? []) {
      const image = Object.assign(document.createElement("i"), { className: "sprite" });
      const [x, y] = [place % sprites.columns, Math.floor(place / sprites.columns)];
      image.style.background = `url("${atlas}") -${x * sprites.tile}px -${y * sprites.tile}px`;
      image.style.setProperty("--tile", `${sprites.tile}px`);
      panel.append(image);
    }
  };
  cells.forEach((cell, k) => {
    cell.addEventListener("click", () => open(cell));
    cell.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -side, ArrowDown: side }[event.key];
      const next = cells[k + by];
      if (!next || (Math.abs(by) === 1 && Math.floor(k / side) !== Math.floor((k + by) / side))) return;
      open(next, true);
      event.preventDefault();
    });
  });
  panel.hidden = false;
  open(cells.find((cell) => cell.hasAttribute("data-first")) ?? cells[0]);
}
