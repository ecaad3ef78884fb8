"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const template = () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = {
      gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--rule"),
      automargin: true, title: { standoff: 12, font: { size: 13 } },
    };
    return { layout: {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: colour("--sans"), size: 13, color: colour("--ink") },
      colorway: [1, 2, 3, 4, 5, 6].map((index) => colour(`--c${index}`)),
      xaxis: axis, yaxis: axis,
      hoverlabel: {
        bgcolor: colour("--card"), bordercolor: colour("--rule"), font: { color: colour("--ink") }, align: "left",
      },
      legend: { orientation: "h", yanchor: "bottom", y: 1.02, xanchor: "left", x: 0 },
      margin: { l: 60, r: 20, t: 36, b: 48 },
    } };
  };

  // On a narrow screen long names would leave no room for the picture.
  const shorten = (axis) => axis?.ticktext ? {
    ...axis, ticktext: axis.ticktext.map((name) => name.length > 16 && !name.includes("&") ? `${name.slice(0, 15)}…` : name),
  } : axis;

  const draw = () => {
    const look = template();
    for (const place of document.querySelectorAll("[data-figure]")) {
      const { data, layout } = structuredClone(figures[Number(place.dataset.figure)]);
      if (place.clientWidth < 520) {
        layout.yaxis = shorten(layout.yaxis);
        layout.xaxis = shorten(layout.xaxis);
        if (layout.xaxis?.ticktext?.length > 12) layout.xaxis.showticklabels = false;
      }
      Plotly.react(place, data, { ...layout, template: look }, { displayModeBar: false, responsive: true });
    }
  };
  draw();
  dark.addEventListener("change", draw);
})();
