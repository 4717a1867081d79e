// What xyflow's build asks of React beside React itself: its runtime for JSX, in React's own words.
window.jsxRuntime = (() => {
  const jsx = (type, props, key) =>
    window.React.createElement(type, key === undefined ? props : { ...props, key });
  return { jsx, jsxs: jsx, Fragment: window.React.Fragment };
})();
