"use strict";
// Charts follow the page's text colour, so light, dark and paper need no second drawing.
(function () {
  const ink = "currentColor";
  const faint = "#7d838c";
  const font = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
  const axis = {
    labelColor: ink, titleColor: ink, domainColor: faint, tickColor: faint, gridColor: faint, gridOpacity: 0.22,
    labelFontSize: 11, titleFontSize: 11, titleFontWeight: "normal", labelFont: font, titleFont: font,
    labelOverlap: true, tickCount: 6,
  };
  const config = {
    background: "transparent", font: font, axis: axis, view: { stroke: "transparent" },
    legend: { labelColor: ink, titleColor: ink, labelFontSize: 12, labelFont: font, symbolStrokeWidth: 2 },
    aria: false,
  };
  const options = {
    mode: "vega-lite", renderer: "svg", ast: true, actions: false, config: config,
    loader: { http: false, file: false },
  };
  let specs = {};

  // Charts and their library are kept deflated, which halves the page; the library's text has a hash in the policy.
  async function inflated(id) {
    const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
  }
  function run(text) {
    const script = document.createElement("script");
    script.textContent = text;
    document.head.append(script);
  }
  // Views by chart, so that they can be filtered and saved.
  const views = new Map();
  function fail(place, error) {
    place.textContent = "This chart could not be drawn; its numbers are in the table below.";
    console.error(error);
  }
  function draw(place, wanted) {
    const spec = wanted ? filtered(specs[place.dataset.chart], wanted) : specs[place.dataset.chart];
    return window.vegaEmbed(place, spec, options)
      .then((found) => views.set(place.dataset.chart, found.view)).catch((error) => fail(place, error));
  }
  const named = (row) => row.members || row.network || row.model;
  function filtered(spec, wanted) {
    const copy = structuredClone(spec), kept = (row) => !named(row) || wanted(named(row));
    for (const part of [copy, copy.spec || {}, ...(copy.layer || [])]) {
      if (part.data && part.data.values) { part.data.values = part.data.values.filter(kept); }
    }
    for (const name of Object.keys(copy.datasets || {})) { copy.datasets[name] = copy.datasets[name].filter(kept); }
    return copy;
  }
  const places = Array.from(document.querySelectorAll("[data-chart]"));
  Promise.all([inflated("specs"), inflated("library").then(run)]).then(([text]) => { specs = JSON.parse(text); }).then(
    () => Promise.all(places.map((place) => draw(place))),
    (error) => places.forEach((place) => fail(place, error)),
  ).then(() => {
    document.querySelectorAll("button[data-view]").forEach((b) => { b.disabled = !views.has(b.dataset.view); });
    if (box && box.value) { choose(); }
    document.documentElement.dataset.charts = "drawn";
  });

  // Charts as files: the drawing, and the numbers behind it.
  function save(name, data, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([data], { type: type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }
  function cells(row) {
    return Array.from(row.cells, (cell) => '"' + cell.textContent.trim().replaceAll('"', '""') + '"').join(",");
  }
  const files = {
    csv: (figure, id) => save(id + ".csv", Array.from(figure.querySelectorAll("tr"), cells).join("\n") + "\n", "text/csv"),
    svg: (figure, id) => views.get(id).toSVG().then((text) => save(id + ".svg", text, "image/svg+xml")),
    png: (figure, id) => {
      const view = views.get(id);
      const canvas = view.background("white").runAsync().then(() => view.toCanvas(2));
      return canvas.then((drawn) => drawn.toBlob((blob) => save(id + ".png", blob, "image/png")))
        .finally(() => view.background("transparent").runAsync());
    },
  };
  for (const place of places) {
    const figure = place.closest("figure"), bar = document.createElement("p");
    bar.className = "files";
    bar.append("Save as ");
    for (const kind of Object.keys(files)) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = kind.toUpperCase();
      button.ariaLabel = "Save " + figure.querySelector("strong").firstChild.textContent.trim() + " as " + button.textContent;
      if (kind !== "csv") { button.dataset.view = place.dataset.chart; }
      button.addEventListener("click", () => files[kind](figure, place.dataset.chart));
      bar.append(button, " ");
    }
    figure.querySelector("summary").after(bar);
  }

  // Only some models: rows, columns, sections and points of the others go.
  const box = document.getElementById("filter"), told = document.getElementById("filtered");
  const rows = (spec) => [...Object.values(spec.datasets || {}), ...[spec, spec.spec || {}, ...(spec.layer || [])]
    .map((part) => (part.data && part.data.values) || [])].flat();
  const byModel = (place) => rows(specs[place.dataset.chart]).some((row) => named(row));
  function choose() {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = (names) => !words.length || words.some((word) => names.toLowerCase().includes(word));
    document.querySelectorAll("[data-model]").forEach((part) => { part.hidden = !wanted(part.dataset.model); });
    const all = Array.from(document.querySelectorAll("tr[id^=model-]")), left = all.filter((row) => !row.hidden);
    told.textContent = words.length ? left.length + " of " + all.length + " models are shown." : "";
    places.filter((place) => views.has(place.dataset.chart) && !place.closest("[data-model]") && byModel(place))
      .forEach((place) => draw(place, wanted));
  }
  if (box) {
    box.closest("form").hidden = false;
    box.closest("form").addEventListener("submit", (event) => event.preventDefault());
    box.addEventListener("input", choose);
  }

  // Tables by any of their columns: up, down, and by number where cells begin with one.
  function value(row, column) {
    const text = row.cells[column] ? row.cells[column].textContent.trim() : "";
    const plain = text.replaceAll(",", "").replace("\u2212", "-"), parts = plain.match(/^([\d.]+)\/([\d.]+)/);
    const number = parts ? parts[1] / parts[2] : parseFloat(plain);
    return Number.isNaN(number) ? text : number;
  }
  function order(a, b) {
    if (typeof a === typeof b) { return typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }); }
    return typeof a === "number" ? -1 : 1;
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const sign = head.ariaSort === "ascending" ? -1 : 1;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.ariaSort = sign > 0 ? "ascending" : "descending";
        const body = table.tBodies[0];
        body.append(...Array.from(body.rows).sort((a, b) => sign * order(value(a, column), value(b, column))));
      });
    });
  }

  // Paper cannot be clicked: open every table for it, and close again those that were closed.
  let opened = [];
  function open() {
    opened = opened.concat(Array.from(document.querySelectorAll("details:not([open])")));
    opened.forEach(function (element) { element.open = true; });
  }
  function restore() {
    opened.forEach(function (element) { element.open = false; });
    opened = [];
  }
  window.addEventListener("beforeprint", open);
  window.addEventListener("afterprint", restore);
  const paper = window.matchMedia("print");
  paper.addEventListener("change", function () { if (paper.matches) { open(); } else { restore(); } });
})();
