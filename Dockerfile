# The gateway, with SQLite in /data unless GATEWAY_DATABASE names a PostgreSQL database.
#   docker build -t yjs-gateway . && docker run -p 8000:8000 -v files:/data yjs-gateway
# Outside of loopback requests need a credential: the log of the first start has a token of scope admin.

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY gateway gateway
COPY storage storage
COPY yjs_gateway yjs_gateway
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir ".[postgres,graphql,mcp]"

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /data gateway && install -d -o gateway -g gateway /data
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
ENV GATEWAY_HOST=0.0.0.0 GATEWAY_PORT=8000 GATEWAY_DATABASE=sqlite:////data/yjs-gateway.db
USER gateway
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"GATEWAY_PORT\"]}/readyz', timeout=2)"]
# The gateway answers what it has accepted before it ends, within GATEWAY_SHUTDOWN_SECONDS.
STOPSIGNAL SIGTERM
CMD ["yjs-gateway", "serve"]
