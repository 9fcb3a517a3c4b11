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
  const specs = JSON.parse(document.getElementById("specs").textContent);

  // The library is kept deflated, which halves the page; its text has a hash in the page's policy.
  function inflated() {
    const packed = Uint8Array.from(atob(document.getElementById("library").textContent), (c) => c.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
  }
  function run(text) {
    const script = document.createElement("script");
    script.textContent = text;
    document.head.append(script);
  }
  function draw(place) {
    return window.vegaEmbed(place, specs[place.dataset.chart], options);
  }
  const places = Array.from(document.querySelectorAll("[data-chart]"));
  function fail(place, error) {
    place.textContent = "This chart could not be drawn; its numbers are in the table below.";
    console.error(error);
  }
  inflated().then(run).then(
    () => Promise.all(places.map((place) => draw(place).catch((error) => fail(place, error)))),
    (error) => places.forEach((place) => fail(place, error)),
  ).then(() => { document.documentElement.dataset.charts = "drawn"; });

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
