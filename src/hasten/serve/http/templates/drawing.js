// --- Numbers as text ----------------------------------------------------------------------------
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const digits = value => value >= 99.95 ? whole.format(value) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2);
const rate = value => value === 0 ? "0" : value < 0.05 ? "<0.1" : value < 9.95 ? value.toFixed(1) : whole.format(value);
const percent = (part, all) => part / all > 0.995 && part < all ? ">99 %" : `${Math.round(100 * part / all)} %`;
function time(seconds) {
  if (Number.isNaN(seconds)) return [NOTHING, ""];
  if (seconds === Infinity) return [">1", "min"];
  return seconds < 0.9995e-3 ? [digits(seconds * 1e6), "\u00b5s"] : seconds < 0.9995 ? [digits(seconds * 1e3), "ms"] : [digits(seconds), "s"];
}
const tick = seconds => { const [value, unit] = time(seconds); return `${Number(value.replace(",", ""))} ${unit}`; };
function bytes(count) {
  const step = count < 999.5e3 ? [1e3, "kB"] : count < 999.5e6 ? [1e6, "MB"] : [1e9, "GB"];
  return [count ? digits(count / step[0]) : "0", step[1]];
}
function span(seconds) {
  const s = Math.floor(seconds), parts = [[Math.floor(s / 86400), "d"], [Math.floor(s / 3600) % 24, "h"], [Math.floor(s / 60) % 60, "min"], [s % 60, "s"]];
  const at = parts.findIndex(([count]) => count > 0);
  return at < 0 ? "0 s" : parts.slice(at, at + 2).filter(([count]) => count).map(part => part.join(" ")).join(" ");
}
const several = (count, one, many = `${one}s`) => `${whole.format(count)} ${count === 1 ? one : many}`;

// --- Elements: whatever a model is called, it becomes a text node --------------------------------
function make(tag, kind = "", ...children) {
  const node = document.createElement(tag);
  if (kind) node.className = kind;
  node.append(...children);
  return node;
}
function say(node, text) { if (node.textContent !== text) node.textContent = text; }
function sayUnit(node, [value, unit]) {
  if (node.said === value + unit) return;
  node.said = value + unit;
  node.replaceChildren(value, ...(unit ? [make("small", "", unit)] : []));
}
function drawing(kinds) {
  const paths = kinds.map(kind => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", kind);
    return path;
  });
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of [["viewBox", "0 0 1000 100"], ["preserveAspectRatio", "none"], ["aria-hidden", "true"]]) svg.setAttribute(name, value);
  svg.append(...paths);
  return { svg, paths };
}
function trace(points, now, height) {
  let line = "", area = "", last = null, from = 0;
  for (const point of points) {
    const y = height(point);
    if (!Number.isFinite(y)) { last = null; continue; }
    const x = (1000 * (1 - (now - point.now) / HISTORY_MS)).toFixed(1), at = `${x} ${y.toFixed(2)}`;
    const joins = last !== null && point.now - last.now < GAP_MS;
    if (!joins && area) area += `V100H${from}Z`;
    if (!joins) from = x;
    line += joins ? `L${at}` : `M${at}h0.01`;
    area += joins ? `L${at}` : `M${x} 100L${at}`;
    last = point;
  }
  return { line, area: area && area + `V100H${from}Z` };
}
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map(step => step * power).find(step => step >= value * (1 - 1e-9));
}
class RateChart {
  constructor(small) {
    const { svg, paths } = drawing(["area won", "won"]);
    this.paths = paths;
    this.top = make("span", "top fine");
    this.node = small ? make("div", "spark wide", svg) : make("div", "chart", svg, this.top, make("p", "fine", make("span", "", "2 min ago"), make("span", "", "now")));
  }
  draw(points, now) {
    const most = Math.max(...points.map(point => point.rate), 0), scale = most > 0 ? roundUp(most) : 1;
    const { line, area } = trace(points, now, point => 100 - 100 * point.rate / scale);
    this.paths[0].setAttribute("d", area);
    this.paths[1].setAttribute("d", line);
    say(this.top, most > 0 ? `${rate(scale)} /s` : "");
  }
}
class LatencyChart {
  constructor() {
    const { svg, paths } = drawing(QUANTILES.map(([, , kind]) => kind));
    this.paths = paths;
    this.top = make("span", "top fine");
    this.bottom = make("span", "bottom fine");
    this.readings = QUANTILES.map(() => make("dd", "big", NOTHING));
    const terms = QUANTILES.map(([name, , kind], at) => make("div", "", make("dt", kind, make("i", "key"), name), this.readings[at]));
    this.node = make("div", "", make("dl", "readings", ...terms), make("div", "chart", svg, this.top, this.bottom, make("p", "fine", make("span", "", "2 min ago"), make("span", "", "now"))));
  }
  draw(points, now, change) {
    QUANTILES.forEach(([, share], at) => sayUnit(this.readings[at], time(quantile(change.latencyEdges, change.latency, share))));
    const seen = points.flatMap(point => QUANTILES.map(([name]) => point[name])).filter(Number.isFinite);
    const high = seen.length ? roundUp(Math.max(...seen)) : 1, low = seen.length ? Math.min(1 / roundUp(1 / Math.min(...seen)), high / 2) : 0.1;
    const height = value => 100 - 100 * Math.log(value / low) / Math.log(high / low);
    QUANTILES.forEach(([name], at) => this.paths[at].setAttribute("d", trace(points, now, point => height(point[name])).line));
    say(this.top, seen.length ? tick(high) : "");
    say(this.bottom, seen.length ? tick(low) : "");
  }
}
class Tile {
  constructor(title) {
    this.value = make("dd", "big", NOTHING);
    this.fine = make("dd", "fine");
    this.node = make("div", "", make("dt", "", title), this.value, this.fine);
  }
  show(value, fine) { sayUnit(this.value, value); say(this.fine, fine); }
}
