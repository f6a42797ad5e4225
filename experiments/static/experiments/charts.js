// Draws every <canvas data-chart="..."> with the Chart.js that Unfold brings, also in parts that htmx swaps in.
(() => {
  const PALETTE = ["#6366f1", "#0d9488", "#d97706", "#db2777", "#0284c7", "#65a30d", "#9333ea", "#dc2626"];
  const GREY = "#94a3b8";

  const axis = (text, more) => ({
    ...more,
    title: { display: Boolean(text), text },
    grid: { color: "rgba(148, 163, 184, 0.18)" },
    border: { display: false },
  });

  // Times come as milliseconds that are to be read as UTC: the lab's wall clock, not the browser's.
  const MINUTE = 60000;
  const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880].map((minutes) => minutes * MINUTE);
  const clock = (at) => new Date(at).toISOString().slice(11, 16);
  const day = (at) => new Date(at).toISOString().slice(5, 10);
  const timeAxis = {
    afterBuildTicks: (scale) => {
      const step = STEPS.find((one) => (scale.max - scale.min) / one <= 8) ?? STEPS.at(-1);
      scale.ticks = [];
      for (let at = Math.ceil(scale.min / step) * step; at <= scale.max; at += step) scale.ticks.push({ value: at });
    },
    ticks: { maxRotation: 0, callback: (at) => (at % (1440 * MINUTE) ? clock(at) : day(at)) },
  };

  const dataset = (kind) => ({ label, points }, index) => {
    const colour = label === "control" ? GREY : PALETTE[index % PALETTE.length];
    const look = kind === "bar"
      ? { grouped: false, maxBarThickness: 44, borderRadius: 4 }
      : { borderWidth: 2, pointRadius: points.length > 1 ? 0 : 3, pointHitRadius: 8, tension: 0.15 };
    return { label, data: points, borderColor: colour, backgroundColor: colour, ...look };
  };

  const draw = (canvas) => {
    const { kind, series, labels, x, y, time } = JSON.parse(canvas.dataset.chart);
    Chart.defaults.font.family = "Inter, sans-serif";
    Chart.defaults.color = GREY;
    Chart.getChart(canvas)?.destroy();
    new Chart(canvas, {
      type: kind,
      data: { labels, datasets: series.map(dataset(kind)) },
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: kind === "bar" ? "nearest" : "index", intersect: false },
        plugins: {
          legend: { display: series.length > 1 && series.length <= 12, position: "bottom", labels: { boxWidth: 10, boxHeight: 10 } },
          tooltip: time ? { callbacks: { title: ([item]) => `${day(item.parsed.x)} ${clock(item.parsed.x)}` } } : {},
        },
        scales: {
          x: axis(x, { type: kind === "bar" ? "category" : "linear", grid: { display: false }, ...(time ? timeAxis : {}) }),
          y: axis(y, { beginAtZero: kind === "bar" || Boolean(time) }),
        },
      },
    });
  };

  const ready = (root) => {
    root.querySelectorAll("canvas[data-chart]").forEach(draw);
    root.querySelectorAll("[data-log]").forEach((log) => { log.scrollTop = log.scrollHeight; });
  };

  document.addEventListener("DOMContentLoaded", () => ready(document));
  document.addEventListener("htmx:load", (event) => ready(event.detail.elt));
})();
