// Keeps the page up to date. Data from outside is set as text, never as HTML: only textContent and attributes are set.

const $ = (id) => document.getElementById(id);
const BAR = document.body.dataset.bar.split(" "), FAILURES = document.body.dataset.failures.split(" ");
const BAD_ENDS = ["EXPIRED", "NOT_FOUND", "REJECTED"];
const AN_ID = /^comms_operation_[0-7][a-hjkmnpqrstv-z0-9]{25,34}$/;
const EVERY = 1000, SLOWEST = 10000, ANSWER_TIMEOUT = 5000; // milliseconds
const REORDER_PAUSE = 3000; // after input, rows are not reordered for this time
const ANNOUNCE_EVERY = 5000; // shortest time between two announcements to a screen reader

const body = document.body, form = $("filter"), list = $("operations").tBodies[0], details = $("details");
const rows = new Map([...list.rows].map((row) => [row.dataset.key, row]));
const unplaced = new Set();
let bookmark = body.dataset.bookmark;
let ahead = Date.parse(body.dataset.asOf) - Date.now(); // the watcher's clock minus the browser's
let open = null, seen = ""; // the operation whose details are open, and their text
let touchedAt = -REORDER_PAUSE, announcedAt = -ANNOUNCE_EVERY, announced = "", answeredAt = Date.now();
let timer = 0, wait = EVERY, isPolling = false, paused = false;

// ── texts ──

const number = (count) => (count ?? null) === null ? "–" : count.toLocaleString("en");
const listed = (counts) => Object.entries(counts).filter(([, n]) => n).map(([name, n]) => `${number(n)} ${name}`).join(", ");

function words(stats) {
  const parts = listed(Object.fromEntries(BAR.map((name) => [name, stats[name]])));
  return stats.total === undefined ? parts || "no stats yet" : `${parts || "0"} of ${number(stats.total)}`;
}

function span(seconds) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]])
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  return `${seconds < 2 ? seconds.toFixed(1) : Math.floor(seconds)} s`;
}

const now = () => Date.now() + ahead;
function ago(instant) {
  const seconds = (now() - Date.parse(instant)) / 1000;
  return seconds < 2 ? "just now" : `${span(seconds)} ago`;
}
const local = (instant) => new Date(instant).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

// ── elements ──

function el(name, attributes = {}, ...content) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...content);
  return made;
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function time(instant, text) {
  return el("time", { datetime: instant, title: instant }, text(instant));
}

function draw(svg, stats) {
  const whole = Math.max(stats.total ?? 0, BAR.reduce((sum, name) => sum + (stats[name] ?? 0), 0)) || 1;
  const parts = [];
  let start = 0;
  for (const name of BAR.filter((one) => stats[one])) {
    const part = document.createElementNS(svg.namespaceURI, "rect"), width = 100 * stats[name] / whole;
    for (const [key, value] of [["class", name], ["x", start.toFixed(2)], ["width", width.toFixed(2)], ["height", 8]]) part.setAttribute(key, value);
    parts.push(part);
    start += width;
  }
  svg.replaceChildren(...parts);
}

const from = (template) => $(template).content.firstElementChild.cloneNode(true);
const address = ({ id, account }) =>
  `api/v1/operations/${encodeURIComponent(id)}${account ? `?account=${encodeURIComponent(account)}` : ""}`;
const labels = (operation) => Object.entries(operation.labels).sort().flatMap(([name, value]) => [el("code", {}, `${name}=${value}`), " "]);

// ── operations ──

function rank({ stats, status, phase }) {
  const failures = FAILURES.filter((name) => stats[name]);
  if (BAD_ENDS.includes(status) || failures.some((name) => BAR.includes(name))) return 0;
  if (failures.length) return 1;
  return phase === "followed" ? 2 : 3;
}

function show(operation) {
  const key = `${operation.account}:${operation.id}`;
  const row = rows.get(key) ?? from("operation-row");
  const part = (selector) => row.querySelector(selector);
  const { stats, status } = operation;
  const place = `${rank(operation)} ${operation.registered_at}`;
  if (!rows.has(key) || place !== `${row.dataset.rank} ${row.dataset.at}`) unplaced.add(row);
  if (rows.has(key) && status !== row.dataset.status) flash(row);
  Object.assign(row.dataset, { key, rank: rank(operation), at: operation.registered_at });
  Object.assign(row.dataset, { account: operation.account, status, phase: operation.phase });
  part("a").setAttribute("href", address(operation));
  say(part("a"), operation.id);
  say(part(".account"), operation.account);
  part(".labels").replaceChildren(...labels(operation));
  say(part(".status"), status === "UNKNOWN" && operation.status_word ? `${status} (${operation.status_word})` : status);
  draw(part("svg"), stats);
  say(part(".progress small"), words(stats));
  for (const name of FAILURES) {
    const cell = part(`td.${name}`);
    say(cell, number(stats[name]));
    cell.classList.toggle("some", stats[name] > 0);
  }
  part(".changed").replaceChildren(operation.progressed_at ? time(operation.progressed_at, ago) : "–");
  rows.set(key, row);
}

function flash(row) {
  row.classList.remove("moved");
  requestAnimationFrame(() => row.classList.add("moved"));
}

function drop(key) {
  const row = rows.get(key);
  if (row?.contains(document.activeElement)) (row.nextElementSibling ?? row.previousElementSibling)?.querySelector("a").focus();
  unplaced.delete(row);
  rows.delete(key);
  row?.remove();
}

// Failures first, then running, then ended operations; the newest first. Only rows whose place changed are moved.
function order() {
  const isTouched = performance.now() - touchedAt < REORDER_PAUSE;
  const moving = new Set([...unplaced].filter((row) => !row.isConnected || !isTouched));
  if (!moving.size) return;
  const sorted = [...rows.values()].sort((a, b) =>
    a.dataset.rank - b.dataset.rank || compare(b.dataset.at, a.dataset.at) || compare(a.dataset.key, b.dataset.key));
  const focused = document.activeElement;
  let next = null;
  for (const row of sorted.reverse()) {
    if (moving.has(row) && !(row.isConnected && row.nextElementSibling === next)) place(row, next);
    if (row.isConnected && (moving.has(row) || !unplaced.has(row))) next = row;
  }
  for (const row of moving) unplaced.delete(row);
  if (document.activeElement !== focused) focused.focus({ preventScroll: true });
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

function place(row, next) {
  if (row.isConnected && list.moveBefore) list.moveBefore(row, next);
  else list.insertBefore(row, next);
}

// ── filter and search ──

const GROUPS = {
  failing: (row) => row.dataset.rank < 2,
  running: (row) => row.dataset.phase === "followed",
  ended: (row) => row.dataset.phase !== "followed",
};

function filter() {
  const { q, status, account } = Object.fromEntries(new FormData(form));
  const wanted = q.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (row) =>
    (!account || row.dataset.account === account) &&
    (!status || (GROUPS[status] ?? (() => row.dataset.status === status))(row)) &&
    (!wanted.length || holds(row.cells[0].textContent.toLowerCase(), wanted));
  for (const row of list.rows) row.hidden = !fits(row);
  const shown = [...list.rows].filter((row) => !row.hidden).length;
  say($("shown"), shown === rows.size ? `${number(shown)} shown` : `${number(shown)} of ${number(rows.size)} shown`);
  $("empty").hidden = shown > 0;
  if (!shown) explain(q.trim());
}

const holds = (text, wanted) => wanted.every((word) => text.includes(word));

// The page shows operations with series of their own. The API finds earlier ones too, by id.
function explain(q) {
  const empty = $("empty");
  if (!AN_ID.test(q)) return say(empty, rows.size ? "No operation matches." : "No operations are tracked at the moment.");
  if (empty.querySelector("a")?.textContent.endsWith(q)) return;
  empty.replaceChildren("It is not shown here. ", el("a", { href: `#//${q}` }, `Search for ${q}`));
}

function remember() {
  const kept = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
  history.replaceState(null, "", `${location.pathname}${kept.size ? `?${kept}` : ""}${location.hash}`);
}

function recall() {
  for (const [name, value] of new URLSearchParams(location.search))
    if (["q", "status", "account"].includes(name)) form.elements[name].value = value;
  for (const choice of form.querySelectorAll("select")) if (choice.selectedIndex < 0) choice.value = "";
  if (location.search) filter();
}

// ── accounts and sums ──

function showAccounts(accounts) {
  const table = $("accounts").tBodies[0];
  while (table.rows.length > accounts.length) table.rows[accounts.length].remove();
  while (table.rows.length < accounts.length) table.append(from("account-row"));
  accounts.forEach((one, index) => {
    const part = (kind) => table.rows[index].querySelector(kind);
    const health = part(".health span");
    health.className = one.up ? "up" : "down";
    say(part(".account bdi"), one.account);
    say(health, one.up ? "up" : one.unauthorized ? "credentials refused" : "not reached");
    say(part(".followed"), listed(one.statuses) || "nothing");
    say(part(".lag"), one.lag_seconds ? `${one.lag_seconds.toFixed(1)} s` : "on time");
    say(part(".limit"), `${one.limit_per_second.toFixed(1)} a second`);
    say(part(".finished"), listed(one.finished) || "none");
    say(part(".notified"), listed(one.notifications) || "none");
  });
  const names = accounts.map((one) => one.account), choice = form.elements.account;
  choice.parentElement.hidden = names.length < 2;
  if (names.join("\n") === [...choice.options].slice(1).map((one) => one.value).join("\n")) return;
  const chosen = choice.value;
  choice.replaceChildren(choice.options[0], ...names.map((name) => el("option", {}, name)));
  choice.value = names.includes(chosen) ? chosen : "";
}

function showSums({ stats, more, accounts }) {
  draw($("sums").querySelector("svg"), stats);
  for (const name of BAR) say($(`sum-${name}`), number(stats[name]));
  count();
  $("more").hidden = !more;
  say($("more").firstElementChild, number(more));
  const down = accounts.filter((one) => !one.up).length;
  announce([
    ...["failing", "running", "ended"].map((name) => `${$(name).textContent} ${name}`),
    ...(down ? [`${down} of ${accounts.length} accounts not up`] : []),
  ].join(", "));
}

function count() {
  for (const [name, belongs] of Object.entries(GROUPS)) say($(name), number([...rows.values()].filter(belongs).length));
  const failing = $("failing").textContent;
  $("failing").classList.toggle("some", failing !== "0");
  document.title = failing === "0" ? "Operation watcher" : `${failing} failing – Operation watcher`;
}

function announce(news) {
  if (news === announced || performance.now() - announcedAt < ANNOUNCE_EVERY) return;
  if (announced) say($("news"), news);
  [announced, announcedAt] = [news, performance.now()];
}

// ── details of one operation ──

const KINDS = {
  tracked: (e) => ["Tracking began", `source: ${e.source}`],
  untracked: (e) => ["Untracked", `source: ${e.source}`],
  moved: (e) => [`${e.from_status ?? "new"} → ${e.to_status}`, words(e.stats), e.status_word, late(e.delay_seconds)],
  failing: (e) => ["First failures", words(e.stats), unreached(e.stats)],
  finished: (e) => [`Ended: ${e.outcome}`, words(e.stats), unreached(e.stats), took(e.duration_seconds)],
  corrected: (e) => ["Stats corrected", `${words(e.before)} → ${words(e.stats)}`, unreached(e.stats)],
  odd: (e) => [`Anomaly: ${e.kind}`, e.detail],
};
const late = (seconds) => seconds === null ? "" : `known ${seconds.toFixed(1)} s later`;
const took = (seconds) => seconds === null ? "" : `took ${span(seconds)}`;
const unreached = (stats) => listed(Object.fromEntries(FAILURES.filter((name) => !BAR.includes(name)).map((name) => [name, stats[name]])));

async function loadDetails() {
  const requested = open;
  const answer = await fetch(address(requested), { cache: "no-store", signal: AbortSignal.timeout(ANSWER_TIMEOUT) });
  const found = await answer.json();
  if (open !== requested) return;
  if (answer.ok) detail(found);
  else if (seen !== found.detail) {
    seen = found.detail;
    $("details-body").replaceChildren(el("p", {}, found.detail || found.title));
  }
}

function detail(operation) {
  const { next_poll: next, ...rest } = operation;
  const text = JSON.stringify(rest);
  if (text !== seen) {
    seen = text;
    $("details-body").replaceChildren(...detailElements(operation));
  }
  const when = next?.in_seconds > 0 ? `in ${span(next.in_seconds)}` : `late by ${span(-next?.in_seconds)}`;
  say($("next-when"), next ? when : "no more polls: its stats are final");
  say($("next-how"), next?.how ?? "–");
  say($("next-why"), next?.why ?? "–");
}

const pairs = (facts) => el("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));

function detailElements(operation) {
  const { stats } = operation, svg = $("sums").querySelector("svg").cloneNode(true);
  draw(svg, stats);
  const facts = [
    ["phase", operation.phase + (operation.outcome ? `, ${operation.outcome}` : "")],
    ["upstream's word", operation.status_word ?? ""],
    ["recipients", number(stats.recipients) + (unreached(stats) && `, ${unreached(stats)}`)],
    ["account", el("bdi", {}, operation.account)],
    ["labels", el("span", { class: "labels" }, ...labels(operation))],
    ["source", operation.source],
    ...[["created", "created_at"], ["registered", "registered_at"], ["changed", "progressed_at"], ["ended", "ended_at"], ["final", "final_at"]]
      .filter(([, key]) => operation[key]).map(([name, key]) => [name, time(operation[key], local)]),
  ].filter(([, value]) => (value.textContent ?? value) !== "");
  const data = { "data-rank": rank(operation), "data-status": operation.status, "data-phase": operation.phase };
  return [
    el("p", data, el("span", { class: "status" }, operation.status)), svg, el("p", {}, words(stats)),
    el("h3", {}, "Next poll"), pairs(["when", "how", "why"].map((name) => [name, el("span", { id: `next-${name}` })])),
    el("h3", {}, "Facts"), pairs(facts),
    el("h3", {}, "History"),
    operation.history.length ? el("ol", { class: "history" }, ...operation.history.map(entry)) : el("p", {}, "No events of it are kept any more."),
  ];
}

function entry(event) {
  const kind = event.event.split(".")[1];
  const [title, ...more] = KINDS[kind]?.(event) ?? [event.event];
  const isBad = kind === "failing" || (event.stats?.failed && kind !== "moved") || BAD_ENDS.includes(event.to_status);
  return el("li", isBad ? { class: "warning" } : {}, time(event.occurred_at, local), title, el("small", {}, more.filter(Boolean).join(" · ")));
}

// The URL names the open operation (#/account/id): the link can be shared, and "back" closes the details.
function follow() {
  const [, account, id] = location.hash.match(/^#\/([^/]*)\/([^/]+)$/) ?? [];
  if (!id) return details.close();
  [open, seen] = [{ account: decodeURIComponent(account), id: decodeURIComponent(id) }, ""];
  say($("details-title"), open.id);
  $("details-json").setAttribute("href", address(open));
  $("details-body").replaceChildren(el("p", {}, "Loading …"));
  if (!details.open) details.showModal();
  $("close").focus();
  loadDetails().catch(() => say($("details-body"), "The watcher does not answer."));
}

// ── live ──

function take(overview) {
  bookmark = overview.bookmark;
  ahead = Date.parse(overview.as_of) - Date.now();
  const current = new Set(overview.whole ? overview.operations.map((one) => `${one.account}:${one.id}`) : []);
  for (const key of overview.whole ? [...rows.keys()] : overview.gone) if (!current.has(key)) drop(key);
  overview.operations.forEach(show);
  showAccounts(overview.accounts);
  order();
  filter();
  showSums(overview);
}

async function poll() {
  clearTimeout(timer);
  if (isPolling || paused || document.hidden) return;
  isPolling = true;
  try {
    const answer = await fetch(`api/v1/overview?since=${bookmark}`, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_TIMEOUT) });
    if (!answer.ok) throw new Error(answer.status);
    take(await answer.json());
    if (open) await loadDetails();
    [wait, answeredAt] = [EVERY, Date.now()];
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException)) console.error(error);
    wait = Math.min(2 * wait, SLOWEST);
  }
  isPolling = false;
  tick();
  timer = setTimeout(poll, wait);
}

function tick() {
  const isLost = wait > EVERY && !paused;
  body.classList.toggle("lost", isLost);
  body.classList.toggle("live", !isLost && !paused);
  if (isLost) announce(`No answer from the watcher`);
  say($("live"), isLost ? `No answer for ${span((Date.now() - answeredAt) / 1000)}` : paused ? "Paused" : `Live · ${new Date(now()).toLocaleTimeString()}`);
  for (const one of list.querySelectorAll("time")) say(one, ago(one.dateTime));
}

// ── input ──

for (const kind of ["pointermove", "keydown", "focusin"]) list.addEventListener(kind, () => { touchedAt = performance.now(); });

list.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const [account, id] = [link.closest("tr").dataset.account, link.textContent];
  location.hash = `#/${encodeURIComponent(account)}/${encodeURIComponent(id)}`;
});

list.addEventListener("keydown", (event) => {
  const shown = [...list.rows].filter((row) => !row.hidden), at = shown.indexOf(event.target.closest("tr"));
  const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: shown.length - 1 }[event.key];
  if (next === undefined || !shown[next]) return;
  event.preventDefault();
  shown[next].querySelector("a").focus();
});

form.addEventListener("input", () => { filter(); remember(); });
form.addEventListener("submit", (event) => event.preventDefault());
$("close").addEventListener("click", () => details.close());
details.addEventListener("click", (event) => { if (event.target === details) details.close(); });
details.addEventListener("close", () => {
  open = null;
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
});
$("pause").addEventListener("click", () => {
  paused = !paused;
  say($("pause"), paused ? "Resume" : "Pause");
  tick();
  poll();
});
addEventListener("hashchange", follow);
document.addEventListener("visibilitychange", poll);
setInterval(() => { if (!document.hidden && !paused) tick(); }, EVERY);

form.hidden = $("pause").hidden = false;
form.elements.account.parentElement.hidden = form.elements.account.options.length < 3;
say($("shown"), `${number(rows.size)} shown`);
recall(); // the first answer, which comes at once, does the rest
follow();
poll();
