"use strict";
const PERIOD_MS = 1000, PATIENCE_MS = 4000, WINDOW_MS = 10000, HISTORY_MS = 120000, GAP_MS = 5000;
const NOTHING = "\u2014";
const QUANTILES = [["p50", 0.5, "won"], ["p90", 0.9, "mid"], ["p99", 0.99, "high"]];
const PHASES = [["waiting", "queue", "high"], ["gathering inputs", "input", "mid"], ["the model", "infer", "won"], ["splitting outputs", "output", "other"]];
const COUNTERS = {
  nv_inference_request_success: "answered", nv_inference_count: "rows", nv_inference_exec_count: "batches",
  nv_inference_queue_duration_us: "queue", nv_inference_compute_input_duration_us: "input",
  nv_inference_compute_infer_duration_us: "infer", nv_inference_compute_output_duration_us: "output",
  nv_cache_num_hits_per_model: "hits", nv_cache_num_misses_per_model: "misses", hasten_cache_saved_seconds_total: "saved",
};
const REASONS = { REJECTED: "refused", CANCELED: "cancelled", BACKEND: "failed in the model", OTHER: "other failures" };

// --- The text of /metrics as numbers ------------------------------------------------------------
const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/s, LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/gs;
function labelsOf(text) {
  const labels = new Map();
  for (const [, name, value] of text.matchAll(LABEL)) labels.set(name, value.replace(/\\(.)/gs, (_, one) => one === "n" ? "\n" : one));
  return labels;
}
function emptyModel(name, version) {
  const model = { name, version, pending: 0, failures: new Map(), latency: [], latencyEdges: [], sizes: [], sizeEdges: [] };
  for (const field of Object.values(COUNTERS)) model[field] = 0;
  return model;
}
function readSample(reading, name, labels, value) {
  if (!labels.has("model")) {
    if (name === "hasten_build_info") reading.version = labels.get("version") ?? "";
    else reading.server.set(name, value);
    return;
  }
  const key = JSON.stringify([labels.get("model"), labels.get("version")]);
  let model = reading.models.get(key);
  if (!model) reading.models.set(key, model = emptyModel(labels.get("model"), labels.get("version") ?? ""));
  const edge = labels.get("le") === "+Inf" ? Infinity : Number(labels.get("le"));
  if (name in COUNTERS) model[COUNTERS[name]] = value;
  else if (name === "nv_inference_pending_request_count") model.pending = value;
  else if (name === "nv_inference_request_failure") model.failures.set(labels.get("reason"), value);
  else if (name === "hasten_request_duration_seconds_bucket") { model.latencyEdges.push(edge); model.latency.push(value); }
  else if (name === "hasten_batch_size_bucket") { model.sizeEdges.push(edge); model.sizes.push(value); }
}
function readMetrics(text) {
  const reading = { version: "", server: new Map(), models: new Map() };
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : SAMPLE.exec(line);
    if (match) readSample(reading, match[1], labelsOf(match[2] ?? ""), Number(match[3]));
  }
  if (!reading.server.has("hasten_uptime_seconds")) throw new Error("it answers, but not with Hasten's metrics");
  return reading;
}

// --- What happened between two readings ---------------------------------------------------------
function between(later, earlier) {
  const change = { ...later, failures: new Map(later.failures) };
  for (const field of Object.values(COUNTERS)) change[field] -= earlier[field];
  for (const [reason, count] of later.failures) change.failures.set(reason, count - (earlier.failures.get(reason) ?? 0));
  for (const field of ["latency", "sizes"]) change[field] = later[field].map((count, at) => count - (earlier[field][at] ?? 0));
  return change;
}
function quantile(edges, cumulated, share) {
  const total = cumulated.at(-1) ?? 0;
  if (!(total > 0)) return NaN;
  const wanted = share * total, at = cumulated.findIndex(count => count >= wanted);
  if (edges[at] === Infinity) return Infinity;
  const below = at ? cumulated[at - 1] : 0, low = at ? edges[at - 1] : 0;
  return low + (edges[at] - low) * (wanted - below) / (cumulated[at] - below);
}
const failed = change => [...change.failures.values()].reduce((sum, count) => sum + count, 0);
function total(changes) {
  const sum = emptyModel("", "");
  for (const change of changes) {
    for (const field of [...Object.values(COUNTERS), "pending"]) sum[field] += change[field];
    for (const [reason, count] of change.failures) sum.failures.set(reason, (sum.failures.get(reason) ?? 0) + count);
    sum.latencyEdges = change.latencyEdges;
    sum.latency = change.latency.map((count, at) => count + (sum.latency[at] ?? 0));
  }
  return sum;
}
class History {
  constructor() { this.readings = []; this.points = []; }
  add(now, reading) {
    const last = this.readings.at(-1);
    if (last && (reading.answered < last.reading.answered || reading.batches < last.reading.batches)) this.readings = [];
    else if (last) this.addPoint(now, between(reading, last.reading), now - last.now);
    this.readings.push({ now, reading });
    while (this.readings.length > 2 && this.readings[1].now <= now - WINDOW_MS) this.readings.shift();
  }
  addPoint(now, change, spent) {
    const point = { now, rate: change.answered / spent * 1000 };
    for (const [name, share] of QUANTILES) point[name] = quantile(change.latencyEdges, change.latency, share);
    this.points.push(point);
    while (this.points[0].now < now - HISTORY_MS) this.points.shift();
  }
  recent() {
    const first = this.readings[0], last = this.readings.at(-1);
    return { change: between(last.reading, first.reading), seconds: (last.now - first.now) / 1000 };
  }
}
