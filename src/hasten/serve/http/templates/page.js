// --- The page -----------------------------------------------------------------------------------
class Page {
  constructor() {
    this.views = new Map();
    this.history = new History();
    this.rate = new RateChart(false);
    this.latency = new LatencyChart();
    this.answered = make("dd", "big", NOTHING);
    this.failing = make("dd", "big", NOTHING);
    this.tiles = Object.fromEntries([["batch", "Rows a batch"], ["waiting", "Waiting for an executor"], ["cache", "Answers from the cache"], ["memory", "Memory"]].map(([key, title]) => [key, new Tile(title)]));
    this.find = make("input");
    Object.assign(this.find, { type: "search", placeholder: "Find a model", hidden: true });
    this.find.setAttribute("aria-label", "Find a model");
    this.find.addEventListener("input", () => this.filter());
    this.list = make("div");
    this.list.id = "models";
    const readings = make("dl", "readings", make("div", "", make("dt", "won", make("i", "key"), "answered"), this.answered), make("div", "", make("dt", "", "refused or failed"), this.failing));
    document.getElementById("figures").append(
      make("div", "heroes", make("section", "card", make("h3", "", "Requests"), readings, this.rate.node), make("section", "card", make("h3", "", "Latency"), this.latency.node)),
      make("dl", "tiles", ...Object.values(this.tiles).map(tile => tile.node)),
      make("div", "heading", make("h2", "", "Models"), this.find), this.list);
  }
  show(now, reading) {
    const uptime = reading.server.get("hasten_uptime_seconds");
    if (uptime < this.uptime) { this.views.clear(); this.history.readings = []; }
    this.uptime = uptime;
    this.arrange(reading.models);
    for (const [key, model] of reading.models) this.views.get(key).update(now, model);
    const sum = total(reading.models.values());
    this.history.add(now, sum);
    this.say(reading, sum);
    this.draw(now, sum, reading.server);
  }
  arrange(models) {
    const missing = [...models.keys()].filter(key => !this.views.has(key)), gone = [...this.views.keys()].filter(key => !models.has(key));
    if (!missing.length && !gone.length && this.list.hasChildNodes()) return;
    for (const key of gone) this.views.delete(key);
    for (const key of missing) this.views.set(key, new ModelView(models.get(key), models.size <= 3));
    const order = [...this.views.values()].sort((a, b) => a.model.name.localeCompare(b.model.name) || a.model.version - b.model.version);
    const nodes = order.map(view => view.node);
    this.list.replaceChildren(...(nodes.length ? nodes : [make("div", "card soft", "No model is loaded. Start the server with a bundle, a model file or a repository: hasten serve PATH")]));
    this.find.hidden = nodes.length <= 8;
    this.filter();
  }
  filter() {
    const wanted = this.find.hidden ? "" : this.find.value.toLowerCase();
    for (const view of this.views.values()) view.node.hidden = !view.model.name.toLowerCase().includes(wanted);
  }
  say(reading, sum) {
    say(document.getElementById("server"), `Hasten ${reading.version} on ${location.host}`);
    say(document.getElementById("headline"), reading.models.size ? `Serving ${several(reading.models.size, "model")}` : "Serving no model");
    say(document.getElementById("summary"), `Up for ${span(this.uptime)}, ${several(sum.answered, "request")} answered, ${several(reading.server.get("hasten_open_connections") ?? 0, "open connection")}`);
  }
  draw(now, sum, server) {
    const { change, seconds } = this.history.recent(), failures = failed(change), lookups = change.hits + change.misses;
    this.rate.draw(this.history.points, now);
    this.latency.draw(this.history.points, now, change);
    sayUnit(this.answered, seconds ? [rate(change.answered / seconds), "/s"] : [NOTHING, ""]);
    sayUnit(this.failing, seconds ? [rate(failures / seconds), "/s"] : [NOTHING, ""]);
    this.failing.style.color = failures > 0 ? "var(--high)" : "";
    this.tiles.batch.show([change.batches > 0 ? digits(change.rows / change.batches) : NOTHING, ""], seconds ? `${rate(change.batches / seconds)} batches a second` : "");
    this.tiles.waiting.show([whole.format(sum.pending), ""], change.answered > 0 ? `${time(change.queue / 1e6 / change.answered).join(" ")} on average` : "no request lately");
    const held = server.get("hasten_cache_bytes") ?? 0, budget = server.get("hasten_cache_budget_bytes") ?? 0;
    this.tiles.cache.show([lookups > 0 ? percent(change.hits, lookups) : NOTHING, ""], budget ? `${bytes(held).join(" ")} of ${bytes(budget).join(" ")} held` : held ? `${bytes(held).join(" ")} held` : "nothing held");
    this.tiles.memory.show(bytes(server.get("hasten_resident_memory_bytes") ?? 0), "resident in this process");
    for (const view of this.views.values()) view.draw(now);
  }
}
class Watch {
  constructor() { this.page = new Page(); this.heard = new Date(); }
  async ask() {
    const began = performance.now();
    try {
      const answer = await fetch("metrics", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      if (!answer.ok) throw new Error(`it answers with status ${answer.status}`);
      const reading = readMetrics(await answer.text());
      this.page.show(performance.now(), reading);
      this.calm();
    } catch (error) {
      this.raise(error);
    }
    // A page of very many models asks less often, so that reading them does not fill the time.
    setTimeout(() => this.ask(), Math.max(PERIOD_MS - (performance.now() - began), PERIOD_MS / 4));
  }
  calm() {
    this.heard = new Date();
    document.title = "Hasten";
    document.body.classList.remove("stale");
    document.getElementById("alarm").hidden = true;
  }
  raise(error) {
    const reason = error.name === "TimeoutError" ? `no answer within ${PATIENCE_MS / 1000} s` : error instanceof TypeError ? "no connection" : error.message;
    document.title = "Not answering \u2013 Hasten";
    document.body.classList.add("stale");
    document.getElementById("alarm").hidden = false;
    const shown = this.page.views.size ? " What is shown is from before." : "";
    say(document.getElementById("headline"), "The server does not answer");
    say(document.getElementById("alarm"), `It has not answered since ${this.heard.toLocaleTimeString("en-GB")}: ${reason}.${shown} This page asks again every second.`);
  }
}
new Watch().ask();
