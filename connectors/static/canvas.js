// The canvas of a flow: boxes and lines by xyflow, one step's form beside them. The server says what
// there is, where it stands and how the sample goes; this draws it, walks about in it and sends forms.
(() => {
  const { createElement: h, useEffect, useState } = window.React;
  const { ReactFlow, ReactFlowProvider, Handle, Position, Background, useReactFlow } = window.ReactFlow;
  const frame = document.getElementById("canvas");
  const say = frame.dataset;
  const here = document.getElementById("panel-form").action;
  let picture = null, tell = () => {}, flow = null, last = Promise.resolve();

  const studio = () => document.getElementById("studio");
  const form = () => document.getElementById("panel-form");
  const icon = (name) => h("svg", { className: "icon", "aria-hidden": true, focusable: "false" },
    h("use", { href: `${say.sprite}#${name}` }));
  // what cannot be told by an app's picture is told by the sign its kind has in the list of kinds
  const signOf = (kind) => document.querySelector(`#add-step button[value="${kind}"] use`)?.getAttribute("href");
  const read = () => JSON.parse(document.getElementById("canvas-data").textContent);

  // --- boxes
  const TONES = { succeeded: "good", failed: "bad", skipped: "quiet", not_reached: "quiet" };
  const ICONS = { good: "circle-check", bad: "circle-x", quiet: "circle-dashed", warn: "alert-triangle" };

  function Plus({ data, name }) {
    if (data.add === null || data.add === undefined) return null;
    return h("button", {
      type: "button", className: "yf-plus nodrag", tabIndex: data.isHere ? 0 : -1,
      "aria-label": `${say.add} ${data.title || ""}`, title: say.add, "data-plus": name,
      onClick: (event) => { event.stopPropagation(); add(data.add); },
    }, icon("plus"));
  }

  function Step({ id, data }) {
    const tone = data.mistakes?.length ? "warn" : TONES[data.state] || "quiet";
    const told = data.mistakes?.[0] || data.say || data.out || data.into || data.note || "";
    const mark = data.icon ? h("img", { className: "yf-mark yf-mark-sm", src: data.icon, alt: "" })
      : h("span", { className: "yf-mark yf-mark-sm", "aria-hidden": true },
        data.kind && signOf(data.kind) ? h("svg", { className: "icon" }, h("use", { href: signOf(data.kind) })) : (data.app || "?").slice(0, 1));
    return h("div", { className: `yf-box yf-${tone}${data.isHere ? " yf-box-here" : ""}` },
      h(Handle, { type: "target", position: Position.Top, isConnectable: false }),
      h("button", {
        type: "button", className: "yf-box-button", "data-node": id, tabIndex: data.isFocus ? 0 : -1,
        "aria-current": data.isHere ? "true" : undefined, disabled: data.about === null,
        onClick: () => show(data.about), onFocus: () => focused(id), onKeyDown: (event) => key(event, data),
      },
      h("span", { className: "yf-box-head" }, mark,
        h("span", { className: "yf-box-words" }, h("span", { className: "yf-box-app" }, data.app), h("strong", null, data.title)),
        data.state || data.mistakes?.length ? h("span", { className: "yf-box-state" }, icon(ICONS[tone]),
          h("span", { className: "visually-hidden" }, say[`tone${data.state === "not_reached" && tone === "quiet" ? "Off" : tone}`])) : null),
      h("span", { className: "yf-box-told" },
        data.isSample && told === data.out ? h("span", { className: "yf-box-sample" }, say.sampleShort) : null, told)),
      h(Plus, { data, name: id }),
      h(Handle, { type: "source", position: Position.Bottom, isConnectable: false }),
      h(Handle, { type: "source", id: "side", position: Position.Right, isConnectable: false }));
  }

  const Into = ({ id, data }) => h("div", { className: `yf-into yf-into-${data.shape}` },
    h(Handle, { type: "target", position: Position.Top, isConnectable: false }),
    h(Handle, { type: "target", id: "side", position: Position.Left, isConnectable: false }),
    h("span", { className: "yf-into-title" }, data.title),
    data.add ? h("button", {
      type: "button", className: "yf-into-add", "data-node": id, tabIndex: data.isFocus ? 0 : -1,
      "aria-label": `${say.add} ${data.title}`, title: say.add, onFocus: () => focused(id),
      onClick: () => add(data.add), onKeyDown: (event) => key(event, data),
    }, icon("plus")) : null,
    h(Handle, { type: "source", position: Position.Bottom, isConnectable: false }));
  const Frame = () => h("div", { className: "yf-frame-box" });
  const End = () => h("div", { className: "yf-end" },
    h(Handle, { type: "target", position: Position.Top, isConnectable: false }), say.end);
  const nodeTypes = { step: Step, trigger: Step, into: Into, frame: Frame, end: End };

  // --- from the server's picture to xyflow's
  function drawn(made, focus) {
    const kinds = Object.fromEntries(made.nodes.map((one) => [one.id, one.type]));
    const nodes = made.nodes.map((one) => ({
      id: one.id, type: one.type, position: { x: one.x, y: one.y }, width: one.w, height: one.h,
      draggable: false, selectable: false, focusable: false, connectable: false,
      zIndex: one.type === "frame" ? -1 : 0,
      data: { ...one, isSample: one.is_sample, isHere: one.about === made.chosen, isFocus: one.id === focus },
    }));
    const edges = made.edges.map((one) => {
      const leaves = one.type === "side" && kinds[one.from] === "step" && kinds[one.to] === "into";
      return {
        id: one.id, source: one.from, target: one.to, type: "smoothstep", focusable: false, selectable: false,
        className: `yf-line-${one.type}`, sourceHandle: leaves ? "side" : null, targetHandle: leaves ? "side" : null,
        markerEnd: { type: "arrowclosed", width: 16, height: 16 },
      };
    });
    return { nodes, edges };
  }

  function App() {
    const [state, setState] = useState({ picture, focus: nodeOf(picture.chosen) });
    useEffect(() => { tell = (more) => setState((before) => ({ ...before, ...more })); }, []);
    const made = drawn(state.picture, state.focus);
    return h(ReactFlow, {
      nodes: made.nodes, edges: made.edges, nodeTypes, nodesDraggable: false, nodesConnectable: false,
      nodesFocusable: false, edgesFocusable: false, elementsSelectable: false, disableKeyboardA11y: true,
      panOnScroll: true, zoomOnDoubleClick: false, minZoom: 0.2, maxZoom: 1.5, deleteKeyCode: null,
      onInit: (instance) => { flow = instance; fit(); },
    }, h(Background, { gap: 24, size: 1 }), h(Tools));
  }

  function Tools() {
    const { zoomIn, zoomOut } = useReactFlow();
    const tool = (name, text, act) => h("button", { type: "button", className: "btn btn-sm", "aria-label": text, title: text, onClick: act }, icon(name));
    return h("div", { className: "yf-canvas-tools", role: "group", "aria-label": say.tools },
      tool("zoom-in", say.zoomIn, () => zoomIn()), tool("zoom-out", say.zoomOut, () => zoomOut()),
      tool("arrows-maximize", say.fit, () => flow.fitView({ padding: 0.1, maxZoom: 1 })));
  }

  // as large as can be read, from the top; a tall flow is walked through rather than shrunk
  function fit() {
    const boxes = picture.nodes;
    const left = Math.min(...boxes.map((one) => one.x)), right = Math.max(...boxes.map((one) => one.x + one.w));
    const high = Math.max(...boxes.map((one) => one.y + one.h)), pane = frame.getBoundingClientRect();
    const zoom = Math.max(0.6, Math.min(1, (pane.width - 40) / (right - left), (pane.height - 40) / high));
    const wide = (right - left) * zoom <= pane.width;
    const x = wide ? pane.width / 2 - ((left + right) / 2) * zoom : pane.width / 2;
    flow.setViewport({ x, y: Math.max(16, Math.min(40, (pane.height - high * zoom) / 2)), zoom });
  }

  // --- walking about
  const nodeOf = (about) => (picture.nodes.find((one) => one.about === about) || picture.nodes[0]).id;
  const buttonOf = (id) => frame.querySelector(`[data-node="${CSS.escape(id)}"]`);

  function focused(id) {
    tell({ focus: id });
    const box = picture.nodes.find((one) => one.id === id);
    if (!box || !flow) return;
    const { x, y, zoom } = flow.getViewport(), pane = frame.getBoundingClientRect();
    const left = box.x * zoom + x, top = box.y * zoom + y;
    const isIn = left >= 0 && top >= 0 && left + box.w * zoom <= pane.width && top + box.h * zoom <= pane.height;
    if (!isIn) flow.setCenter(box.x + box.w / 2, box.y + box.h / 2, { zoom, duration: 150 });
  }

  // down and up follow the lines, of several the leftmost; left and right go to what is nearest there
  function go(from, key) {
    const all = picture.nodes.filter((one) => buttonOf(one.id));
    const me = picture.nodes.find((one) => one.id === from);
    const lines = picture.edges.filter((one) => one.type === "flow");
    const along = key === "ArrowDown" ? lines.filter((one) => one.from === from).map((one) => one.to)
      : key === "ArrowUp" ? lines.filter((one) => one.to === from).map((one) => one.from) : [];
    const linked = all.filter((one) => along.includes(one.id)).sort((a, b) => a.x - b.x);
    const best = linked[0] || nearest(me, all, key);
    if (best) buttonOf(best.id).focus({ preventScroll: true });
  }

  function nearest(me, all, key) {
    const middle = (one) => [one.x + one.w / 2, one.y + one.h / 2];
    const [x, y] = middle(me);
    const ahead = { ArrowDown: [0, 1], ArrowUp: [0, -1], ArrowRight: [1, 0], ArrowLeft: [-1, 0] }[key];
    let best = null, least = Infinity;
    for (const one of all) {
      const dx = middle(one)[0] - x, dy = middle(one)[1] - y;
      const along = dx * ahead[0] + dy * ahead[1], across = Math.abs(dx * ahead[1]) + Math.abs(dy * ahead[0]);
      if (along > 1 && along + 2 * across < least) { least = along + 2 * across; best = one; }
    }
    return best;
  }

  async function key(event, data) {
    const number = data.about;
    const isStep = number !== undefined && number !== null && number !== "trigger";
    if (event.altKey && isStep && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      await send(`${event.key === "ArrowUp" ? "up" : "down"}:${number}`, { about: "", focus: true });
    } else if (event.key.startsWith("Arrow")) {
      event.preventDefault();
      go(data.id, event.key);
    } else if (event.key === "Delete" && isStep) {
      event.preventDefault();
      if (await window.yangfan.ask(say.askRemove)) await send(`remove:${number}`, { about: "", focus: true });
    } else if ((event.key === "+" || event.key === "Insert") && data.add) {
      event.preventDefault();
      add(data.add);
    } else if (event.key === "Enter" && number !== undefined && number !== null) {
      event.preventDefault();
      await show(number);
      studio().querySelector("[data-panel-title]")?.focus();
    }
  }

  // --- adding: which kind is asked in a dialog
  const dialog = document.getElementById("add-step");
  let place = "";
  function add(where) {
    place = where;
    dialog.returnValue = "";
    dialog.showModal();
  }
  dialog.addEventListener("close", async () => {
    if (!dialog.returnValue) return;
    await send(`add:${dialog.returnValue}@${place}`, { focus: true });
    studio().querySelector("select, input:not([type=hidden]), textarea")?.focus();
  });

  // --- talking to the server: one thing at a time, each with the newest revision
  let waiting = 0;
  function queued(work) {
    waiting += 1;
    last = last.then(work).catch(() => window.yangfan.toast(document.body.dataset.offline, "bad"))
      .finally(() => { waiting -= 1; });
    return last;
  }

  function fields(deed, about, shown) {
    const body = new FormData(form());
    body.set("do", deed);
    body.set("part", "1");
    // a deed to another step than the panel's leaves the panel's fields alone
    if (about !== undefined) body.set("about", about);
    if (shown) body.set("show", shown);
    return body;
  }

  function send(deed, { about, redraw = true, show: shown = "", focus = false } = {}) {
    // what is saved is what stood there when it was changed, whatever is typed meanwhile
    const kept = deed === "save" && !shown ? fields(deed, about, shown) : null;
    return queued(async () => {
      const body = kept || fields(deed, about, shown);
      body.set("revision", form().elements.revision.value);
      await take(await fetch(here, { method: "POST", body, keepalive: true, headers: { Accept: "text/html" } }), redraw, focus);
    });
  }

  function show(about) {
    if (about === null || about === undefined) return last;
    if (document.getElementById("studio-pasted")) return send("save", { about: "", show: about });
    return queued(async () => {
      const asked = new URLSearchParams({ part: "1", about });
      const sample = form().elements.sample?.value;
      if (sample) asked.set("sample", sample);
      await take(await fetch(`${here}?${asked}`, { headers: { Accept: "text/html" } }), true, false, window.innerWidth < 992);
    });
  }

  async function take(answer, redraw, focus, seen = false) {
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("studio");
    if (!fresh) return void location.reload(); // signed out, or the flow is gone: the page says which
    const held = document.activeElement?.id;
    if (waiting > 1 && answer.status < 400) { // more is on its way: what was chosen meanwhile stays
      form().elements.revision.value = JSON.parse(fresh.querySelector("#canvas-data").textContent).revision;
      return;
    }
    if (redraw || answer.status >= 400) {
      studio().replaceWith(document.adoptNode(fresh));
      if (held && studio().contains(document.getElementById(held))) document.getElementById(held).focus();
    } else {
      for (const id of ["canvas-data", "picker-data", "studio-live", "studio-told", "panel-outcome", "panel-proposals"]) {
        const now = document.getElementById(id), then = fresh.querySelector(`#${id}`);
        if (now && then) now.replaceWith(document.adoptNode(then));
      }
      for (const note of fresh.querySelectorAll("[data-note]")) {
        const now = studio().querySelector(`[data-note="${note.dataset.note}"]`);
        now?.replaceChildren(...note.childNodes);
        now?.closest("[data-row]")?.classList.toggle("yf-row-wrong", now.childElementCount > 0);
      }
      form().elements.revision.value = read().revision;
    }
    window.yangfanPicker.enhance(studio());
    window.yangfanPicker.remember();
    picture = read();
    tell({ picture, focus: nodeOf(picture.chosen) });
    // on a narrow screen the panel lies below the picture
    if (seen) document.querySelector("[data-panel-title]")?.scrollIntoView({ block: "start" });
    if (focus) requestAnimationFrame(() => buttonOf(nodeOf(picture.chosen))?.focus({ preventScroll: true }));
  }

  document.addEventListener("change", (event) => {
    if (event.target.form !== form() || event.target.name === "name" && !event.target.value) return;
    send("save", { redraw: event.target.dataset.redraws !== undefined });
  });
  document.addEventListener("submit", (event) => {
    if (event.target !== form()) return;
    const deed = event.submitter?.value || "save";
    if (deed === "try" || deed === "publish") {
      if (!waiting) return;
      // what was typed last is on its way: the page is left when it has arrived
      event.preventDefault();
      last.then(() => form().requestSubmit(form().querySelector(`button[name=do][value=${deed}]`)));
      return;
    }
    event.preventDefault();
    send(deed);
  });
  document.addEventListener("click", async (event) => {
    const link = event.target.closest("#studio a[data-goes-to]");
    if (!link) return;
    event.preventDefault();
    const field = link.dataset.field;
    await show(link.dataset.goesTo);
    (document.getElementById(field) || studio().querySelector("[data-panel-title]"))?.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || dialog.open || event.defaultPrevented || !form().contains(event.target)) return;
    buttonOf(nodeOf(picture.chosen))?.focus({ preventScroll: true });
  });

  picture = read();
  window.ReactDOM.createRoot(frame).render(h(ReactFlowProvider, null, h(App)));
  frame.dataset.ready = "yes";
  const asked = /^#step-(\d+)$/.exec(location.hash);
  if (asked) show(asked[1]);
  window.yangfanCanvas = { idle: () => last };
})();
