"""The pipeline one would write in an afternoon: Flask, one row and one Celery message per event."""

QUEUE = "yangfan_bench_naive"
