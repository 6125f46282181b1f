"use strict";
// Filters and shows the changes of the plan that is in this page. Text from the plan goes into the page
// through textContent only, never as markup.
(() => {
  const $ = (id) => document.getElementById(id);
  const { changes: data, groups } = JSON.parse($("data").textContent);
  const root = document.documentElement;
  const number = new Intl.NumberFormat("en");
  const STEP = 100;

  function make(tag, name, ...children) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    element.append(...children.filter((child) => child !== ""));
    return element;
  }

  function place(text, link) {
    if (!/^https?:\/\//.test(link)) return make("span", "place", text);
    const anchor = make("a", "place", text);
    anchor.href = link;
    anchor.rel = "noopener noreferrer";
    return anchor;
  }

  // --- the theme and the clipboard ---

  const theme = $("theme");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  async function copy(element) {
    try {
      await navigator.clipboard.writeText(element.textContent);
    } catch { // no clipboard for pages from a disk, or not allowed: the old way, through a selection
      getSelection().selectAllChildren(element);
      return document.execCommand("copy");
    }
    return true;
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const said = (await copy($(button.dataset.copy))) ? "Copied" : "Selected: copy it by hand";
      button.textContent = said;
      $("copied").textContent = `${said}: ${button.dataset.title}`;
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
  }
  if (!data.length) return;

  // --- one change ---

  function fieldRow(change, field) {
    const [mark, path, before, after, basis, line, origin] = field;
    const was = make("td", "before");
    const isNew = change.action === "create" && basis === "none"; // the heading says that nothing is known
    if (before === null) was.append(make("span", "nothing", basis === "none" && !isNew ? "not known" : "—"));
    else was.append(make("del", "", make("code", "", before)));
    const now = make("td", "after");
    if (mark === "x") now.append(make("span", "nothing", "stays, no longer managed"));
    else now.append(make("ins", "", make("code", mark === "-" ? "gone" : "", after)));
    const sure = isNew ? "" : basis === "none" ? "never known" : basis;
    const unsure = basis === "none" || basis === "uncertain";
    const how = make("td", "how", make("span", unsure ? "unsure" : "", sure));
    if (line) how.append(sure && " · ", place(`line ${line}`, change.link && `${change.link.split("#")[0]}#L${line}`));
    if (origin) how.append(make("br", ""), origin);
    const head = make("th", "", make("span", "mark", mark), " ", make("code", "", path));
    head.scope = "row";
    return make("tr", "", head, was, now, how);
  }

  function body(change) {
    const told = make("p", "reason", change.fields.length ? change.reason : "");
    if (change.link) told.append(" ", place(change.place, change.link));
    const box = make("div", "body", told);
    if (change.origin) box.append(make("p", "reason", change.origin));
    if (change.hazards.length) {
      box.append(make("ul", "", ...change.hazards.map(([, message, grave]) => make("li", grave ? "grave" : "mild", message))));
    }
    if (change.fields.length) {
      const row = make("tr", "");
      for (const [text, name] of [["Field", "col-field"], ["Before", ""], ["After", ""], ["How known, where", "col-how"]]) {
        const cell = make("th", name, text);
        cell.scope = "col";
        row.append(cell);
      }
      const table = make("table", "", make("thead", "", row));
      table.append(make("tbody", "", ...change.fields.map((field) => fieldRow(change, field))));
      box.append(table);
    }
    if (change.requests.length) {
      const requests = make("details", "requests", make("summary", "", change.requests.length === 1 ? "The exact request" : `The ${change.requests.length} exact requests`));
      requests.addEventListener("toggle", () => {
        if (requests.open && requests.children.length === 1) {
          requests.append(...change.requests.map((text) => make("pre", "", text)));
        }
      });
      box.append(requests);
    }
    return box;
  }

  function head(change, ...tags) {
    const paths = change.fields.map((field) => field[1]);
    const few = paths.slice(0, 4).join(", ") + (paths.length > 4 ? ` and ${paths.length - 4} more` : "");
    const kinds = new Map(change.hazards.map(([kind, , grave]) => [kind, grave]));
    return make(
      "summary", "",
      make("span", "mark", change.symbol),
      make("code", "address", change.address),
      make("span", "action", change.action),
      make("span", "what", few || change.reason),
      ...change.labels.map((label) => make("span", "tag", label)),
      ...tags.map((tag) => make("span", "tag", tag)),
      ...(change.protect ? [make("span", "tag", "protected")] : []),
      ...[...kinds].map(([kind, grave]) => make("span", grave ? "grave" : "mild", `▲ ${kind.replaceAll("_", " ")}`)),
      make("span", "place", change.place),
    );
  }

  // What opens when it is asked for: most of ten thousand changes never are.
  function opening(summary, content) {
    const details = make("details", "", summary);
    details.addEventListener("toggle", () => {
      if (details.open && details.children.length === 1) details.append(content());
    });
    return details;
  }

  function item(change) {
    return make("li", `change ${change.action}`, opening(head(change), () => body(change)));
  }

  // The changes of a template that do the same to the same fields.
  function groupItem(members) {
    const group = groups[members[0].group];
    const profiles = `${number.format(members.length)} profiles`;
    return make("li", `change group ${group.action}`, opening(head(group, profiles), () => {
      const box = body(group);
      const list = make("ol", "list");
      const further = make("button", "", "Show more");
      further.type = "button";
      let drawn = 0;
      const draw = () => {
        list.append(...members.slice(drawn, drawn + STEP).map(item));
        drawn += STEP;
        further.hidden = drawn >= members.length;
      };
      further.addEventListener("click", draw);
      const each = opening(make("summary", "", `The ${profiles}, one by one`), () => {
        draw();
        return make("div", "", list, further);
      });
      each.className = "requests";
      box.append(each);
      return box;
    }));
  }

  function entries(changes) {
    const known = new Map();
    const rows = [];
    for (const change of changes) {
      if (change.group !== null && known.has(change.group)) known.get(change.group).push(change);
      else {
        rows.push([change]);
        if (change.group !== null) known.set(change.group, rows.at(-1));
      }
    }
    return rows;
  }

  // --- filtering ---

  for (const change of data) {
    const parts = [change.address, change.place, change.reason, change.origin, ...change.labels];
    for (const [, message] of change.hazards) parts.push(message);
    for (const field of change.fields) parts.push(field[1], field[2] ?? "", field[3], field[6]);
    change.text = parts.join("\n").toLowerCase();
  }
  const byAddress = data.slice();
  const gravest = data.slice().sort((a, b) => a.rank - b.rank);

  function tally(values) {
    const counts = new Map();
    for (const change of data) for (const value of new Set(values(change))) counts.set(value, (counts.get(value) ?? 0) + 1);
    return [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
  }

  const options = {
    label: tally((change) => change.labels),
    field: tally((change) => change.fields.map((field) => field[1])),
    hazard: tally((change) => change.hazards.map(([kind]) => kind)),
  };
  for (const [id, found] of Object.entries(options)) {
    const any = make("option", "", `any (${number.format(found.length)})`);
    any.value = "";
    $(id).append(any, ...found.map(([value, count]) => {
      const option = make("option", "", `${value} (${number.format(count)})`);
      option.value = value;
      return option;
    }));
    $(id).closest("label").hidden = !found.length;
  }
  const ORDER = ["delete", "link", "update", "adopt", "create", "rename", "forget"];
  for (const [action, count] of tally((change) => [change.action]).sort(([a], [b]) => ORDER.indexOf(a) - ORDER.indexOf(b))) {
    const box = make("input", "");
    box.type = "checkbox";
    box.name = "action";
    box.value = action;
    $("actions").append(make("label", "", box, make("span", action, action, make("b", "", number.format(count)))));
  }

  const boxes = [...document.querySelectorAll("#actions input")];
  let found = [];
  let rows = [];
  let shown = 0;

  function more() {
    $("list").append(...rows.slice(shown, shown + STEP).map((row) => (row.length > 1 ? groupItem(row) : item(row[0]))));
    shown = Math.min(rows.length, shown + STEP);
    const drawn = rows.slice(0, shown).reduce((sum, row) => sum + row.length, 0);
    $("more").hidden = shown === rows.length;
    $("more").textContent = `Show ${number.format(Math.min(STEP, rows.length - shown))} more`;
    const all = found.length === data.length ? "" : ` of ${number.format(data.length)}`;
    const noun = data.length === 1 ? "change" : "changes";
    $("status").textContent = found.length
      ? `${number.format(found.length)}${all} ${noun}${drawn < found.length ? `, ${number.format(drawn)} shown` : ""}`
      : `No change matches; there are ${number.format(data.length)}.`;
  }

  function filter() {
    const words = $("q").value.toLowerCase().split(/\s+/).filter(Boolean);
    const actions = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const { label, field, hazard, order } = Object.fromEntries(["label", "field", "hazard", "order"].map((id) => [id, $(id).value]));
    found = (order ? byAddress : gravest).filter((change) =>
      (!actions.size || actions.has(change.action)) &&
      (!label || change.labels.includes(label)) &&
      (!hazard || change.hazards.some(([kind]) => kind === hazard)) &&
      (!field || change.fields.some((entry) => entry[1] === field)) &&
      words.every((word) => change.text.includes(word)));
    rows = entries(found);
    shown = 0;
    $("list").replaceChildren();
    more();
    const state = new URLSearchParams();
    if ($("q").value) state.set("q", $("q").value);
    for (const action of actions) state.append("action", action);
    for (const [id, value] of Object.entries({ label, field, hazard, order })) if (value) state.set(id, value);
    $("reset").hidden = !state.size;
    if (state.toString() !== location.hash.slice(1)) history.replaceState(null, "", `#${state}`);
  }

  function restore() {
    const state = new URLSearchParams(location.hash.slice(1));
    $("q").value = state.get("q") ?? "";
    for (const box of boxes) box.checked = state.getAll("action").includes(box.value);
    for (const id of ["label", "field", "hazard", "order"]) {
      $(id).value = state.get(id) ?? "";
      if ($(id).selectedIndex < 0) $(id).value = "";
    }
  }

  function reset() {
    $("q").value = "";
    for (const box of boxes) box.checked = false;
    for (const id of ["label", "field", "hazard", "order"]) $(id).value = "";
    filter();
  }

  $("filters").hidden = false;
  $("open").hidden = false;
  $("keys").hidden = false;
  $("ordering").hidden = false;
  $("order").addEventListener("input", filter);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("input", filter);
  $("reset").addEventListener("click", () => { reset(); $("q").focus(); });
  $("more").addEventListener("click", () => {
    const next = shown;
    more();
    $("list").children[next]?.querySelector("summary").focus();
  });
  $("open").addEventListener("click", () => {
    const list = [...document.querySelectorAll("#list > li > details")];
    const open = list.some((details) => !details.open);
    for (const details of list) details.open = open;
    $("open").textContent = open ? "Close all shown" : "Open all shown";
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      $("q").focus();
    } else if (event.key === "Escape" && $("filters").contains(event.target)) {
      reset();
    }
  });
  addEventListener("hashchange", () => { restore(); filter(); });
  addEventListener("beforeprint", () => { while (shown < rows.length) more(); });
  restore();
  filter();
  if (data.length === 1) document.querySelector("#list details").open = true;
})();
