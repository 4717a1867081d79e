// Fields that may be filled from what is there: an ARIA combobox over the offers of the page.
// Without it the same fields have the browser's own list.
(() => {
  const SHOWN = 60;
  let data = null, list = null, field = null, options = [], at = -1;

  const words = () => document.getElementById("editor-words")?.dataset || {};
  const part = (className, text) => {
    const made = document.createElement("span");
    made.className = className;
    made.textContent = text;
    return made;
  };

  function read() {
    const source = document.getElementById("picker-data");
    data = source ? JSON.parse(source.textContent) : null;
  }

  function enhance(root = document) {
    read();
    if (!data) return;
    for (const input of root.querySelectorAll("input[data-picker]")) {
      input.removeAttribute("list");
      input.setAttribute("role", "combobox");
      input.setAttribute("aria-autocomplete", "list");
      input.setAttribute("aria-expanded", "false");
      input.setAttribute("aria-haspopup", "listbox");
    }
  }

  // --- what is offered for a field
  function offersOf(input) {
    const listed = document.querySelector(`script[data-offers="${input.dataset.picker}"]`);
    return listed ? JSON.parse(listed.textContent).map((key) => data.pool[key]).filter(Boolean) : [];
  }

  function verdict(offer, input) {
    const wanted = `${input.dataset.kind || "any"}:${input.dataset.format || ""}`;
    return data.fits[`${offer.kind}:${offer.format}->${wanted}`] || { ok: true, wrap: "", why: "" };
  }

  const fits = (offer, asked) => {
    const where = `${offer.words} ${offer.origin.toLowerCase()}`;
    return asked.split(/\s+/).every((part) => where.includes(part));
  };

  // what is searched for: inside ${…} what stands there, else all that was typed if a field is
  // called so, else the last word, so that a field can be put into a sentence
  function token(input, offers) {
    const before = input.value.slice(0, input.selectionStart ?? input.value.length);
    const open = before.lastIndexOf("${");
    if (open >= 0 && !before.slice(open).includes("}")) return { text: before.slice(open + 2), from: open };
    if (before.endsWith("}")) return { text: "", from: before.length };
    const all = before.trim().toLowerCase();
    if (open < 0 && all && offers.some((one) => fits(one, all))) return { text: before.trim(), from: 0 };
    const word = /[^\s，。；：、,;:}]*$/.exec(before)[0];
    return { text: word, from: before.length - word.length };
  }

  function found(input) {
    const offers = offersOf(input);
    const whole = /^\$\{[^}]*\}$/.test(input.value);
    const asked = whole || input.dataset.all ? "" : token(input, offers).text.toLowerCase();
    const each = (offer) => data.each[`${input.dataset.picker}|${input.dataset.target}|${offer.expression}`];
    return offers
      .filter((offer) => fits(offer, asked))
      .map((offer) => ({ ...offer, ...verdict(offer, input), each: each(offer) }))
      .sort((a, b) => (b.ok - a.ok) || (Boolean(b.each) - Boolean(a.each)) || (b.has - a.has) || (Boolean(b.sample) - Boolean(a.sample)))
      .slice(0, SHOWN);
  }

  // --- the list
  function listbox() {
    if (list?.isConnected) return list;
    list = document.createElement("ul");
    list.id = "picker-list";
    list.className = "yf-picker";
    list.setAttribute("role", "listbox");
    list.hidden = true;
    list.addEventListener("mousedown", (event) => event.preventDefault());
    list.addEventListener("click", (event) => {
      const item = event.target.closest("[role=option]");
      if (item) take(Number(item.dataset.at));
    });
    document.body.append(list);
    const said = document.createElement("p");
    said.id = "picker-said";
    said.className = "visually-hidden";
    said.setAttribute("role", "status");
    document.body.append(said);
    return list;
  }

  function draw(item, number) {
    const line = document.createElement("li");
    line.id = `picker-${number}`;
    line.dataset.at = number;
    line.setAttribute("role", "option");
    line.setAttribute("aria-selected", "false");
    if (!item.ok) line.setAttribute("aria-disabled", "true");
    const head = part("yf-picker-head", "");
    head.append(part("yf-picker-title", item.title), part("yf-picker-kind", item.kind_title));
    const more = part("yf-picker-more", "");
    more.append(part("yf-picker-origin", item.origin), part("yf-picker-path", item.path));
    const value = item.ok ? item.sample || (item.has ? "" : words().noValue) : item.why;
    line.append(head, more);
    if (value) line.append(part(!item.ok ? "yf-picker-why" : item.sample ? "yf-picker-value" : "yf-picker-more", value));
    if (item.ok && item.wrap) line.append(part("yf-picker-each", words().turned));
    if (item.each) line.append(part("yf-picker-each", words().each));
    return line;
  }

  function open(input) {
    if (!data) return;
    field = input;
    options = found(input);
    const box = listbox();
    box.replaceChildren(...options.map(draw));
    if (!options.length) {
      const none = document.createElement("li");
      none.className = "yf-picker-none";
      none.setAttribute("role", "option");
      none.setAttribute("aria-disabled", "true");
      none.textContent = words().none || "";
      box.append(none);
    }
    box.setAttribute("aria-label", input.labels?.[0]?.textContent || "");
    box.hidden = false;
    place();
    input.setAttribute("aria-expanded", "true");
    input.setAttribute("aria-controls", "picker-list");
    point(-1);
    document.getElementById("picker-said").textContent = `${options.filter((one) => one.ok).length} ${words().count || ""}`;
  }

  function place() {
    if (!field || !list || list.hidden) return;
    const box = field.getBoundingClientRect();
    const room = window.innerHeight - box.bottom;
    const height = Math.min(340, Math.max(room, box.top) - 16);
    list.style.maxHeight = `${height}px`;
    list.style.width = `${Math.min(Math.max(box.width, 320), window.innerWidth - 16)}px`;
    list.style.left = `${Math.max(8, Math.min(box.left, window.innerWidth - list.offsetWidth - 8))}px`;
    list.style.top = room >= Math.min(height, 220) ? `${box.bottom + 4}px` : `${Math.max(8, box.top - list.offsetHeight - 4)}px`;
  }

  function close() {
    if (!field) return;
    field.setAttribute("aria-expanded", "false");
    field.removeAttribute("aria-activedescendant");
    delete field.dataset.all;
    list.hidden = true;
    field = null;
    at = -1;
  }

  function point(number) {
    at = number;
    for (const line of list.querySelectorAll("[role=option]")) {
      const here = Number(line.dataset.at) === number;
      line.setAttribute("aria-selected", String(here));
      if (here) line.scrollIntoView({ block: "nearest" });
    }
    if (number >= 0) field.setAttribute("aria-activedescendant", `picker-${number}`);
    else field.removeAttribute("aria-activedescendant");
  }

  function move(by) {
    const able = options.map((one, number) => (one.ok ? number : -1)).filter((number) => number >= 0);
    if (!able.length) return;
    const now = able.indexOf(at);
    point(able[now < 0 ? (by > 0 ? 0 : able.length - 1) : (now + by + able.length) % able.length]);
  }

  function take(number) {
    const item = options[number], input = field;
    if (!item || !item.ok || !input) return;
    const inner = item.expression.slice(2, -1);
    const expression = item.wrap ? `\${${item.wrap}(${inner})}` : item.expression;
    close();
    if (item.each) return takeEach(input, item.each);
    const piece = token(input, offersOf(input));
    const start = input.selectionStart ?? input.value.length;
    const whole = !input.value || /^\$\{[^}]*\}$/.test(input.value) || (piece.from === 0 && start === input.value.length);
    const left = input.value.slice(0, piece.from), right = input.value.slice(start).replace(/^[^${}]*\}/, "");
    input.value = whole ? expression : `${left}${expression}${right}`;
    input.focus();
    const caret = whole ? expression.length : left.length + expression.length;
    input.setSelectionRange(caret, caret);
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }

  // a list is taken over item by item: that is more than a line of text
  function takeEach(input, source) {
    const area = document.createElement("textarea");
    area.name = input.name;
    area.id = input.id;
    area.className = "form-control font-monospace";
    area.spellcheck = false;
    area.rows = Math.min(source.split("\n").length, 12);
    area.value = source;
    const how = input.closest("[data-row]")?.querySelector("select[name$='.how']");
    if (how) how.value = "yaml";
    input.replaceWith(area);
    area.focus();
    (how || area).dispatchEvent(new Event("change", { bubbles: true }));
  }

  // --- keys and clicks
  const picking = (event) => event.target.closest?.("input[data-picker]");
  document.addEventListener("input", (event) => { if (picking(event)) { delete event.target.dataset.all; open(event.target); } });
  document.addEventListener("click", (event) => {
    const input = picking(event);
    if (input) { input.dataset.all = "1"; open(input); } else if (field && !event.target.closest("#picker-list")) close();
  });
  document.addEventListener("focusout", (event) => { if (event.target === field) close(); });
  document.addEventListener("keydown", (event) => {
    const input = picking(event);
    if (!input || event.isComposing) return;
    const is = field === input;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!is) { input.dataset.all = "1"; open(input); }
      move(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Enter" && is && at >= 0) {
      event.preventDefault();
      take(at);
    } else if (event.key === "Escape" && is) {
      event.preventDefault();
      event.stopPropagation();
      close();
    }
  });
  window.addEventListener("scroll", place, true);
  window.addEventListener("resize", place);

  // --- a mistake in the list on top leads to its field
  document.addEventListener("click", (event) => {
    const link = event.target.closest("form[data-editor=list] a[data-field]");
    const wanted = link && document.getElementById(link.dataset.field);
    if (!wanted) return;
    event.preventDefault();
    wanted.scrollIntoView({ block: "center" });
    wanted.focus();
  });

  // --- a pasted sample stays with the browser until its window is closed
  document.addEventListener("change", (event) => {
    if (!event.target.matches("[data-pasted]")) return;
    try { sessionStorage.setItem(`yf-sample-${event.target.dataset.pasted}`, event.target.value); } catch { /* private mode */ }
  });

  function remember() {
    const area = document.querySelector("[data-pasted]");
    if (!area || area.value) return;
    try { area.value = sessionStorage.getItem(`yf-sample-${area.dataset.pasted}`) || ""; } catch { /* private mode */ }
  }

  window.yangfanPicker = { enhance, close, remember };
  const start = () => { enhance(); remember(); };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
