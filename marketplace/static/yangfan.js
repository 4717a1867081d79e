// Small behaviours of every page. No page needs them to be usable, apart from copying.
(() => {
  const body = () => document.body;
  const stored = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
  const store = (key, value) => { try { localStorage.setItem(key, value); } catch { /* private mode */ } };

  // --- a page that answers a form: loading it again must look, not send the form once more
  const here = document.querySelector('meta[name="yf-here"]');
  if (here) history.replaceState(history.state, "", here.content);

  // --- toasts: window.yangfan.toast("Saved", "good"); server: HX-Trigger: {"toast": {"text": …, "tone": …}}
  function toast(text, tone = "good") {
    const area = document.getElementById("toasts");
    if (!area || !text) return;
    const note = document.createElement("div");
    note.className = `yf-toast yf-${tone}`;
    const words = document.createElement("span");
    words.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "btn-close";
    close.setAttribute("aria-label", body().dataset.close || "Close");
    close.addEventListener("click", () => note.remove());
    note.append(words, close);
    area.append(note);
    if (tone !== "bad") setTimeout(() => note.remove(), 6000);
  }
  document.addEventListener("toast", (event) => {
    const said = event.detail?.text ?? event.detail?.value ?? event.detail;
    toast(typeof said === "string" ? said : "", event.detail?.tone);
  });

  // --- questions before a deed: data-confirm on a submit button or form, hx-confirm for htmx
  function ask(text) {
    const dialog = document.getElementById("confirm");
    if (!dialog?.showModal) return Promise.resolve(window.confirm(text));
    dialog.querySelector("#confirm-text").textContent = text;
    dialog.returnValue = "no";
    dialog.showModal();
    return new Promise((answer) => {
      dialog.addEventListener("close", () => answer(dialog.returnValue === "yes"), { once: true });
    });
  }
  document.addEventListener("submit", (event) => {
    const form = event.target;
    const question = event.submitter?.dataset.confirm || form.dataset.confirm;
    if (!question || form.dataset.confirmed) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    ask(question).then((yes) => {
      if (!yes) return;
      form.dataset.confirmed = "yes";
      form.requestSubmit(event.submitter || undefined);
      delete form.dataset.confirmed;
    });
  }, true);
  document.addEventListener("htmx:confirm", (event) => {
    const question = event.detail.ctx?.confirm;
    if (!question) return;
    event.preventDefault();
    ask(question).then((yes) => (yes ? event.detail.issueRequest() : event.detail.dropRequest()));
  });

  // --- copying
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const field = document.createElement("textarea");
      field.value = text;
      field.className = "visually-hidden";
      body().append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
    toast(body().dataset.copied);
  }

  document.addEventListener("click", (event) => {
    const copier = event.target.closest("[data-copy], [data-copy-next]");
    if (copier) {
      copy(copier.dataset.copy ?? copier.nextElementSibling.textContent);
    } else if (event.target.closest("[data-theme-toggle]")) {
      window.yangfanTheme(document.documentElement.dataset.bsTheme === "dark" ? "light" : "dark");
    } else if (event.target.closest("[data-print]")) {
      window.print();
    }
  });

  // --- "/" goes to the search field; people may switch that off
  const shortcutOn = () => stored("yangfan-shortcut") !== "off";
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || !shortcutOn()) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    const field = document.querySelector("[data-search-main]");
    if (!field || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    field.focus();
    field.select();
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-shortcut-switch]")) {
      store("yangfan-shortcut", event.target.checked ? "on" : "off");
      showSwitches(document);
    } else if (event.target.matches("[data-submit-on-change]")) {
      event.target.form.requestSubmit();
    }
  });

  // --- times: "5 minutes ago", renewed each half minute
  const UNITS = [["year", 31536e3], ["month", 2592e3], ["week", 604800], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  function ago(moment, words) {
    const seconds = (moment - Date.now()) / 1000;
    const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) || UNITS.at(-1);
    return words.format(Math.round(seconds / size), unit);
  }
  function showTimes(root) {
    const language = document.documentElement.lang.startsWith("zh") ? "zh-CN" : "en";
    const words = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
    for (const time of root.querySelectorAll("time[data-relative]")) {
      time.textContent = ago(new Date(time.dateTime), words);
    }
  }

  function showSwitches(root) {
    for (const toggle of root.querySelectorAll("[data-theme-toggle]")) toggle.hidden = false;
    for (const box of root.querySelectorAll("[data-shortcut-switch]")) box.checked = shortcutOn();
    for (const hint of root.querySelectorAll("[data-shortcut-hint]")) hint.hidden = !shortcutOn();
  }

  // --- after htmx puts something new in place: move focus to what asks for it. Only a swap that
  // a person caused carries [data-focus] or replaces the whole content; polling never moves focus.
  document.addEventListener("htmx:after:swap", (event) => {
    const target = event.detail.ctx?.target || event.target;
    const root = target instanceof Element && target.isConnected ? target : document;
    showTimes(document);
    showSwitches(document);
    const wanted = root.querySelector?.("[data-focus]") || (root.id === "main" ? root.querySelector("h1, h2") : null);
    if (!wanted) return;
    if (!wanted.hasAttribute("tabindex")) wanted.setAttribute("tabindex", "-1");
    wanted.focus();
  });
  document.addEventListener("htmx:error", (event) => {
    if (event.detail.error) toast(body().dataset.offline, "bad");
  });

  function start() {
    showTimes(document);
    showSwitches(document);
    setInterval(() => showTimes(document), 30000);
    // on a phone the tab one is on may lie beyond the edge of the row
    document.querySelector(".yf-tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
    document.querySelector("[role=alert][data-focus]")?.focus();
  }
  window.yangfan = { toast, ask, copy };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
