FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /hub
COPY . .
RUN make setup
ENV PATH="/hub/.venv/bin:$PATH"
CMD ["yangfan", "up"]
