"""The questions the bench asks, one module each; `run(bench)` returns named figures."""
