// --- One model ----------------------------------------------------------------------------------
class ModelView {
  constructor(model, open) {
    this.model = model;
    this.history = new History();
    this.spark = new RateChart(true);
    this.latency = new LatencyChart();
    this.cells = ["answered", "p50", "p99", "waiting"].map((title, at) => {
      const value = make("div", "");
      return { value, node: make("div", `cell${at % 2 ? " wide" : ""}`, make("span", "", title), value) };
    });
    this.bars = make("div", "bars");
    this.sizes = make("p", "fine");
    this.stack = make("div", "stack", ...PHASES.map(([, , kind]) => make("i", kind)));
    this.phases = make("dl", "pairs");
    this.counts = make("dl", "pairs");
    this.node = make("details", "model card", this.summary(), this.parts());
    this.node.open = open;
  }
  summary() {
    const name = make("div", "name", make("b", "", this.model.name), make("span", "", `version ${this.model.version}`));
    name.title = this.model.name;
    return make("summary", "", name, this.spark.node, ...this.cells.map(cell => cell.node));
  }
  parts() {
    const part = (title, ...children) => make("div", "", make("h3", "", title), ...children);
    return make("div", "parts",
      part("Latency", this.latency.node), part("Batch sizes", this.sizes, this.bars),
      part("Where the time of a request goes, on average", this.stack, this.phases), part("Since the model was loaded", this.counts));
  }
  update(now, reading) { this.history.add(now, this.model = reading); }
  draw(now) {
    const { change, seconds } = this.history.recent(), points = this.history.points;
    this.spark.draw(points, now);
    say(this.cells[0].value, seconds ? `${rate(change.answered / seconds)} /s` : NOTHING);
    [0.5, 0.99].forEach((share, at) => say(this.cells[at + 1].value, time(quantile(change.latencyEdges, change.latency, share)).join(" ")));
    say(this.cells[3].value, whole.format(this.model.pending));
    if (!this.node.open) return;
    const shown = change.batches > 0 ? change : this.model;
    this.latency.draw(points, now, change);
    this.drawSizes(shown, shown === change ? "in the last 10 s" : "since the model was loaded");
    this.drawPhases(change.answered > 0 ? change : this.model);
    this.drawCounts();
  }
  drawSizes(change, when) {
    const counts = change.sizes.map((count, at) => count - (at ? change.sizes[at - 1] : 0));
    const last = counts.findLastIndex(count => count > 0), most = Math.max(...counts);
    say(this.sizes, last < 0 ? "No batch yet" : `${digits(change.rows / change.batches)} rows a batch, ${several(change.batches, "batch", "batches")} ${when}`);
    this.bars.replaceChildren(...counts.slice(0, last + 1).map((count, at) => {
      const edge = change.sizeEdges[at], before = at ? change.sizeEdges[at - 1] : 0;
      const bar = make("i"), label = edge === Infinity ? `>${before}` : edge - before > 1 ? `${before + 1}\u2013${edge}` : `${edge}`;
      bar.style.height = `${100 * count / most}px`;
      return make("div", "", make("span", "fine", count ? percent(count, change.batches) : ""), bar, make("span", "fine", label));
    }));
  }
  drawPhases(change) {
    const computed = Math.max(1, change.answered - change.hits), answered = Math.max(1, change.answered);
    const means = PHASES.map(([, field]) => change[field] / 1e6 / (field === "queue" ? answered : computed));
    const all = means.reduce((sum, mean) => sum + mean, 0);
    means.forEach((mean, at) => { this.stack.children[at].style.width = all > 0 ? `${100 * mean / all}%` : "0"; });
    fillPairs(this.phases, PHASES.map(([title, , kind], at) => [title, all > 0 ? time(means[at]).join(" ") : NOTHING, "", kind]));
  }
  drawCounts() {
    const model = this.model, lookups = model.hits + model.misses;
    fillPairs(this.counts, [
      ["requests answered", whole.format(model.answered)], ["rows inferred", whole.format(model.rows)],
      ["from the cache", lookups ? `${percent(model.hits, lookups)} of ${whole.format(lookups)}` : "cache not asked"],
      ...(model.saved > 0 ? [["computing saved", model.saved < 60 ? time(model.saved).join(" ") : span(model.saved)]] : []),
      ...[...model.failures].filter(([reason, count]) => count > 0 || reason === "REJECTED").map(([reason, count]) => [REASONS[reason] ?? reason, whole.format(count), count ? "bad" : ""]),
    ]);
  }
}
function fillPairs(list, rows) {
  const text = JSON.stringify(rows);
  if (list.said === text) return;
  list.said = text;
  list.replaceChildren(...rows.flatMap(([title, value, mark, kind]) => [make("dt", kind ?? "", ...(kind ? [make("i", "key")] : []), title), make("dd", mark ?? "", value)]));
}
