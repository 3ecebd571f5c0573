'use strict';
(() => {
  const { figures, resumes } = JSON.parse(document.getElementById('data').textContent);
  if (!figures.length) return;
  const root = document.documentElement;
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const coarse = matchMedia('(pointer: coarse)');
  const from = document.getElementById('from');
  const to = document.getElementById('to');
  const steps = figures.flatMap((f) => f.series.flatMap((s) => s.x.length ? [s.x[0], s.x.at(-1)] : []));
  const whole = [steps.reduce((a, b) => Math.min(a, b)), steps.reduce((a, b) => Math.max(a, b))];
  // margin at both ends, also for a single iteration
  const pad = Math.max((whole[1] - whole[0]) * 0.01, 0.5);
  let range = null;

  for (const figure of figures) {
    figure.log = false;
    for (const series of figure.series) series.shown = true;
  }

  const color = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  // Lowest and highest value of the shown curves in the range, in units of the axis.
  function extent(figure, [left, right]) {
    let low = Infinity, high = -Infinity;
    for (const { x, y, interval, shown } of figure.series) {
      if (!shown) continue;
      for (const values of [y, ...(interval ?? [])]) {
        for (let i = 0; i < x.length; i++) {
          const value = values[i];
          if (value === null || x[i] < left || x[i] > right || (figure.log && value <= 0)) continue;
          low = Math.min(low, value);
          high = Math.max(high, value);
        }
      }
    }
    if (low > high) return figure.log ? [-1, 1] : [0, 1];
    if (figure.log) [low, high] = [Math.log10(low), Math.log10(high)];
    const margin = (high - low) * 0.05 || Math.abs(high) * 0.05 || 0.5;
    return [low - margin, high + margin];
  }

  function traces(figure) {
    const bands = [], lines = [];
    for (const { label, color: index, x, y, interval, shown } of figure.series) {
      const line = color(`--c${index}`);
      const common = { x, type: 'scatter', visible: shown, connectgaps: false };
      if (interval) {
        const bound = { ...common, mode: 'lines', line: { width: 0 }, hoverinfo: 'skip' };
        // '26' is an opacity of 15 %
        bands.push({ ...bound, y: interval[0] }, { ...bound, y: interval[1], fill: 'tonexty', fillcolor: `${line}26` });
      }
      lines.push({
        ...common, y, name: label, mode: x.length > 60 ? 'lines' : 'lines+markers',
        line: { color: line, width: x.length > 400 ? 1.1 : 1.8 }, marker: { color: line, size: 4.5 },
      });
    }
    // no band covers a line
    return [...bands, ...lines];
  }

  function layout(figure) {
    const ink = color('--ink'), soft = color('--soft'), rule = color('--rule');
    const [left, right] = range ?? [whole[0] - pad, whole[1] + pad];
    const axis = {
      gridcolor: rule, linecolor: soft, tickfont: { color: soft, size: 11.5 },
      zeroline: false, fixedrange: true,
    };
    return {
      margin: { l: 52, r: 8, t: 8, b: 42 },
      paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', showlegend: false,
      font: { family: getComputedStyle(document.body).fontFamily, color: ink, size: 12 },
      hovermode: 'x unified', hoverlabel: { bgcolor: color('--raised'), bordercolor: rule, font: { color: ink } },
      // a drag scrolls the page on a touch screen
      dragmode: coarse.matches ? false : 'zoom',
      xaxis: {
        ...axis, fixedrange: coarse.matches, showgrid: false, showline: true, ticks: 'outside', tickcolor: soft, ticklen: 4,
        nticks: 7, title: { text: 'iteration', font: { color: soft, size: 11.5 }, standoff: 6 }, tickformat: whole[1] >= 1e4 ? '~s' : ',d', hoverformat: ',d', range: [left, right],
      },
      yaxis: {
        ...axis, nticks: 6, type: figure.log ? 'log' : 'linear', exponentformat: 'power',
        hoverformat: '.4~g', range: extent(figure, [left, right]),
      },
      shapes: resumes.map((step) => ({
        type: 'line', x0: step, x1: step, y0: 0, y1: 1, yref: 'paper', line: { color: soft, width: 1, dash: 'dot' },
      })),
    };
  }

  const settings = { displayModeBar: false, responsive: true, doubleClick: false };

  function draw(index) {
    const place = document.getElementById(`f${index}`);
    const figure = figures[index];
    Plotly.react(place, traces(figure), layout(figure), settings);
    if (figure.drawn) return;
    figure.drawn = true;
    place.on('plotly_relayout', (change) => {
      if ('xaxis.range[0]' in change) zoom([change['xaxis.range[0]'], change['xaxis.range[1]']]);
    });
    place.on('plotly_doubleclick', () => zoom(null));
  }

  // Figures are drawn one at a time, those on the screen first, so that the page stays responsive.
  const waiting = new Set();
  let drawing = false;

  function drawSoon(indices) {
    for (const index of indices) waiting.add(index);
    if (!drawing && waiting.size) {
      drawing = true;
      setTimeout(drawNext);
    }
  }

  function drawNext() {
    const visible = [...waiting].find((index) => {
      const { top, bottom } = document.getElementById(`f${index}`).getBoundingClientRect();
      return bottom > 0 && top < innerHeight;
    });
    const next = visible ?? waiting.values().next().value;
    waiting.delete(next);
    draw(next);
    if (waiting.size) {
      setTimeout(drawNext);
    } else {
      drawing = false;
      // milliseconds after the start of the navigation
      root.dataset.drawn ??= Math.round(performance.now());
    }
  }

  const all = () => drawSoon(figures.keys());

  function zoom(to_) {
    range = to_;
    showRange();
    all();
  }

  function showRange() {
    const [left, right] = range ?? whole;
    from.value = Math.max(Math.round(left), 0);
    to.value = Math.round(right);
  }

  document.addEventListener('change', ({ target }) => {
    if (target === from || target === to) {
      const [left, right] = [from.valueAsNumber, to.valueAsNumber];
      if (left < right) zoom([left, right]);
      else showRange();
      return;
    }
    const { log, figure, series, run } = target.dataset;
    if (log !== undefined) {
      figures[log].log = target.checked;
      drawSoon([Number(log)]);
    } else if (series !== undefined) {
      figures[figure].series[series].shown = target.checked;
      drawSoon([Number(figure)]);
    } else if (run !== undefined) {
      for (const box of document.querySelectorAll(`input[data-of='${run}']`)) {
        box.checked = target.checked;
        figures[box.dataset.figure].series[box.dataset.series].shown = target.checked;
        drawSoon([Number(box.dataset.figure)]);
      }
    }
  });
  document.getElementById('reset').addEventListener('click', () => zoom(null));
  dark.addEventListener('change', all);
  coarse.addEventListener('change', all);
  showRange();
  all();
})();
