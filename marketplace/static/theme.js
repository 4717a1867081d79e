// Sets light or dark before the first paint. The person's choice wins over the system's.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try { return localStorage.getItem("yangfan-theme"); } catch { return null; }
  };
  const show = () => {
    root.dataset.bsTheme = chosen() || (system.matches ? "dark" : "light");
  };
  show();
  system.addEventListener("change", show);
  window.yangfanTheme = (next) => {
    try { localStorage.setItem("yangfan-theme", next); } catch { /* private mode: this page only */ }
    root.dataset.bsTheme = next;
  };
})();
